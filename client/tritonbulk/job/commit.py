"""Commit: carries the protocol out on a store.

A put is followed by a look at what stands there; only what was read from the store counts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

from tritonbulk.errors import DamagedError, MissingError, OutputError, SinkError
from tritonbulk.job.manifest import Manifest, StoredPart, make_manifest, read_manifest
from tritonbulk.job.protocol import (
    OWN_FOLDER,
    Put,
    Standing,
    StandingJob,
    Start,
    adopts,
    job_names,
    part_faults,
    start,
)
from tritonbulk.job.spec import JobFile, JobSpec, read_job
from tritonbulk.job.statement import PartStatement, part_number, read_part, seal
from tritonbulk.job.stores.base import Store, UnsureError

PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses between attempts where a store does not answer, or does not say what became of a put."""

READERS = 4
"""Parts read at once when a job is continued."""

MARK_DIGITS = 12
"""Hex digits of its digest in the name of a damaged part that is set aside."""

_Judged = TypeVar("_Judged")


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job that is being worked on, by this run and perhaps by others.

    Attributes:
        store: where it stands.
        file: what it is.
        increment: 0 for the first job of the prefix.
        parts: what is known to stand in the store, by segment.
        sleep: waits so many seconds; it may raise to end what nobody waits for, and is called
            with 0 where only that is asked.
    """

    store: Store
    file: JobFile
    increment: int
    parts: dict[int, StoredPart] = field(default_factory=dict)
    sleep: Callable[[float], None] = time.sleep

    def commit(self, wanted: PartStatement, unsealed: bytes) -> StoredPart:
        """Make a segment's part stand in the store, and return it as it stands there.

        Args:
            wanted: what the part says of itself.
            unsealed: its bytes, with that statement.

        Raises:
            OutputError: a part of another job stands there; a retry does not help.
            MissingError: a damaged one does; a retry sets it aside.
            StoppedError: it did not appear by the time nobody waited for it any more.
            SinkError: it could not be written; a retry helps once the cause is gone.
        """
        name = self.file.part_name(wanted.segment)
        data, sha256 = seal(unsealed)

        def judge(found: bytes) -> StoredPart:
            if found == data:  # then neither its seal nor its digest can be another
                return StoredPart(name, wanted, len(found), sha256)
            stands = _read_part(self.store, name, found)
            if not adopts(stands, wanted):
                raise OutputError(
                    f"{self.store.name}/{name} is a part of another job; only one job may write "
                    "under a prefix, so give another --out"
                )
            return StoredPart.of(name, stands, found)

        part = _settle(self.store, name, data, judge, self.sleep)
        self.parts[wanted.segment] = part
        return part

    def finish(self) -> tuple[Manifest, str]:
        """Create the manifest of what stands in the store, and return it and its hex digest.

        Raises:
            MissingError: the parts are not all there; a retry scores those that are missing.
            OutputError: another manifest stands there; a retry does not help.
            SinkError: it could not be written; a retry helps once the cause is gone.
        """
        try:
            manifest = make_manifest(self.file, self.parts.values())
        except DamagedError as error:
            raise MissingError(f"{self.store.name}: {error}; run the same command again") from error
        self._check_parts()
        name = job_names(self.increment)[1]
        data = manifest.to_bytes()

        def judge(found: bytes) -> str:
            if found != data:
                raise OutputError(
                    f"{self.store.name}/{name} does not list the parts that stand there; run "
                    "tritonbulk verify, and restore them or give another --out"
                )
            return hashlib.sha256(found).hexdigest()

        digest = _settle(self.store, name, data, judge, self.sleep)
        self.store.tidy()
        return manifest, digest

    def _check_parts(self) -> None:
        """Check that what was committed still stands there: a run may take hours.

        Raises:
            MissingError: a part has gone or changed its size; a retry scores it again.
        """
        stands = _asked(partial(self.store.sizes, ""), self.sleep)
        for part in self.parts.values():
            if stands.get(part.name) != part.size:
                how = "has changed" if part.name in stands else "has gone"
                raise MissingError(
                    f"{self.store.name}/{part.name} {how} since it was written; run the same "
                    "command again, which scores its rows anew"
                )


def look(store: Store, sleep: Callable[[float], None] = time.sleep) -> Standing:
    """Return what stands under a prefix; nothing is changed.

    Raises:
        OutputError: a job there is of another format version; no retry.
        DamagedError: a job file or manifest is damaged; a retry does not help.
        SinkError: the prefix cannot be read; a retry helps once the cause is gone.
    """
    standing = _look_once(store, sleep)
    if any(part_faults(standing, at) for at in range(len(standing.jobs))):
        # Another run may have finished the job between the list and the manifest.
        return _look_once(store, sleep)
    return standing


def _look_once(store: Store, sleep: Callable[[float], None]) -> Standing:
    # Parts first: whoever made one had made the job before.
    sizes = _asked(partial(store.sizes, ""), sleep)
    numbered = [each for each in sizes if part_number(each) is not None]
    parts = {each: sizes[each] for each in sorted(numbered, key=lambda at: part_number(at) or 0)}
    foreign = [each for each in sizes if part_number(each) is None and each[0] not in "_."]
    jobs: list[StandingJob] = []
    while True:
        job_name, manifest_name = job_names(len(jobs))
        data = _asked(partial(store.read, job_name), sleep)
        if data is None:
            break
        file = read_job(data, f"{store.name}/{job_name}")
        data = _asked(partial(store.read, manifest_name), sleep)
        if data is None:
            jobs.append(StandingJob(file, None))
            break
        manifest = read_manifest(data, f"{store.name}/{manifest_name}")
        if manifest.fingerprint != file.fingerprint:
            raise DamagedError(
                f"{store.name}/{manifest_name} is not the manifest of {job_name} beside it; "
                "restore both from a copy"
            )
        jobs.append(StandingJob(file, manifest, hashlib.sha256(data).hexdigest()))
    return Standing(store.name, tuple(jobs), parts, tuple(foreign))


def read_listed(
    store: Store, entry: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep
) -> bytes:
    """Return the bytes of a part, which are those that its entry in a manifest lists.

    Raises:
        DamagedError: they are not, or it has gone; a retry does not help.
        SinkError: it cannot be read; a retry helps once the cause is gone.
    """
    data = read_object(store, entry["name"], sleep)
    if (len(data), hashlib.sha256(data).hexdigest()) != (entry["bytes"], entry["sha256"]):
        raise DamagedError("its bytes are not those of the manifest")
    return data


def read_object(store: Store, name: str, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """Return the bytes of an object that must be there.

    Raises:
        DamagedError: it is not; a retry does not help.
        SinkError: it cannot be read; a retry helps once the cause is gone.
    """
    data = _asked(partial(store.read, name), sleep)
    if data is None:
        raise DamagedError("it is missing")
    return data


def open_job(
    store: Store,
    spec: JobSpec,
    standing: Standing,
    say: Callable[[str], None],
    *,
    asked: str = "",
    is_fresh: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> OpenJob | StandingJob:
    """Return the job to work on, created or continued, or the finished one that stands there.

    Args:
        store: where it stands; made ready where something is to be written.
        spec: what is asked for.
        standing: what `look` has found.
        say: told one sentence about every damaged part that is set aside.
        asked: see `JobFile.asked`.
        is_fresh: refuse anything that stands there.
        sleep: see `OpenJob.sleep`.

    Raises:
        OutputError: another job stands there; says what differs. A retry does not help.
        SinkError: the store cannot be read or written; a retry helps once the cause is gone.
    """
    decided = start(standing, spec, is_fresh=is_fresh)
    if decided is Start.FINISHED:
        return next(job for job in standing.jobs if job.file.fingerprint == spec.fingerprint)
    _asked(store.prepare, sleep)
    increment = len(standing.jobs) - (decided is Start.CONTINUE)
    file = JobFile(spec.to_plain(), spec.fingerprint, version("tritonbulk"), asked)
    name = job_names(increment)[0]

    def judge(found: bytes) -> JobFile:
        stands = read_job(found, f"{store.name}/{name}")
        # Another run may have begun one since we looked.
        start(Standing(store.name, (StandingJob(stands, None),), {}), spec, is_fresh=False)
        return stands

    file = _settle(store, name, file.to_bytes(), judge, sleep)
    job = OpenJob(store, file, increment, sleep=sleep)
    _take_stock(job, standing, say)
    return job


def _take_stock(job: OpenJob, standing: Standing, say: Callable[[str], None]) -> None:
    """Read every part of the job that stands there; set aside what is damaged."""

    def inspect(name: str) -> StoredPart | None:
        job.sleep(0)
        data = _asked(partial(job.store.read, name), job.sleep)
        if data is None:
            return None
        try:
            return StoredPart.of(name, read_part(data), data)
        except DamagedError as error:
            say(f"{job.store.name}/{name} is damaged ({error}); it is set aside and scored again")
            # Named after its bytes: what is damaged twice is kept twice.
            mark = hashlib.sha256(data).hexdigest()[:MARK_DIGITS]
            aside = f"{OWN_FOLDER}/damaged/{name}.{mark}"
            _asked(partial(job.store.set_aside, name, aside, data), job.sleep)
            return None

    own = [name for name in standing.parts if (part_number(name) or 0) >= job.file.segment_begin]
    with ThreadPoolExecutor(READERS, "tritonbulk-stock") as readers:
        found = list(readers.map(inspect, own))
    for name, part in zip(own, found, strict=True):
        if part is None:
            continue
        statement = part.statement
        own_name = job.file.part_name(statement.segment)
        if (statement.fingerprint, own_name) != (job.file.fingerprint, name):
            raise OutputError(
                f"{job.store.name}/{name} is a part of another job; remove it, or give another "
                "--out"
            )
        job.parts[statement.segment] = part


def _settle(
    store: Store,
    name: str,
    data: bytes,
    judge: Callable[[bytes], _Judged],
    sleep: Callable[[float], None],
) -> _Judged:
    """Put an object, read what stands there then, and return what ``judge`` makes of it."""
    outcome = Put.UNKNOWN
    for pause_s in (*PAUSES_S, None):
        outcome = store.create(name, data)
        found = _asked(partial(store.read, name), sleep)
        if found is not None:
            return judge(found)
        if pause_s is not None:
            sleep(pause_s)
    raise SinkError(
        f"{store.name}/{name} did not appear after {len(PAUSES_S) + 1} attempts (the last one: "
        f"{outcome.name.lower()}); check the store, then run again"
    )


def _asked(question: Callable[[], _Judged], sleep: Callable[[float], None]) -> _Judged:
    """Return the answer of a store, asked again for a while where it does not answer."""
    for pause_s in PAUSES_S:
        try:
            return question()
        except UnsureError:
            sleep(pause_s)
    return question()


def _read_part(store: Store, name: str, data: bytes) -> PartStatement:
    try:
        return read_part(data)
    except DamagedError as error:
        raise MissingError(
            f"{store.name}/{name} is damaged ({error}); run the same command again, which sets it "
            "aside"
        ) from error
