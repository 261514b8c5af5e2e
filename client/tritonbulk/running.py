"""Running: one run of a job, everything decided, from its first missing segment to its manifest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from tritonbulk.assembly import make_limits, make_pipeline, naming
from tritonbulk.bottleneck import Bottleneck, find_bottleneck
from tritonbulk.clocks import Stopwatch
from tritonbulk.dispatch import Limits
from tritonbulk.errors import FailureLimitError, SinkError, StoppedError
from tritonbulk.events import RunEvent
from tritonbulk.job.commit import OpenJob
from tritonbulk.job.extent import rows_in
from tritonbulk.job.sharing import tell_count, tell_rows
from tritonbulk.jobrun import (
    JobInputs,
    missing_segments,
    part_writer,
    write_empty,
)
from tritonbulk.options import ScoreOptions
from tritonbulk.pipeline import Driven, Pipeline
from tritonbulk.reach import Confirm, Reach
from tritonbulk.rejects import write_rejects
from tritonbulk.result import (
    PartCounts,
    ScoreResult,
    counts_of_manifest,
    counts_of_parts,
    standing_result,
)
from tritonbulk.server_statistics import total_seconds


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is told how a run goes; every function returns at once.

    Attributes:
        say: told one sentence at a time about what happens before the first row, and about a
            transport that gives way to another.
        begin: told how many rows there are to score; None where only the end will tell.
        advance: told (rows scored, rows failed) so far, after each answer.
        note: told each event of requests and endpoints; None: nobody wants to know.
    """

    say: Callable[[str], None] = lambda _: None
    begin: Callable[[int | None], None] = lambda _: None
    advance: Callable[[int, int], None] = lambda *_: None
    note: Callable[[RunEvent], None] | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job, everything decided.

    Attributes:
        reach: the model on its servers, and what is done with it there.
        leaving: set once nobody waits any more for what threads do; `OpenJob.sleep` looks at it.
        stop: asks the run to end early.
    """

    options: ScoreOptions
    observer: Observer
    watch: Stopwatch
    reach: Reach
    inputs: JobInputs
    job: OpenJob
    leaving: threading.Event
    stop: asyncio.Event | None

    async def carry_out(self, segment_rows: int) -> ScoreResult:
        """Score the missing segments, finish the job and return what was done."""
        before = len(self.job.parts)
        if before:
            self.observer.say(f"going on with a job of which {before} segments are done")
        rows = self._rows_expected()
        self._tell_profile()
        self.observer.begin(rows)
        counted = await self.reach.counted()
        if (shard := self.options.shard) is not None:
            await asyncio.to_thread(tell_count, self.job, shard.count)
        rows_read: dict[int, int] = {}
        driven, transport = await self._drive(segment_rows, rows_read)
        if driven.stopped:
            raise StoppedError(
                f"stopped with {len(self.job.parts)} segments in {self.job.store.name}; the same "
                "command goes on with the rest"
            )
        bottleneck = find_bottleneck(
            driven.stages,
            total_seconds(counted, await self.reach.counted(), self.reach.model.instances),
        )
        end = self._end_job if shard is None else partial(self._end_shard, rows_read)
        counts = await asyncio.to_thread(end)
        return self._result(driven, transport, counts, before, bottleneck)

    def _end_job(self) -> PartCounts:
        """Finish the job, and return what it holds."""
        if not self.job.parts:
            self._write_empty()
        manifest, _ = self.job.finish()
        if manifest.rows_failed:
            try:
                write_rejects(self.job.store, self.job.file, manifest, self.job.increment)
            except SinkError as error:
                self.observer.say(f"the job is finished, but its rejects are not listed: {error}")
        return counts_of_manifest(manifest)

    def _end_shard(self, rows_read: Mapping[int, int]) -> PartCounts:
        """Leave what others need to finish the job, and return what this shard's parts hold."""
        if not any(rows_read.values()) and 0 not in self.job.others:
            self._write_empty()
        tell_rows(self.job, rows_read)
        return counts_of_parts(self.job.parts.values())

    def _write_empty(self) -> None:
        has_status = self.options.status_columns
        write_empty(self.job, self.inputs.source, self.reach.plan, has_status=has_status)

    async def _drive(self, segment_rows: int, rows_read: dict[int, int]) -> tuple[Driven, str]:
        """Score the missing segments; return what was done, and what carried the requests.

        ``rows_read`` gets the rows of each input, by position.
        """
        observer, options = self.observer, self.options
        try:
            driven = await self.reach.drive(
                lambda confirm: self._pipeline(segment_rows, confirm, rows_read),
                self._limits(),
                observer.say,
                observer.advance,
                observer.note,
                self.stop,
                options.stop_grace_s,
            )
        except FailureLimitError as error:
            if options.status_columns:
                raise
            raise FailureLimitError(
                f"{error}; --no-status leaves no place for a failed row, so score into another "
                "--out without it"
            ) from None
        self.leaving.clear()  # the driver's threads have ended; what follows is waited for
        return driven

    def _pipeline(self, segment_rows: int, confirm: Confirm, rows_read: dict[int, int]) -> Pipeline:
        options, reach = self.options, self.reach
        segments = missing_segments(
            self.inputs,
            self.job,
            reach.plan,
            segment_rows,
            options.limit_rows,
            rows_read.__setitem__,
        )
        return make_pipeline(
            naming(self.inputs.source),
            segments,
            reach.model,
            reach.plan,
            part_writer(self.job, reach.plan.keep, has_status=options.status_columns),
            confirm,
            self.leaving,
            options.priority,
            fails_nan=options.nan == "fail",
        )

    def _limits(self) -> Limits:
        """Return the bounds of this run; rows that failed in earlier ones count."""
        statements = [part.statement for part in self.job.parts.values()]
        return replace(
            make_limits(self.options, self._job_rows(), self.reach.plan.request_bytes),
            rows_before=sum(each.rows for each in statements),
            rows_failed_before=sum(each.rows_failed for each in statements),
        )

    def _job_rows(self) -> int | None:
        """Return how many rows the whole job or shard has, None where only reading tells."""
        if self.options.where is not None:
            return None
        return rows_in(self.job.file.spec, self.job.others)

    def _rows_expected(self) -> int | None:
        """Return how many rows will be scored, None where only reading tells."""
        rows = self._job_rows()
        if rows is None:
            return None
        return rows - sum(part.statement.rows for part in self.job.parts.values())

    def _tell_profile(self) -> None:
        if (profile := self.options.profile) is not None:
            self.observer.say(
                f"the profile pins {profile.batch_rows:,} rows a request and {profile.in_flight} "
                f"requests in flight, which scored {profile.rows_per_second:,.0f} rows/s when "
                "measured"
            )

    def _result(
        self,
        driven: Driven,
        transport: str,
        counts: PartCounts,
        before: int,
        bottleneck: Bottleneck | None,
    ) -> ScoreResult:
        rows_scored = driven.rows_ok + driven.rows_failed
        seconds, cpu_s = self.watch.now()
        return replace(
            standing_result(self.job.store.name, self.job.file, counts, seconds, cpu_s, before),
            rows_in=rows_scored + driven.rows_filtered,
            rows_scored=rows_scored,
            rows_ok=driven.rows_ok,
            rows_failed=driven.rows_failed,
            rows_per_second=round(rows_scored / seconds, 1),
            requests=driven.requests,
            in_flight_max=driven.in_flight_max,
            endpoints=self.reach.servers.addresses,
            transport=transport,
            rows_filtered=driven.rows_filtered,
            bottleneck=bottleneck,
            profile=self.options.profile,
            shard=self.options.shard,
        )
