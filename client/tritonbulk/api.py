"""The library's front door: forgiving about how things are given, strict about what they mean."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tritonbulk.contract import parse_input_map
from tritonbulk.errors import OptionError
from tritonbulk.options import ScoreOptions
from tritonbulk.polite import parse_yield_to
from tritonbulk.profile import read_profile
from tritonbulk.result import ScoreResult
from tritonbulk.scoring import run_score
from tritonbulk.shards import parse_shard


def score(
    inputs: str | Path | Sequence[str | Path],
    *,
    model: str,
    out: str | Path,
    endpoints: Sequence[str] | None = None,
    repository: str | Path | None = None,
    **options: Any,
) -> ScoreResult:
    """Score files with a model on Triton and return what was done.

    Without ``endpoints`` an embedded server is started on ``repository`` and stopped after. This
    is the blocking form of `score_async`, for code without an event loop.

    Args:
        inputs: one file or several, in output order; folders, patterns and URIs as well. Parquet,
            CSV, JSON Lines or Arrow.
        model: the model's name.
        out: output folder, or URI of an object store's prefix: one ``part-NNNNNNNN`` file a
            segment, rows in input order. An unfinished job there is continued.
        endpoints: ``host:port`` of running servers.
        repository: model repository.
        options: any other field of `ScoreOptions`; ``input_map`` also takes
            ``["tensor=column,…"]``, and ``profile`` the path of a file of ``tritonbulk bench``.

    Raises:
        UsageError: nothing was sent; a retry does not help.
        TritonbulkError: see its class and ``retry_helps``.
    """
    if _is_in_event_loop():
        raise OptionError("score() cannot wait in a running event loop; await score_async() there")
    return asyncio.run(
        score_async(
            inputs, model=model, out=out, endpoints=endpoints, repository=repository, **options
        )
    )


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def score_async(
    inputs: str | Path | Sequence[str | Path],
    *,
    model: str,
    out: str | Path,
    endpoints: Sequence[str] | None = None,
    repository: str | Path | None = None,
    **options: Any,
) -> ScoreResult:
    """Score as `score` does, in the running event loop."""
    known = {field.name for field in fields(ScoreOptions)}
    if unknown := options.keys() - known:
        raise OptionError(
            f"score() has no option {min(unknown)!r}; it has {', '.join(sorted(known))}"
        )
    for name in ("batch_rows", "in_flight_max"):
        if options.get(name) == "auto":
            options[name] = None
    if options.get("keep") is not None:
        options["keep"] = _strings(options["keep"])
    for name in ("report", "single_file"):
        if options.get(name) is not None:
            options[name] = Path(options[name])
    if isinstance(options.get("yield_to"), str):
        options["yield_to"] = parse_yield_to(options["yield_to"])
    if isinstance(options.get("profile"), (str, Path)):
        options["profile"] = read_profile(Path(options["profile"]))
    if isinstance(options.get("shard"), str):
        options["shard"] = parse_shard(options["shard"], os.environ)
    if options.get("model_version") is not None:
        options["model_version"] = str(options["model_version"])
    checked = ScoreOptions(
        inputs=tuple(str(file) for file in _strings(inputs)),
        model=model,
        out=str(out),
        endpoints=tuple(_strings(endpoints or ())),
        repository=None if repository is None else Path(repository),
        input_map=_input_map(options.pop("input_map", {})),
        **options,
    )
    return await run_score(checked)


def _strings(given: str | Path | Sequence[Any]) -> tuple[Any, ...]:
    """Return one thing or several as several: a string is one, not its letters."""
    return (given,) if isinstance(given, (str, Path)) else tuple(given)


def _input_map(
    given: str | Sequence[str] | Mapping[str, str | Sequence[str]],
) -> dict[str, tuple[str, ...]]:
    if isinstance(given, Mapping):
        return {tensor: _strings(columns) for tensor, columns in given.items()}
    return parse_input_map(_strings(given))
