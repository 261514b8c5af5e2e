"""A chain run in this process, step by step, to prove what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tritonbulk.errors import ParityError
from tritonbulk_export.chains.ensemble import Link
from tritonbulk_export.runtime import Session
from tritonbulk_export.spec import Tensors, Tolerance


@dataclass(frozen=True, slots=True)
class Equality:
    """How a chain compares with the whole.

    Attributes:
        rows: compared.
        max_abs: largest absolute difference of any output.
    """

    rows: int
    max_abs: float


def run_chain(
    links: Sequence[Link], sessions: Mapping[str, Session], rows: Tensors
) -> Mapping[str, np.ndarray]:
    """Return every tensor of a chain for some rows.

    Args:
        links: in order.
        sessions: by name of the entry.
        rows: the chain's inputs.
    """
    values = dict(rows)
    for link in links:
        answers = sessions[link.model].run({n: values[t] for n, t in link.inputs.items()})
        values.update({tensor: answers[name] for name, tensor in link.outputs.items()})
    return values


def check_equal(found: Tensors, expected: Tensors, tolerance: Tolerance) -> Equality:
    """Return how far a chain's outputs are from the whole's.

    Raises:
        ParityError: one is further off than ``tolerance``, or of another shape; no retry.
    """
    worst, rows = 0.0, 0
    for name, whole in expected.items():
        part = found[name]
        rows = len(whole)
        if part.shape != whole.shape or part.dtype != whole.dtype:
            raise ParityError(f"output {name!r} of the chain has another shape than the whole's")
        if whole.dtype.kind != "f":
            if not np.array_equal(part, whole):
                raise ParityError(f"output {name!r} of the chain is not the whole's")
            continue
        one, other = part.astype(np.float64), whole.astype(np.float64)
        finite = np.isfinite(one) & np.isfinite(other)
        worst = max(worst, float(np.max(np.abs(one - other)[finite], initial=0.0)))
        if not np.allclose(one, other, tolerance.rtol, tolerance.atol, equal_nan=True):
            raise ParityError(
                f"output {name!r} of the chain is up to {worst:.1e} off "
                "the whole's; cut it elsewhere, with another number of stages"
            )
    return Equality(rows, worst)
