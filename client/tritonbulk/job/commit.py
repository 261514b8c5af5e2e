"""Commit: carries the protocol out on a store.

A put is followed by a look at what stands there; only what was read from the store counts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

from tritonbulk.errors import DamagedError, MissingError, OutputError
from tritonbulk.job.extent import others_of
from tritonbulk.job.manifest import Manifest, StoredPart, make_manifest, read_manifest
from tritonbulk.job.protocol import (
    Standing,
    StandingJob,
    Start,
    adopts,
    job_names,
    start,
)
from tritonbulk.job.puts import answer_of, settle
from tritonbulk.job.repair import part_faults
from tritonbulk.job.spec import JobFile, JobSpec, read_job
from tritonbulk.job.statement import PartStatement, part_number, read_part, seal
from tritonbulk.job.stock import take_stock
from tritonbulk.job.stores.base import Store
from tritonbulk.shards import Shard


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job that is being worked on, by this run and perhaps by others.

    Attributes:
        store: where it stands.
        file: what it is.
        increment: 0 for the first job of the prefix.
        parts: what is known to stand in the store, by segment; of a shard, what is its own.
        others: segments, counted from 0 in the job, that other shards care for.
        sleep: waits so many seconds; it may raise to end what nobody waits for, and is called
            with 0 where only that is asked.
    """

    store: Store
    file: JobFile
    increment: int
    parts: dict[int, StoredPart] = field(default_factory=dict)
    others: Container[int] = ()
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

        part = settle(self.store, name, data, judge, self.sleep)
        self.parts[wanted.segment] = part
        return part

    def finish(self, rows: Sequence[int] | None = None) -> tuple[Manifest, str]:
        """Create the manifest of what stands in the store, and return it and its hex digest.

        Args:
            rows: of each input; None where the job's spec or who read them vouches for them.

        Raises:
            MissingError: the parts are not all there; a retry scores those that are missing.
            OutputError: another manifest stands there; a retry does not help.
            SinkError: it could not be written; a retry helps once the cause is gone.
        """
        try:
            manifest = make_manifest(self.file, self.parts.values(), rows)
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

        digest = settle(self.store, name, data, judge, self.sleep)
        self.store.tidy()
        return manifest, digest

    def _check_parts(self) -> None:
        """Check that what was committed still stands there: a run may take hours.

        Raises:
            MissingError: a part has gone or changed its size; a retry scores it again.
        """
        stands = answer_of(partial(self.store.sizes, ""), self.sleep)
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
    sizes = answer_of(partial(store.sizes, ""), sleep)
    numbered = [each for each in sizes if part_number(each) is not None]
    parts = {each: sizes[each] for each in sorted(numbered, key=lambda at: part_number(at) or 0)}
    foreign = [each for each in sizes if part_number(each) is None and each[0] not in "_."]
    jobs: list[StandingJob] = []
    while True:
        job_name, manifest_name = job_names(len(jobs))
        data = answer_of(partial(store.read, job_name), sleep)
        if data is None:
            break
        file = read_job(data, f"{store.name}/{job_name}")
        data = answer_of(partial(store.read, manifest_name), sleep)
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


def open_job(
    store: Store,
    spec: JobSpec,
    standing: Standing,
    say: Callable[[str], None],
    *,
    asked: str = "",
    is_fresh: bool = False,
    shard: Shard | None = None,
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
        shard: which segments it is opened for; None for all. Parts of others are not looked at.
        sleep: see `OpenJob.sleep`.

    Raises:
        OutputError: another job stands there; says what differs. A retry does not help.
        SinkError: the store cannot be read or written; a retry helps once the cause is gone.
    """
    decided = start(standing, spec, is_fresh=is_fresh)
    if decided is Start.FINISHED:
        return next(job for job in standing.jobs if job.file.fingerprint == spec.fingerprint)
    answer_of(store.prepare, sleep)
    increment = len(standing.jobs) - (decided is Start.CONTINUE)
    file = JobFile(spec.to_plain(), spec.fingerprint, version("tritonbulk"), asked)
    name = job_names(increment)[0]

    def judge(found: bytes) -> JobFile:
        stands = read_job(found, f"{store.name}/{name}")
        # Another run may have begun one since we looked.
        start(Standing(store.name, (StandingJob(stands, None),), {}), spec, is_fresh=False)
        return stands

    file = settle(store, name, file.to_bytes(), judge, sleep)
    others = () if shard is None else others_of(file.spec, shard)
    parts = take_stock(store, file, standing, say, sleep, others)
    return OpenJob(store, file, increment, parts, others, sleep)


def _read_part(store: Store, name: str, data: bytes) -> PartStatement:
    try:
        return read_part(data)
    except DamagedError as error:
        raise MissingError(
            f"{store.name}/{name} is damaged ({error}); run the same command again, which sets it "
            "aside"
        ) from error
