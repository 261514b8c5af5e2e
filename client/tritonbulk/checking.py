"""Checking: what stands in an output, against its manifest and against the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tritonbulk.errors import DamagedError, InputError, OutputError, PlatformError, SourceError
from tritonbulk.job.commit import look
from tritonbulk.job.manifest import Manifest, check_tiling
from tritonbulk.job.owed import Owed, what_is_owed
from tritonbulk.job.protocol import Standing, StandingJob, follows_on, part_faults, repair
from tritonbulk.job.puts import read_listed, read_object
from tritonbulk.job.sharing import look_at_sharing
from tritonbulk.job.statement import PartStatement, part_number, read_part
from tritonbulk.job.stores.base import Store
from tritonbulk.part import decode_part
from tritonbulk.source import open_source


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What is done of one job; the fields of ``status --json``, one object a job.

    Attributes:
        fingerprint: of the job.
        release: the tritonbulk that began it.
        model: its model's name.
        model_version: the version of that.
        inputs: how many files.
        parts: how many stand there.
        parts_expected: how many there will be; None where only reading the inputs tells.
        is_finished: whether its manifest stands there.
        rows: of all parts; None until it is finished.
        rows_failed: of these; None until it is finished.
        problems: one sentence for each part of a finished job that is missing, has another size or
            is in no manifest.
        repair: what to do about them; "" if there are none.
        shards: into how many it is split; empty if it is not, or finished.
        owed: what is missing of an unfinished job, by shards; empty if no part is.
    """

    fingerprint: str
    release: str
    model: str
    model_version: str
    inputs: int
    parts: int
    parts_expected: int | None
    is_finished: bool
    rows: int | None
    rows_failed: int | None
    problems: tuple[str, ...] = ()
    repair: str = ""
    shards: tuple[int, ...] = ()
    owed: tuple[Owed, ...] = ()


