"""The library's front door: forgiving about how things are given, strict about what they mean."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tritonbulk.committing import Committed
from tritonbulk.committing import commit as commit_job
from tritonbulk.errors import OptionError
from tritonbulk.given import option_fields, strings
from tritonbulk.job.stores.opening import open_store
from tritonbulk.options import ScoreOptions
from tritonbulk.places import check_single_file
from tritonbulk.result import ScoreResult
from tritonbulk.scoring import run_score


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


def commit(
    out: str | Path,
    *,
    single_file: str | Path | None = None,
    csv_guard: bool = True,
    single_writer: bool = False,
) -> Committed:
    """Finish the job in ``out`` whose parts its shards have made, and return what it holds.

    Args:
        out: as the shards were given.
        single_file: local file to write all rows to as well; .csv, .jsonl or .parquet.
        csv_guard: whether a single .csv file is guarded against formulas.
        single_writer: for object stores that cannot create only.

    Raises:
        UnfinishedError: parts are missing; ``owed`` says which, and whose. A retry helps once
            their shards have made them.
        UsageError: there is no such job, or the single file cannot be; a retry does not help.
        TritonbulkError: see its class and ``retry_helps``.
    """
    file = None if single_file is None else Path(single_file)
    if file is not None:
        check_single_file(file, str(out))
    store = open_store(out, is_single_writer=single_writer)
    return commit_job(store, single_file=file, csv_guard=csv_guard, is_single_writer=single_writer)


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
    asked = {**options, "model": model, "endpoints": endpoints, "repository": repository}
    known = [field.name for field in fields(ScoreOptions) if field.name not in ("inputs", "out")]
    checked = ScoreOptions(
        inputs=tuple(map(str, strings(inputs))),
        out=str(out),
        **option_fields(asked, known, "score()"),
    )
    return await run_score(checked)
