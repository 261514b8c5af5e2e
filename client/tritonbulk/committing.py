"""Committing: a job whose shards have made its parts gets its one manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonbulk.errors import DamagedError, OutputError, UnfinishedError
from tritonbulk.job.commit import OpenJob, look
from tritonbulk.job.owed import Owed, in_words, what_is_owed
from tritonbulk.job.protocol import Standing
from tritonbulk.job.repair import check_whole
from tritonbulk.job.sharing import look_at_sharing
from tritonbulk.job.stock import read_parts
from tritonbulk.job.stores.base import Store
from tritonbulk.projection import project
from tritonbulk.rejects import list_rejects


@dataclass(frozen=True, slots=True)
class Committed:
    """A finished job; the fields of ``commit --json``.

    Attributes:
        output: names the store.
        job: the job's fingerprint.
        parts: in its manifest.
        rows: in them.
        rows_failed: of these, rows with an error.
        was_finished: whether the manifest stood there already.
    """

    output: str
    job: str
    parts: int
    rows: int
    rows_failed: int
    was_finished: bool


def commit(
    store: Store,
    *,
    single_file: Path | None = None,
    csv_guard: bool = True,
    is_single_writer: bool = False,
    say: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Committed:
    """Finish the last job of an output: its manifest, its rejects and what else was asked for.

    It changes no part, and may be repeated: of a finished job it makes only what is missing.

    Args:
        store: of the output.
        single_file: local file to write all rows to as well; see `project`.
        csv_guard: likewise.
        is_single_writer: likewise.
        say: told one sentence at a time about what is amiss.
        sleep: see `OpenJob.sleep`.

    Raises:
        OutputError: there is no job, or another file at ``single_file``; a retry does not help.
        UnfinishedError: parts are missing; a retry helps once their shards have made them.
        DamagedError: a finished job's part is not what was written; says what to do.
        SinkError: the store cannot be read or written; a retry helps once the cause is gone.
    """
    standing = look(store, sleep)
    if not standing.jobs:
        raise OutputError(f"{store.name} holds no job; give the --out of its shards")
    check_whole(standing)
    was_finished = standing.jobs[-1].manifest is not None
    if not was_finished:
        _finish(store, standing, say, sleep)
        standing = look(store, sleep)
    done = standing.jobs[-1].manifest
    assert done is not None, "it is finished now"
    if problem := list_rejects(store, standing.jobs):
        say(problem)
    if single_file is not None:
        project(
            store,
            standing.listed,
            single_file,
            csv_guard=csv_guard,
            is_single_writer=is_single_writer,
            sleep=sleep,
        )
        say(f"all rows are in {single_file} as well")
    counts = len(done.parts), done.rows, done.rows_failed
    return Committed(store.name, done.fingerprint, *counts, was_finished)


def _finish(
    store: Store,
    standing: Standing,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> None:
    """Make the manifest of the last job, which has none."""
    file, increment = standing.jobs[-1].file, len(standing.jobs) - 1
    sharing = look_at_sharing(store, file, increment, sleep)

    def check(stand: Collection[int]) -> None:
        if owed := what_is_owed(file, sharing, stand):
            raise unfinished(store.name, owed)

    def tell(name: str, _: bytes, error: DamagedError) -> None:
        say(f"{store.name}/{name} is damaged ({error}); who made it sets it aside when run again")

    check(standing.numbers(increment))  # names cost nothing
    parts = read_parts(store, file, standing, tell, sleep)
    check(parts.keys())
    OpenJob(store, file, increment, parts, sleep=sleep).finish(sharing.rows)


def unfinished(name: str, owed: Sequence[Owed]) -> UnfinishedError:
    """Return the error that says what is missing of an output of this name."""
    again = "run the command of the job again"
    if owed[0].shard is not None:
        again = "run these shards again, then commit"
    return UnfinishedError(f"{name} is unfinished ({in_words(owed)}); {again}", owed)