def status(store: Store) -> tuple[JobStatus, ...]:
    """Return what is done of each job in an output, by names and sizes alone.

    Raises:
        OutputError: there is no job; a retry does not help.
        TritonbulkError: the store or a file of the job cannot be read; see its class.
    """
    standing = _jobs_of(store)
    found = []
    for at, job in enumerate(standing.jobs):
        problems, own = part_faults(standing, at), standing.numbers(at)
        spec, manifest = job.file.spec, job.manifest
        expected, splits, owed = _left(store, standing, at)
        found.append(
            JobStatus(
                fingerprint=job.file.fingerprint,
                release=job.file.release,
                model=spec["model"]["name"],
                model_version=spec["model"]["version"],
                inputs=len(spec["inputs"]),
                parts=len(own),
                parts_expected=expected,
                is_finished=manifest is not None,
                rows=manifest.rows if manifest else None,
                rows_failed=manifest.rows_failed if manifest else None,
                problems=problems,
                repair=repair(standing, at) if problems else "",
                shards=splits,
                owed=owed,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check has read; the fields of ``verify --json``.

    Attributes:
        parts: parts that were read and are as they were written.
        rows: their rows.
        inputs_checked: input files that still stand and have the rows that were scored.
        problems: one sentence each; empty if all is well.
        is_finished: whether a manifest says that no part is missing.
        inputs_unchecked: one sentence for each input file that is not among ``inputs_checked`` and
            no problem either: what stands in the way.
    """

    parts: int
    rows: int
    inputs_checked: int
    problems: tuple[str, ...]
    is_finished: bool = True
    inputs_unchecked: tuple[str, ...] = ()


def verify(store: Store) -> Verified:
    """Read every part of an output and compare it with its manifest and the inputs.

    Raises:
        OutputError: there is no job; a retry does not help.
        DamagedError: a manifest or job file is damaged; a retry does not help.
        TritonbulkError: the store cannot be read; see its class.
    """
    standing = _jobs_of(store)
    problems: list[str] = []
    unchecked: list[str] = []
    parts = rows = inputs = 0
    for job in standing.jobs:
        if job.manifest is None:
            found = _unfinished_parts(store, job, standing.parts)
            parts, rows = parts + len(found.good), rows + sum(each.rows for each in found.good)
            problems += found.problems
            continue
        good: list[PartStatement] = []
        for entry in job.manifest.parts:
            try:
                good.append(_verified_part(store, job, entry))
            except DamagedError as error:
                problems.append(f"{entry['name']}: {error}")
        parts, rows = parts + len(good), rows + sum(each.rows for each in good)
        if len(good) == len(job.manifest.parts):
            try:
                check_tiling(job.file, good)
            except DamagedError as error:
                problems.append(str(error))
        found_inputs = _verified_inputs(job.file.spec, job.manifest)
        inputs += found_inputs.checked
        unchecked += found_inputs.unchecked
        problems += found_inputs.problems
    problems += [f"{name}: it is no part of a job" for name in standing.foreign]
    listed = {entry["name"] for entry in standing.listed}
    is_finished = all(job.manifest for job in standing.jobs)
    if is_finished:
        problems += [
            f"{name}: it is in no manifest" for name in standing.parts if name not in listed
        ]
    return Verified(parts, rows, inputs, tuple(problems), is_finished, tuple(unchecked))


def _jobs_of(store: Store) -> Standing:
    standing = look(store)
    if not standing.jobs:
        raise OutputError(f"{store.name} holds no job; give the --out of a scoring run")
    return standing


def _verified_part(store: Store, job: StandingJob, entry: Mapping[str, Any]) -> PartStatement:
    return _checked_part(read_listed(store, entry), job)


def _checked_part(data: bytes, job: StandingJob) -> PartStatement:
    """Return what a part states, all of it checked."""
    statement = read_part(data)
    try:
        table = decode_part(data, job.file.out_format)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError("it cannot be read") from error
    # Names only: Parquet gives the items of lists another name, which shows in the type.
    expected = [name for name, _ in job.file.spec["output"]]
    if (table.num_rows, table.column_names) != (statement.rows, expected):
        raise DamagedError("its rows or columns are not those that it states")
    if statement.fingerprint != job.file.fingerprint:
        raise DamagedError("it is a part of another job")
    return statement


@dataclass(frozen=True, slots=True)
class _Unfinished:
    good: list[PartStatement]
    problems: list[str]


def _unfinished_parts(store: Store, job: StandingJob, names: Iterable[str]) -> _Unfinished:
    """Read the parts of a job that has no manifest yet; each is sealed and says what it is."""
    found = _Unfinished([], [])
    latest: PartStatement | None = None
    for name in names:
        if (part_number(name) or 0) < job.file.segment_begin:
            continue  # of a job before it
        try:
            statement = _checked_part(read_object(store, name), job)
        except DamagedError as error:
            found.problems.append(f"{name}: {error}")
            continue
        if job.file.part_name(statement.segment) != name:
            found.problems.append(f"{name}: it is the part of another segment")
        elif latest is not None and not follows_on(latest, statement):
            found.problems.append(f"{name}: its rows do not go on where those before it end")
        else:
            found.good.append(statement)
            latest = statement
    return found


@dataclass(slots=True)
class _Inputs:
    checked: int
    unchecked: list[str]
    problems: list[str]


def _verified_inputs(spec: Mapping[str, Any], manifest: Manifest) -> _Inputs:
    """Return which inputs still have the rows that were scored, which have not, and the rest."""
    found = _Inputs(0, [], [])
    for position, rows in _rows_scored(spec["inputs"], manifest):
        name, known = spec["inputs"][position]["name"], spec["inputs"][position]["rows"]
        try:
            now = open_source([name], spec["input_format"]).rows
        except (InputError, SourceError, PlatformError) as error:
            found.unchecked.append(f"{name}: it has gone, or cannot be read ({error})")
            continue
        if now is None or known is None:
            found.unchecked.append(f"{name}: only reading all of it would tell its rows")
            continue
        if now != known or (spec["limit_rows"] is None and rows != now):
            found.problems.append(f"{name} has {now} rows, of which {rows} were scored")
        elif rows != now:
            found.unchecked.append(f"{name}: --limit left {now - rows:,} of its rows unscored")
        else:
            found.checked += 1
    return found


def _rows_scored(inputs: Sequence[object], manifest: Manifest) -> Iterator[tuple[int, int]]:
    """Yield the position of each input, and how many of its rows parts stand for."""
    for position in range(len(inputs)):
        ends = [part["row_end"] for part in manifest.parts if part["input"] == position]
        yield position, max(ends, default=0)


def _left(
    store: Store, standing: Standing, at: int
) -> tuple[int | None, tuple[int, ...], tuple[Owed, ...]]:
    """Return how many parts a job will have, its numbers of shards, and what it lacks."""
    job = standing.jobs[at]
    if job.manifest is not None:
        return len(job.manifest.parts), (), ()
    sharing = look_at_sharing(store, job.file, at)
    owed = what_is_owed(job.file, sharing, standing.numbers(at))
    return sharing.segments, tuple(split.count for split in sharing.splits), owed
