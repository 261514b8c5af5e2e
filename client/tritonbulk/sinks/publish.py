"""Publish: the parts of a finished output → the rows of a sink, each once.

A commit is never trusted: after each one the sink is asked how far the job has come, and that alone
counts. So a lost answer, a rival, a crash and a repeated run are one case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from tritonbulk.errors import DamagedError, OutputError, SinkError
from tritonbulk.job.commit import look
from tritonbulk.job.protocol import StandingJob
from tritonbulk.job.puts import read_listed
from tritonbulk.job.repair import check_whole
from tritonbulk.job.stores.base import Store
from tritonbulk.sinks.base import Portion, PublishedPart, RivalError, Sink

PAUSES_S = (0.2, 1.0, 5.0, 15.0)
"""Pauses before a sink that failed is asked again how far the job has come, and gone on with."""


_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Published:
    """What a run has published; the fields of ``publish --json``.

    Attributes:
        source: the output whose parts were read.
        to: the sink.
        rows: that this run has published; those that another adds meanwhile are nowhere counted.
        parts: whose rows they are.
        rows_before: rows that were there when it began.
        parts_before: whose rows these are.
    """

    source: str
    to: str
    rows: int = 0
    parts: int = 0
    rows_before: int = 0
    parts_before: int = 0


def publish(
    store: Store,
    sink: Sink,
    *,
    parts_per_commit: int | None = None,
    say: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Published:
    """Add the rows of all parts of a finished output to a sink that may hold some of them.

    Args:
        store: where the parts stand.
        sink: told once to make its table, then given what is missing.
        parts_per_commit: most parts in one commit; None: all of a job become visible at once.
        say: told one sentence at a time.
        sleep: see `OpenJob.sleep`.

    Raises:
        OutputError: the output holds no finished job, or the sink does not take its rows; no retry.
        DamagedError: a part is damaged or missing; a retry does not help.
        SinkError: the sink or the store does not answer; a retry goes on.
    """
    jobs = _finished_jobs(store, sleep)
    per_job = [_parts_of(store, job, sleep) for job in jobs]
    schema = per_job[0][0].table().schema.remove_metadata()
    prepare(sink, schema, say, sleep)
    before: list[PublishedPart] = []
    done: list[PublishedPart] = []
    for job, parts in zip(jobs, per_job, strict=True):
        fingerprint = job.file.fingerprint
        before += _in_sink(sink, fingerprint, parts, say, sleep)
        whole = Portion(fingerprint, parts, schema)
        done += _publish_job(sink, whole, parts_per_commit, say, sleep)
    return Published(store.name, sink.name, _rows(done), len(done), _rows(before), len(before))


def prepare(
    sink: Sink,
    schema: pa.Schema,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Make the table of a sink, or check that it takes what will be published.

    Args:
        sink: whose table it is.
        schema: of the parts as they are read, without metadata.
        say: told one sentence at a time.
        sleep: see `OpenJob.sleep`.

    Raises:
        OutputError: it does not take such rows; no retry.
        SinkError: it does not answer; a retry may help.
    """
    _repeated(lambda: sink.prepare(schema), say, sleep)


def _finished_jobs(store: Store, sleep: Callable[[float], None]) -> tuple[StandingJob, ...]:
    standing = look(store, sleep)
    if not standing.jobs:
        raise OutputError(f"{store.name} holds no job; give the --out of a scoring run")
    if standing.jobs[-1].manifest is None:
        raise OutputError(
            f"the job in {store.name} is unfinished; run its tritonbulk score to the end, then "
            "publish"
        )
    check_whole(standing)
    return standing.jobs


def _parts_of(
    store: Store, job: StandingJob, sleep: Callable[[float], None]
) -> tuple[PublishedPart, ...]:
    assert job.manifest is not None, "only finished jobs are published"
    place = store.name if "://" in store.name else str(Path(store.name).absolute())

    def read(entry: dict[str, object]) -> bytes:
        sleep(0)
        try:
            return read_listed(store, entry, sleep)
        except DamagedError as error:
            raise DamagedError(
                f"{store.name}/{entry['name']} is damaged ({error}); restore it"
            ) from error

    return tuple(
        PublishedPart(
            entry["name"],
            entry["segment"],
            entry["rows"],
            f"{place}/{entry['name']}",
            partial(read, dict(entry)),
        )
        for entry in job.manifest.parts
    )


def _publish_job(
    sink: Sink,
    whole: Portion,
    parts_per_commit: int | None,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> list[PublishedPart]:
    """Append what is missing of one job, until the sink says that nothing is; return what was."""
    sent: tuple[PublishedPart, ...] = ()
    done: list[PublishedPart] = []

    def step() -> bool:
        nonlocal sent
        at = sink.published(whole.job)
        done.extend(part for part in sent if at is not None and part.segment < at)
        left = tuple(part for part in whole.parts if at is None or part.segment >= at)
        sent = _next(left, parts_per_commit)
        if sent:
            try:
                sink.append(Portion(whole.job, sent, whole.schema))
            except RivalError:
                sent = ()  # what the sink has of these it has from another run
                raise
        return bool(sent)

    while _repeated(step, say, sleep):
        pass
    return done


def _next(left: tuple[PublishedPart, ...], count: int | None) -> tuple[PublishedPart, ...]:
    """Return the parts of the next commit: at least ``count``, and rows unless none are left.

    Iceberg tells rivals apart by the rows that they add, and by nothing else.
    """
    if count is None:
        return left
    first = next((at for at, part in enumerate(left) if part.rows), len(left))
    return left[: max(count, first + 1)]


def _in_sink(
    sink: Sink,
    job: str,
    parts: Sequence[PublishedPart],
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> list[PublishedPart]:
    at = _repeated(lambda: sink.published(job), say, sleep)
    return [] if at is None else [part for part in parts if part.segment < at]


def _repeated(
    step: Callable[[], _Answer], say: Callable[[str], None], sleep: Callable[[float], None]
) -> _Answer:
    """Return what a step returns, after pauses if the sink fails.

    Raises:
        SinkError: it failed once more than there are pauses.
    """
    for pause_s in PAUSES_S:
        try:
            return step()
        except SinkError as error:
            say(f"{error}; trying again in {pause_s:g} s")
            sleep(pause_s)
    return step()


def _rows(parts: Sequence[PublishedPart]) -> int:
    return sum(part.rows for part in parts)
