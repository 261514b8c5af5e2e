"""Checking: what stands in an output, against its manifest and against the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tritonbulk.errors import DamagedError, InputError, OutputError, PlatformError, SourceError
from tritonbulk.job.commit import look
from tritonbulk.job.manifest import Manifest, check_tiling
from tritonbulk.job.owed import Owed, what_is_owed
from tritonbulk.job.protocol import Standing, StandingJob, follows_on, job_names
from tritonbulk.job.puts import read_listed, read_object
from tritonbulk.job.repair import (
    Fault,
    Remedy,
    foreign_files,
    misplaced,
    part_faults,
    remedy_of_parts,
    repair,
    strays,
)
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
        parts: how many of its own stand there, by their names.
        parts_expected: how many there will be; None where only reading the inputs tells.
        is_finished: whether its manifest stands there.
        rows: of all parts; None until it is finished.
        rows_failed: of these; None until it is finished.
        problems: one sentence for each part of a finished job that is missing, has another size or
            is in no manifest, and for each file that stands in the way of an unfinished one.
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
        spec, manifest = job.file.spec, job.manifest
        left = _left(store, standing, at)
        found.append(
            JobStatus(
                fingerprint=job.file.fingerprint,
                release=job.file.release,
                model=spec["model"]["name"],
                model_version=spec["model"]["version"],
                inputs=len(spec["inputs"]),
                parts=left.parts,
                parts_expected=left.parts_expected,
                is_finished=manifest is not None,
                rows=manifest.rows if manifest else None,
                rows_failed=manifest.rows_failed if manifest else None,
                problems=tuple(map(str, left.faults)),
                repair=repair(standing, left.faults),
                shards=left.shards,
                owed=left.owed,
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
        repair: what to do about the problems; "" if there are none.
        shards: into how many the job is split; empty if it is not, or finished.
    """

    parts: int
    rows: int
    inputs_checked: int
    problems: tuple[str, ...]
    is_finished: bool = True
    inputs_unchecked: tuple[str, ...] = ()
    repair: str = ""
    shards: tuple[int, ...] = ()


def verify(store: Store) -> Verified:
    """Read every part of an output and compare it with its manifest and the inputs.

    Raises:
        OutputError: there is no job; a retry does not help.
        DamagedError: a manifest or job file is damaged; a retry does not help.
        TritonbulkError: the store cannot be read; see its class.
    """
    standing = _jobs_of(store)
    faults: list[Fault] = []
    unchecked: list[str] = []
    shards: tuple[int, ...] = ()
    parts = rows = inputs = 0
    for at, job in enumerate(standing.jobs):
        if job.manifest is None:
            good = _unfinished_parts(store, standing, at, faults)
            shards = tuple(each.count for each in look_at_sharing(store, job.file, at).splits)
        else:
            good = _listed_parts(store, standing, at, faults)
            found = _verified_inputs(job.file.spec, job.manifest)
            inputs += found.checked
            unchecked += found.unchecked
            faults += found.faults
        parts, rows = parts + len(good), rows + sum(each.rows for each in good)
    faults += foreign_files(standing)
    return Verified(
        parts,
        rows,
        inputs,
        tuple(map(str, faults)),
        standing.jobs[-1].manifest is not None,
        tuple(unchecked),
        repair(standing, faults),
        shards,
    )


def _jobs_of(store: Store) -> Standing:
    standing = look(store)
    if not standing.jobs:
        raise OutputError(f"{store.name} holds no job; give the --out of a scoring run")
    return standing


def _listed_parts(
    store: Store, standing: Standing, at: int, faults: list[Fault]
) -> list[PartStatement]:
    """Read the parts of a finished job; return what those state that are as its manifest lists."""
    job, good = standing.jobs[at], []
    assert job.manifest is not None, "it is finished"
    for entry in job.manifest.parts:
        try:
            good.append(_checked_part(read_listed(store, entry), job))
        except DamagedError as error:
            faults.append(Fault(entry["name"], str(error), remedy_of_parts(standing, at)))
    if len(good) == len(job.manifest.parts):
        try:
            check_tiling(job.file, good)
        except DamagedError as error:
            faults.append(Fault(job_names(at)[1], str(error), Remedy.RESTORE))
    faults += strays(standing, at)
    return good


def _checked_part(data: bytes, job: StandingJob) -> PartStatement:
    """Return what a part of a finished job states, all of it checked."""
    stated = read_part(data)
    if why := _table_fault(data, stated, job):
        raise DamagedError(why)
    if stated.fingerprint != job.file.fingerprint:
        raise DamagedError("it is a part of another job")
    return stated


def _table_fault(data: bytes, stated: PartStatement, job: StandingJob) -> str | None:
    """Return what is wrong with the rows of a part whose seal holds; None if nothing is."""
    try:
        table = decode_part(data, job.file.out_format)
    except (pa.ArrowException, OSError):
        return "it cannot be read"
    # Names only: Parquet gives the items of lists another name, which shows in the type.
    expected = [name for name, _ in job.file.spec["output"]]
    if (table.num_rows, table.column_names) != (stated.rows, expected):
        return "its rows or columns are not those that it states"
    return None


def _unfinished_parts(
    store: Store, standing: Standing, at: int, faults: list[Fault]
) -> list[PartStatement]:
    """Read the parts of a job that has no manifest yet; each is sealed and says what it is."""
    job, good = standing.jobs[at], list[PartStatement]()
    for name in standing.parts:
        if (part_number(name) or 0) < job.file.segment_begin:
            continue  # of a job before it
        try:
            data = read_object(store, name)
            stated = read_part(data)
        except DamagedError as error:
            faults.append(Fault(name, str(error), Remedy.RERUN))
            continue
        why = misplaced(job.file, name, stated) or _table_fault(data, stated, job)
        if why is None and good and not follows_on(good[-1], stated):
            why = "its rows do not go on where those before it end"
        if why is None:
            good.append(stated)
        else:
            faults.append(Fault(name, why, Remedy.REMOVE))
    return good


@dataclass(slots=True)
class _Inputs:
    checked: int
    unchecked: list[str]
    faults: list[Fault]


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
            what = f"it has {now} rows, of which {rows} were scored"
            found.faults.append(Fault(name, what, Remedy.INPUT))
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


@dataclass(frozen=True, slots=True)
class _Left:
    """What names and sizes tell of a job; see `JobStatus`."""

    parts: int
    parts_expected: int | None
    faults: tuple[Fault, ...]
    shards: tuple[int, ...] = ()
    owed: tuple[Owed, ...] = ()


def _left(store: Store, standing: Standing, at: int) -> _Left:
    job = standing.jobs[at]
    if job.manifest is not None:
        names = {entry["name"] for entry in job.manifest.parts}
        stand = names & standing.parts.keys()
        return _Left(len(stand), len(names), part_faults(standing, at))
    sharing = look_at_sharing(store, job.file, at)
    found = strays(standing, at, sharing.segments)
    extra = {part_number(each.name) for each in found}
    own = [each for each in standing.numbers(at) if each not in extra]
    return _Left(
        len(own),
        sharing.segments,
        (*found, *foreign_files(standing)),
        tuple(split.count for split in sharing.splits),
        what_is_owed(job.file, sharing, own),
    )
