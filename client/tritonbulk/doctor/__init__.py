"""Doctor: what stands in the way of a run, found before it, each with its fix.

`finding` is what is found; `model` judges a configuration (pure); `servers`, `output` and `machine`
look. Nothing is changed but for probe objects, which are removed.
"""

from __future__ import annotations

import asyncio

from tritonbulk.access import PLAIN, Access
from tritonbulk.doctor.finding import Finding, Level, worst
from tritonbulk.doctor.machine import look_at_machine
from tritonbulk.doctor.output import look_at_output
from tritonbulk.doctor.servers import look_at_servers

__all__ = ["Finding", "Level", "examine", "worst"]


async def examine(
    endpoints: tuple[str, ...] = (),
    model: str | None = None,
    model_version: str | None = None,
    out: str | None = None,
    access: Access = PLAIN,
) -> tuple[Finding, ...]:
    """Return what was found of this machine, the servers, their model and the output, in order.

    Args:
        endpoints: of running servers; none looks whether the embedded one can run here.
        model: its name; None looks at no model.
        model_version: of it; None takes the newest.
        out: output folder or URI; None looks at none.
        access: how the servers are reached.

    Raises:
        OptionError: ``access`` cannot be used; a retry does not help.
    """
    found = list(look_at_machine(is_embedded=not endpoints))
    if endpoints:
        found += await look_at_servers(endpoints, model, model_version, access)
    if out is not None:
        found += await asyncio.to_thread(list, look_at_output(out))
    return tuple(found)
