"""Options about how an entry is served, and the value they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from tritonbulk.errors import OptionError
from tritonbulk_export.serving import Accelerator, Device, Serving

SERVING_OPTIONS = (
    click.option(
        "--max-batch-size", type=int,
        help="Rows a request may have.  [default: the largest power of two, from 8 to 4096, "
        "whose requests take at most 8 MiB]",
    ),
    click.option(
        "--batch-rows", type=int, metavar="N",
        help="Rows that requests will have as a rule: --max-batch-size becomes a multiple of it, "
        "and the batcher waits a little to join them.  [default: full batches]",
    ),
    click.option(
        "--in-flight", type=int, metavar="N",
        help="Requests that will be in flight at once; sizes the queue of --queue-policy.",
    ),
    click.option(
        "--device", type=click.Choice(get_args(Device)), default="auto", show_default=True,
        help="Where instances are placed; auto is the GPU where there is one.",
    ),
    click.option(
        "--instances", type=int, default=1, show_default=True,
        help="Instances, on each GPU or on the CPU.",
    ),
    click.option("--threads", type=int, help="Threads of one instance within an operator."),
    click.option("--queue-delay-us", type=int, help="How long the batcher waits for more rows."),
    click.option(
        "--queue-policy", is_flag=True,
        help="Bound the queue, and let requests time out in it. Costs throughput on servers "
        "without the fix of core#509; see docs/export/configuration.md.",
    ),
    click.option(
        "--priorities", is_flag=True,
        help="Two levels: 1 for online requests, 2 (the default) for bulk. The same cost.",
    ),
    click.option(
        "--warm-up/--no-warm-up", default=True, show_default=True,
        help="Run golden rows before the model is ready.",
    ),
    click.option(
        "--accelerator", type=click.Choice(get_args(Accelerator)), default="none",
        show_default=True, help="Of the ONNX Runtime backend on GPUs. Not verified on a GPU.",
    ),
    click.option(
        "--accelerator-option", "accelerator_options", multiple=True, metavar="KEY=VALUE",
        help="An option of it (repeatable).",
    ),
    click.option(
        "--stages", type=int, metavar="N",
        help="Cut the model into N entries that work at the same time, chained by an ensemble.",
    ),
    click.option(
        "--bench-result", metavar="FILE", type=click.Path(path_type=Path),
        help="What tritonbulk bench --budget wrote: its verdict decides what is not asked for.",
    ),
    click.option(
        "--tune", "tune_s", type=float, metavar="SECONDS",
        help="Sweep on the embedded server after publishing and keep what it recommends.",
    ),
    click.option("--stage-gpus", metavar="0,1,…", help="One GPU for each stage."),
    click.option(
        "--config", "overrides", metavar="FILE",
        type=click.Path(path_type=Path),
        help="A TOML file whose fields replace those of the configuration.",
    ),
)  # fmt: skip
_FIELDS = tuple(name for name in Serving.__dataclass_fields__ if name != "asked")


def fold_serving(values: dict[str, Any]) -> None:
    """Replace the ``values`` of `SERVING_OPTIONS` by the one that the library takes.

    Raises:
        OptionError: an option has no meaning; a retry does not help.
    """
    given = {name: values.pop(name) for name in _FIELDS}
    pairs = [text.partition("=") for text in given["accelerator_options"]]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise OptionError(f"--accelerator-option {key!r} is not of the form KEY=VALUE")
    given["accelerator_options"] = {key: value for key, _, value in pairs}
    source = click.get_current_context().get_parameter_source
    asked = frozenset(name for name in _FIELDS if source(name) is not ParameterSource.DEFAULT)
    values["serving"] = Serving(**given, asked=asked)
    values["stage_gpus"] = _gpus(values["stage_gpus"])


def _gpus(text: str | None) -> tuple[int, ...]:
    parts = [] if text is None else text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise OptionError(f"--stage-gpus {text!r} is no list of GPU numbers, such as 0,1")
    return tuple(map(int, parts))
