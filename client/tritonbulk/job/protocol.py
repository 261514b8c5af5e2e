"""Protocol: what to do about what stands in a store. Pure; `commit` carries it out.

One rule covers races, lost replies and restarts alike: a put is never trusted, what stands there
afterwards is read and judged.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonbulk.errors import OutputError
from tritonbulk.job.fingerprint import difference
from tritonbulk.job.manifest import Manifest, StoredPart
from tritonbulk.job.refusal import put_back, refusal
from tritonbulk.job.spec import OWN_OF_INCREMENTS, Follows, InputIdentity, JobFile, JobSpec
from tritonbulk.job.statement import PartStatement, part_number
from tritonbulk.segments import Segment

OWN_FOLDER = "_tritonbulk"
"""Folder in the output that holds everything but parts."""


class Put(enum.Enum):
    """What became of a create-only put."""

    CREATED = enum.auto()
    EXISTS = enum.auto()
    UNKNOWN = enum.auto()


class Start(enum.Enum):
    """How a run of a job begins."""

    CREATE = enum.auto()
    CONTINUE = enum.auto()
    FINISHED = enum.auto()


@dataclass(frozen=True, slots=True)
class StandingJob:
    """A job as it stands in a store: ``manifest`` is None while it is unfinished."""

    file: JobFile
    manifest: Manifest | None
    manifest_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands under an output prefix.

    Attributes:
        name: of the prefix, for errors.
        jobs: the first one and its increments, in order; only the last may be unfinished.
        parts: bytes of all parts by name, in order of segments.
        foreign: names of files beside them that readers would take for parts.
    """

    name: str
    jobs: tuple[StandingJob, ...]
    parts: Mapping[str, int]
    foreign: tuple[str, ...] = ()

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Those of all finished jobs, in order."""
        return tuple(job.manifest for job in self.jobs if job.manifest)

    @property
    def listed(self) -> tuple[Mapping[str, Any], ...]:
        """The manifests' entries of the parts of all finished jobs, in order."""
        return tuple(entry for manifest in self.manifests for entry in manifest.parts)

    def numbers(self, at: int) -> frozenset[int]:
        """Return the numbers of the parts that stand there of job ``at``."""
        begin, end = self.jobs[at].file.segment_begin, self._end(at)
        numbers = (part_number(name) or 0 for name in self.parts)
        return frozenset(each for each in numbers if begin <= each < end)

    def _end(self, at: int) -> float:
        """Return the number of the first segment after those of job ``at``."""
        following = self.jobs[at + 1 : at + 2]
        return following[0].file.segment_begin if following else math.inf


def job_names(increment: int) -> tuple[str, str]:
    """Return the names of the job file and of the manifest of an increment; 0 is the first job."""
    number = f"-{increment:04d}" if increment else ""
    return f"{OWN_FOLDER}/job{number}.json", f"{OWN_FOLDER}/manifest{number}.json"


def start(standing: Standing, asked: JobSpec, *, is_fresh: bool) -> Start:
    """Return how a run of the job ``asked`` begins on what stands there.

    Raises:
        OutputError: something else stands there; says what differs. A retry does not help.
    """
    check_start(standing, is_fresh=is_fresh)
    if not standing.jobs:
        return Start.CREATE
    for job in standing.jobs:
        if job.file.fingerprint == asked.fingerprint:
            return Start.CONTINUE if job.manifest is None else Start.FINISHED
    last = standing.jobs[-1]
    if last.manifest is not None and asked.follows == follows(last):
        check_increment(standing, asked)
        return Start.CREATE
    if asked.follows is None and last.file.spec["follows"]:
        check_increment(standing, asked)
        raise OutputError(
            f"{standing.name} holds a job and what --only-new has added to it; add --only-new to "
            "go on, which scores the files that are in none of them, or give another --out"
        )
    raise refusal(
        standing.name, difference(last.file.spec, asked.to_plain()), last.file.spec["model"]
    )


def check_start(standing: Standing, *, is_fresh: bool) -> None:
    """Check what can be told before the job is known.

    Raises:
        OutputError: parts without a job stand there, or what is no part beside an unfinished job,
            or anything where nothing should; no retry.
    """
    if standing.foreign and not (standing.jobs and standing.jobs[-1].manifest):
        raise OutputError(
            f"{standing.name} holds {standing.foreign[0]}, which is no part of a job and which "
            "readers would take for one; remove it, or give another --out"
        )
    if is_fresh and (standing.jobs or standing.parts):
        raise OutputError(
            f"--fresh wants an empty output, and {standing.name} holds "
            f"{'a job' if standing.jobs else 'parts'}; nothing was deleted, so empty it or give "
            "another --out"
        )
    if standing.parts and not standing.jobs:
        raise OutputError(
            f"{standing.name} holds parts but no job ({OWN_FOLDER}/job.json), so nothing tells "
            "what they are; remove them or give another --out"
        )


