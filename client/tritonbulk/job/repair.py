"""Repair: what is wrong with what stands in an output, and what mends it. Pure.

What is advised is what the next run accepts.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tritonbulk.errors import DamagedError
from tritonbulk.job.protocol import Standing, job_names
from tritonbulk.job.spec import JobFile
from tritonbulk.job.statement import PartStatement, part_number

NAMES_SHOWN_MAX = 5
"""Names that one step of a repair lists."""


class Remedy(enum.Enum):
    """What mends a fault."""

    REMOVE = enum.auto()  # what nobody will take for a part of the job
    INPUT = enum.auto()  # an input is no longer what was scored
    RESTORE = enum.auto()  # a later manifest vouches for it, so a copy alone will do
    REWRITE = enum.auto()  # of a finished job: made anew once the manifest has gone
    RERUN = enum.auto()  # of an unfinished job: the next run sees to it


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: of a part, of another file, or of an input.

    Attributes:
        name: what it concerns.
        what: is wrong with it.
        remedy: what mends it.
    """

    name: str
    what: str
    remedy: Remedy

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def remedy_of_parts(standing: Standing, at: int) -> Remedy:
    """Return what mends a part of job ``at`` that is missing or damaged."""
    if standing.jobs[at].manifest is None:
        return Remedy.RERUN
    return Remedy.REWRITE if at + 1 == len(standing.jobs) else Remedy.RESTORE


def part_faults(standing: Standing, at: int) -> tuple[Fault, ...]:
    """Return how the parts of job ``at`` differ from its manifest by name and size; free to tell.

    Empty of a job that is unfinished.
    """
    job = standing.jobs[at]
    if job.manifest is None:
        return ()
    found, remedy = [], remedy_of_parts(standing, at)
    for entry in job.manifest.parts:
        name, size = entry["name"], entry["bytes"]
        stands = standing.parts.get(name)
        if stands is None:
            found.append(Fault(name, "it is missing", remedy))
        elif stands != size:
            what = f"it has {stands:,} bytes, and {size:,} were written"
            found.append(Fault(name, what, remedy))
    return (*found, *strays(standing, at))


def strays(standing: Standing, at: int, segments: int | None = None) -> tuple[Fault, ...]:
    """Return the parts among those of job ``at`` that are not its own, as far as names tell.

    ``segments`` is how many an unfinished job will have; None where only reading tells.
    """
    job, own = standing.jobs[at], standing.numbers(at)
    begin, listed = job.file.segment_begin, None
    what = "the job has no such segment"
    if job.manifest is not None:
        listed, what = {entry["name"] for entry in job.manifest.parts}, "it is in no manifest"

    def is_stray(name: str, number: int) -> bool:
        if listed is not None:
            return name not in listed
        is_beyond = segments is not None and number >= begin + segments
        return is_beyond or name != job.file.part_name(number)

    numbered = ((name, part_number(name)) for name in standing.parts)
    return tuple(
        Fault(name, what, Remedy.REMOVE)
        for name, number in numbered
        if number is not None and number in own and is_stray(name, number)
    )


def foreign_files(standing: Standing) -> tuple[Fault, ...]:
    """Return the files beside parts that readers would take for some."""
    return tuple(Fault(each, "it is no part of a job", Remedy.REMOVE) for each in standing.foreign)


def misplaced(file: JobFile, name: str, stated: PartStatement) -> str | None:
    """Return why a whole part cannot have this name in this job; None if it can."""
    if stated.fingerprint != file.fingerprint:
        return "it is a part of another job"
    if file.part_name(stated.segment) != name:
        return f"it is the part of segment {stated.segment} under another name"
    return None


def check_whole(standing: Standing) -> None:
    """Check that the parts of all finished jobs stand there, by name and size.

    Raises:
        DamagedError: one does not, or there is one too many; says how to repair it.
    """
    faults = [fault for at in range(len(standing.jobs)) for fault in part_faults(standing, at)]
    if faults:
        more = f" (and {len(faults) - 1:,} more)" if len(faults) > 1 else ""
        raise DamagedError(
            f"{standing.name} is finished, and is not what its manifest lists: "
            f"{faults[0]}{more}; {repair(standing, faults)}"
        )


def repair(standing: Standing, faults: Collection[Fault]) -> str:
    """Return what mends all of some faults, step by step; "" if there are none."""
    named = {each: _names(faults, each) for each in Remedy}
    steps = []
    if names := named[Remedy.REMOVE]:
        steps.append(f"remove {names}")
    if names := named[Remedy.INPUT]:
        steps.append(f"restore the input {names}, or score into another --out")
    if names := named[Remedy.RESTORE]:
        steps.append(f"restore {names} from a copy, or score into another --out")
    if names := named[Remedy.REWRITE]:
        manifest = job_names(len(standing.jobs) - 1)[1]
        # A part that stands is deleted too: under a name of the job, another's would stop the run.
        named_so = (each.name for each in faults if each.remedy is Remedy.REWRITE)
        there = dict.fromkeys(each for each in named_so if each in standing.parts)
        steps.append(
            f"restore {names} from a copy, or delete {listed_names([manifest, *there])} and run "
            "the same command again, which scores only what is missing"
        )
    if named[Remedy.RERUN]:
        steps.append(
            "run the same command again, which sets damaged parts aside and scores the rest"
        )
    elif steps and standing.jobs[-1].manifest is None:
        steps.append("run the same command again")
    return ", then ".join(steps)


def _names(faults: Collection[Fault], remedy: Remedy) -> str:
    names = list(dict.fromkeys(each.name for each in faults if each.remedy is remedy))
    return listed_names(names)


def listed_names(names: Sequence[str]) -> str:
    """Return some names as a sentence has them, the first few of many."""
    shown = list(names[:NAMES_SHOWN_MAX])
    if more := len(names) - len(shown):
        shown.append(f"{more:,} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
