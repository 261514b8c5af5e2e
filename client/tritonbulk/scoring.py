"""Scoring: the composition of source, server, plan, driver and job into one run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from tritonbulk.assembly import (
    make_carriage,
    make_limits,
    make_pipeline,
    make_window,
    names_of,
    segment_rows_for,
)
from tritonbulk.bottleneck import Bottleneck, find_bottleneck
from tritonbulk.clocks import Stopwatch
from tritonbulk.driver import drive
from tritonbulk.errors import StoppedError, TritonbulkError
from tritonbulk.events import RunEvent
from tritonbulk.fleet import Fleet
from tritonbulk.job.commit import OpenJob, look, open_job
from tritonbulk.job.manifest import Manifest
from tritonbulk.job.protocol import StandingJob, check_start
from tritonbulk.job.stores.base import Store
from tritonbulk.job.stores.opening import open_store
from tritonbulk.jobrun import (
    JobInputs,
    asked_of,
    finished_job,
    job_inputs,
    make_spec,
    missing_segments,
    part_writer,
    write_empty,
)
from tritonbulk.options import ScoreOptions
from tritonbulk.pipeline import Driven
from tritonbulk.plan import Plan, make_plan
from tritonbulk.projection import project
from tritonbulk.reporting import Reporter
from tritonbulk.result import ScoreResult
from tritonbulk.server_statistics import total_seconds
from tritonbulk.session import (
    Servers,
    confirmation,
    connect,
    read_contract,
    read_statistics,
    serve,
)
from tritonbulk.source import open_source
from tritonbulk.transport import (
    Carriage,
    Endpoint,
    ServedModel,
    Transport,
    open_transport,
    open_transports,
)


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


async def run_score(
    options: ScoreOptions,
    observer: Observer | None = None,
    stop: asyncio.Event | None = None,
    ready: Servers | None = None,
) -> ScoreResult:
    """Carry out one scoring run; see `score` for what it raises.

    Args:
        options: what to do.
        observer: told how it goes.
        stop: asks the run to end early.
        ready: where to send the requests, for whoever has a server already and the right to share
            memory with it; None: those that ``options`` name, else an embedded one.

    Raises:
        StoppedError: ``stop`` was set before the last segment was read; what is complete is
            committed, and a run of the same job does the rest.
    """
    observer = observer or Observer()
    store = open_store(options.out, is_single_writer=options.single_writer)
    reporter = Reporter(options)
    try:
        result = await _run_job(options, store, _recorded(observer, reporter), stop, ready)
    except TritonbulkError as error:
        await asyncio.to_thread(reporter.fail, store, error)
        raise
    result, problem = await asyncio.to_thread(reporter.finish, store, result)
    if problem:
        observer.say(problem)
    if options.single_file is not None:
        finished = await asyncio.to_thread(look, store)
        await asyncio.to_thread(
            project, store, finished.listed, options.single_file, csv_guard=options.csv_guard
        )
        observer.say(f"all rows are in {options.single_file} as well")
    return result


def _recorded(observer: Observer, reporter: Reporter) -> Observer:
    """Return an observer that the reporter listens to as well."""

    def begin(rows: int | None) -> None:
        reporter.begin()
        observer.begin(rows)

    def note(event: RunEvent) -> None:
        reporter.note(event)
        if observer.note is not None:
            observer.note(event)

    return replace(observer, begin=begin, note=note)


async def _run_job(
    options: ScoreOptions,
    store: Store,
    observer: Observer,
    stop: asyncio.Event | None,
    ready: Servers | None,
) -> ScoreResult:
    watch = Stopwatch()
    source = open_source(options.inputs, options.input_format, options.columns, options.where)
    contract = read_contract(options)
    standing = await asyncio.to_thread(look, store)
    check_start(standing, is_fresh=options.fresh)
    inputs = await asyncio.to_thread(job_inputs, source, options, standing)
    if inputs is None:
        observer.say(f"no input is new: every file is in {store.name} already")
        return _unneeded(options, store, standing.jobs[-1], watch)
    asked = await asyncio.to_thread(asked_of, options)
    if finished := finished_job(standing, inputs, asked):
        observer.say(f"this job is finished already; see {store.name}")
        return _unneeded(options, store, finished, watch)
    watch.pause()
    given = contextlib.nullcontext(ready) if ready else serve(options, observer.say)
    async with given as servers:
        watch.resume()
        async with connect(servers, options, observer.say) as (endpoints, model):
            plan = make_plan(options, model, source.schema, contract, source.name)
            segment_rows = options.segment_rows or segment_rows_for(source, plan)
            job = await asyncio.to_thread(
                open_job,
                store,
                make_spec(options, inputs, model, plan, segment_rows),
                standing,
                observer.say,
                asked=asked,
                is_fresh=options.fresh,
            )
            if isinstance(job, StandingJob):
                observer.say(f"this job is finished already; see {store.name}")
                return _unneeded(options, store, job, watch)
            run = _Run(options, observer, watch, servers, endpoints, model, plan, inputs, job, stop)
            result = await run.carry_out(segment_rows)
        watch.pause()
    return result


def _tell_profile(options: ScoreOptions, observer: Observer) -> None:
    if (profile := options.profile) is not None:
        observer.say(
            f"the profile pins {profile.batch_rows:,} rows a request and {profile.in_flight} "
            f"requests in flight, which scored {profile.rows_per_second:,.0f} rows/s when measured"
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a job, everything decided."""

    options: ScoreOptions
    observer: Observer
    watch: Stopwatch
    servers: Servers
    endpoints: list[Endpoint]
    model: ServedModel
    plan: Plan
    inputs: JobInputs
    job: OpenJob
    stop: asyncio.Event | None

    async def carry_out(self, segment_rows: int) -> ScoreResult:
        """Score the missing segments, finish the job and return what was done."""
        options, plan, source = self.options, self.plan, self.inputs.source
        before = len(self.job.parts)
        if before:
            self.observer.say(f"going on with a job of which {before} segments are done")
        rows = self._rows_expected()
        _tell_profile(options, self.observer)
        self.observer.begin(rows)
        carriage = make_carriage(options, plan, self.servers)
        counted = await read_statistics(self.endpoints, self.model)
        async with (
            open_transports(
                carriage, self.endpoints, self.servers.shared_memory, self.observer.say
            ) as transports,
            contextlib.AsyncExitStack() as stack,
        ):
            fleet = self._fleet(carriage, stack)
            pipeline = make_pipeline(
                source,
                missing_segments(self.inputs, self.job, plan, segment_rows, options.limit_rows),
                self.model,
                plan,
                part_writer(self.job, plan.keep),
                confirmation(lambda: fleet.endpoints, self.model, options.outage_s),
            )
            driven = await drive(
                pipeline,
                make_limits(options, rows),
                make_window(options, plan.request_bytes, len(self.endpoints)),
                transports,
                self.observer.advance,
                # A server of ours that can be mended need not end the run.
                self.servers.watch if self.servers.heal is None else lambda: None,
                self.stop,
                options.stop_grace_s,
                self.observer.note,
                fleet,
                self.observer.say,
            )
            transport = names_of(transports)
        if driven.stopped:
            raise StoppedError(
                f"stopped with {len(self.job.parts)} segments in {self.job.store.name}; the same "
                "command goes on with the rest"
            )
        bottleneck = find_bottleneck(
            driven.stages,
            total_seconds(
                counted, await read_statistics(self.endpoints, self.model), self.model.instances
            ),
        )
        if not self.job.parts:
            await asyncio.to_thread(write_empty, self.job, source, plan)
        manifest, _ = await asyncio.to_thread(self.job.finish)
        return self._result(driven, transport, manifest, before, bottleneck)

    def _fleet(self, carriage: Carriage, stack: contextlib.AsyncExitStack) -> Fleet:
        def open_one(
            endpoint: Endpoint, stack: contextlib.AsyncExitStack
        ) -> Coroutine[Any, Any, Transport]:
            access = self.servers.shared_memory
            return open_transport(carriage, endpoint, access, self.observer.say, stack)

        return Fleet(
            self.servers.addresses,
            self.endpoints,
            self.model,
            self.servers.connect,
            open_one,
            self.servers.heal,
            stack,
        )

    def _rows_expected(self) -> int | None:
        """Return how many rows will be scored, None where only reading tells."""
        rows = self.inputs.source.rows
        if rows is None or self.options.where is not None:
            return None
        if self.options.limit_rows is not None:
            rows = min(rows, self.options.limit_rows)
        return rows - sum(part.statement.rows for part in self.job.parts.values())

    def _result(
        self,
        driven: Driven,
        transport: str,
        manifest: Manifest,
        before: int,
        bottleneck: Bottleneck | None,
    ) -> ScoreResult:
        rows_scored = driven.rows_ok + driven.rows_failed
        seconds, cpu_s = self.watch.now()
        return ScoreResult(
            rows_in=rows_scored + driven.rows_filtered,
            rows_scored=rows_scored,
            rows_ok=driven.rows_ok,
            rows_failed=driven.rows_failed,
            seconds=round(seconds, 6),
            rows_per_second=round(rows_scored / seconds, 1),
            cpu_seconds_client=round(cpu_s, 6),
            requests=driven.requests,
            batch_rows=self.plan.batch_rows,
            in_flight_max=driven.in_flight_max,
            model=self.model.name,
            model_version=self.model.version,
            endpoints=self.servers.addresses,
            transport=transport,
            output=self.job.store.name,
            rows_filtered=driven.rows_filtered,
            job=self.job.file.fingerprint,
            job_rows=manifest.rows,
            job_rows_failed=manifest.rows_failed,
            segments=len(manifest.parts) - before,
            segments_before=before,
            bottleneck=bottleneck,
            profile=self.options.profile,
        )


def _unneeded(
    options: ScoreOptions, store: Store, job: StandingJob, watch: Stopwatch
) -> ScoreResult:
    """Return the result of a run that found its job finished."""
    assert job.manifest is not None, "only a finished job needs no run"
    watch.pause()
    model = job.file.spec["model"]
    return ScoreResult(
        rows_in=0,
        rows_scored=0,
        rows_ok=0,
        rows_failed=0,
        seconds=round(watch.wall_s, 6),
        rows_per_second=0.0,
        cpu_seconds_client=round(watch.cpu_s, 6),
        requests=0,
        batch_rows=job.file.spec["batch_rows"],
        in_flight_max=0,
        model=model["name"],
        model_version=model["version"],
        endpoints=(),
        transport="",
        output=store.name,
        rows_filtered=0,
        job=job.file.fingerprint,
        job_rows=job.manifest.rows,
        job_rows_failed=job.manifest.rows_failed,
        segments=0,
        segments_before=len(job.manifest.parts),
        bottleneck=None,
        profile=options.profile,
    )