def follows(last: StandingJob) -> Follows:
    """Return what an increment to a finished job follows."""
    assert last.manifest is not None, "only a finished job is followed"
    return Follows(last.manifest_sha256, last.manifest.segment_end)


def check_server(standing: Standing, *, is_embedded: bool) -> None:
    """Check that a job is gone on with by the kind of server that it was begun with.

    Raises:
        OutputError: it is not; no retry.
    """
    if not standing.jobs:
        return
    was_embedded = bool(standing.jobs[-1].file.spec["model"]["files_digest"])
    if was_embedded and not is_embedded:
        raise OutputError(
            f"{standing.name} holds a job that was begun with the embedded server, whose model "
            "files are part of it, and servers at --endpoint do not show theirs; leave --endpoint "
            "out, or give another --out"
        )
    if is_embedded and not was_embedded:
        raise OutputError(
            f"{standing.name} holds a job that was begun with servers at --endpoint, which do not "
            "show their model's files, so with the embedded server it would be another job; give "
            "--endpoint again, or another --out"
        )


def check_increment(standing: Standing, asked: JobSpec) -> None:
    """Check that an increment differs from the first job in its inputs and their period alone.

    Raises:
        OutputError: it does not; says how. A retry does not help.
    """
    first = standing.jobs[0].file.spec
    common = {name: value for name, value in first.items() if name not in OWN_OF_INCREMENTS}
    if found := difference(common, asked.beside_inputs()):
        raise refusal(standing.name, found, first["model"])


def inputs_to_score(
    standing: Standing, inputs: Sequence[InputIdentity]
) -> tuple[tuple[InputIdentity, ...], Follows | None]:
    """Return the inputs that ``--only-new`` scores now, and what they follow.

    Those of an unfinished job are finished first; otherwise it is those in no job yet.

    Raises:
        OutputError: an input has changed since it was scored, or those of an unfinished job have
            gone; a retry does not help.
    """
    if not standing.jobs:
        return tuple(inputs), None
    last = standing.jobs[-1]
    if last.manifest is None:
        begun = {entry["name"] for entry in last.file.spec["inputs"]}
        before = last.file.spec["follows"]
        own = tuple(each for each in inputs if each.name in begun)
        if not own:
            raise OutputError(
                f"{standing.name} holds an unfinished job, and none of its {len(begun)} inputs is "
                "among those given; restore them, or give another --out"
            )
        return own, Follows(**before) if before else None
    scored = {entry["name"]: entry for job in standing.jobs for entry in job.file.spec["inputs"]}
    new = []
    for each in inputs:
        if each.name not in scored:
            new.append(each)
        elif found := difference(scored[each.name], _plain(each)):
            again = put_back([f"inputs[{each.name}].{text}" for text in found])
            raise OutputError(
                f"{each.name} has changed since it was scored into {standing.name} "
                f"({'; '.join(found)}), and --only-new takes added files only; "
                f"{f'{again}, or ' if again else ''}score it into another --out"
            )
    return tuple(new), follows(last)


def adopts(stands: PartStatement, wanted: PartStatement) -> bool:
    """Return whether a part that stands in the store will do for the one that was wanted.

    It must be of the same job and rows; which of them failed is the first writer's to say.
    """
    return (stands.fingerprint, stands.segment, stands.input, stands.row_begin, stands.row_end) == (
        wanted.fingerprint,
        wanted.segment,
        wanted.input,
        wanted.row_begin,
        wanted.row_end,
    )


def joins(parts: Mapping[int, StoredPart], segment: Segment) -> bool:
    """Return whether a segment begins and ends where the parts beside it end and begin."""
    before, after = parts.get(segment.index - 1), parts.get(segment.index + 1)
    fits = True
    if before is not None:
        stated = before.statement
        is_same = stated.input == segment.file_index
        fits = stated.row_end == segment.row_begin if is_same else segment.row_begin == 0
    if after is not None and fits:
        stated = after.statement
        is_same = stated.input == segment.file_index
        fits = stated.row_begin == segment.row_end if is_same else stated.row_begin == 0
    return fits


def follows_on(before: PartStatement, after: PartStatement) -> bool:
    """Return whether two parts in order of segments may be parts of one job."""
    if after.input == before.input and after.segment == before.segment + 1:
        return after.row_begin == before.row_end
    is_later = (after.input, after.row_begin) > (before.input, before.row_begin)
    return is_later and (after.segment > before.segment + 1 or after.row_begin == 0)


def _plain(identity: InputIdentity) -> dict[str, object]:
    return {name: getattr(identity, name) for name in InputIdentity.__slots__}
