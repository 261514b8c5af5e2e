"""Scoring: the composition of source, server, plan, driver and job into one run."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field, replace

from tritonbulk.assembly import segment_rows_for
from tritonbulk.clocks import Stopwatch
from tritonbulk.errors import OutputError, StoppedError, TritonbulkError
from tritonbulk.events import RunEvent
from tritonbulk.job.commit import look, open_job
from tritonbulk.job.protocol import Standing, StandingJob, check_server, check_start
from tritonbulk.job.repair import check_whole
from tritonbulk.job.stores.base import Store
from tritonbulk.job.stores.opening import open_store
from tritonbulk.jobrun import (
    JobInputs,
    asked_of,
    check_age,
    finished_job,
    job_inputs,
    make_spec,
    schema_of_parts,
)
from tritonbulk.model_control import ModelControl
from tritonbulk.modelfiles import check_loaded, hash_model
from tritonbulk.options import ScoreOptions
from tritonbulk.plan import Plan, make_plan
from tritonbulk.projection import project
from tritonbulk.reach import Reach
from tritonbulk.rejects import list_rejects
from tritonbulk.reporting import Reporter
from tritonbulk.result import (
    ScoreResult,
    beside,
    counts_of_manifest,
    standing_result,
    together,
)
from tritonbulk.running import Observer, Run
from tritonbulk.scorer_options import DEFAULT_REPOSITORY
from tritonbulk.session import Servers, connect, read_contract, serve
from tritonbulk.sinks.base import Sink
from tritonbulk.sinks.opening import open_sink
from tritonbulk.sinks.publish import prepare, publish
from tritonbulk.source import Source, open_source


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
    sink = None if options.to is None else open_sink(options.to, options.table)
    reporter = Reporter(options)
    job = _Job(options, store, _recorded(observer, reporter), stop, ready, sink)
    try:
        try:
            result = await job.run()
        except TritonbulkError as error:
            await asyncio.to_thread(reporter.fail, store, error)
            raise
        result, problem = await asyncio.to_thread(reporter.finish, store, result)
        if problem:
            observer.say(problem)
        if options.single_file is not None:
            await job.project()
        await job.publish()
    finally:
        job.leaving.set()
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


@dataclass(frozen=True, slots=True)
class _Job:
    """What is asked of one output.

    Attributes:
        sink: where all rows go at the end.
        leaving: set once nobody waits any more for what threads do.
    """

    options: ScoreOptions
    store: Store
    observer: Observer
    stop: asyncio.Event | None
    ready: Servers | None
    sink: Sink | None
    leaving: threading.Event = field(default_factory=threading.Event)

    def sleep(self, seconds: float) -> None:
        """Wait in a thread, unless nobody waits for it any more; see `OpenJob.sleep`."""
        if self.leaving.wait(seconds):
            raise StoppedError("stopped; the same command goes on with the rest")

    async def run(self) -> ScoreResult:
        """Score what is missing; of increments also those files that came since the last one."""
        options = self.options
        if options.single_writer:
            self.observer.say(
                "warning: --single-writer leaves it to you that no other run writes to "
                f"{self.store.name}; leave it out where objects can be created without replacing"
            )
        source = await asyncio.to_thread(
            open_source,
            options.inputs,
            options.input_format,
            options.columns,
            options.where,
            leave_out=options.written,
            is_untrusted=options.untrusted,
        )
        standing = await self._look()
        try:
            result, was_begun = await self._once(source, standing)
        except OutputError:
            if options.shard is None or not options.only_new:
                raise
            # Another shard may have begun the increment since we looked, before the newest files
            # came: then its files are those to score.
            looked, standing = standing, await self._look()
            if len(standing.jobs) == len(looked.jobs):
                raise
            result, was_begun = await self._once(source, standing)
        # What an earlier run has left unfinished comes first; then the files that are new.
        while was_begun and options.only_new and not self._is_stopping():
            more, was_begun = await self._once(source, await self._look())
            result = together(result, more)
        return result

    async def _look(self) -> Standing:
        return await asyncio.to_thread(look, self.store, self.sleep)

    async def project(self) -> None:
        """Write all rows into one file."""
        path = self.options.single_file
        assert path is not None, "only what is asked for"
        finished = await self._look()
        await asyncio.to_thread(
            project,
            self.store,
            finished.listed,
            path,
            csv_guard=self.options.csv_guard,
            is_single_writer=self.options.single_writer,
            sleep=self.sleep,
        )
        self.observer.say(f"all rows are in {path} as well")

    async def publish(self) -> None:
        """Add all rows to the sink, which may hold some of them."""
        if self.sink is None:
            return
        done = await asyncio.to_thread(
            publish, self.store, self.sink, say=self.observer.say, sleep=self.sleep
        )
        self.observer.say(f"{done.rows:,} rows published to {done.to}")

    def _is_stopping(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    async def _once(self, source: Source, standing: Standing) -> tuple[ScoreResult, bool]:
        """Carry out one job; return its result and whether an earlier run had begun it."""
        options, watch = self.options, Stopwatch()
        contract = read_contract(options)
        check_start(standing, is_fresh=options.fresh)
        check_whole(standing)
        if problem := await asyncio.to_thread(list_rejects, self.store, standing.jobs):
            self.observer.say(problem)
        inputs = await asyncio.to_thread(job_inputs, source, options, standing)
        if inputs is None:
            said = f"no input is new: every file is in {self.store.name} already"
            return self._unneeded(standing, standing.jobs[-1], watch, said), False
        repository = options.repository or DEFAULT_REPOSITORY
        is_embedded = not (options.endpoints or self.ready)
        check_server(standing, is_embedded=is_embedded)
        files = None
        if is_embedded:
            files = await asyncio.to_thread(hash_model, repository, options.model)
        asked = asked_of(options, files)
        said = f"this job is finished already; see {self.store.name}"
        if finished := finished_job(standing, inputs, asked):
            return self._unneeded(standing, finished, watch, said), False
        watch.pause()
        given = contextlib.nullcontext(self.ready) if self.ready else serve(options, self._say)
        async with given as servers:
            watch.resume()
            control = ModelControl(options.load_model, options.unload_model)
            async with connect(servers, options, self._say, control) as (endpoints, model):
                if files is not None:
                    await asyncio.to_thread(check_loaded, repository, options.model, files)
                plan = make_plan(options, model, source.schema, contract, source.name)
                if self.sink is not None:  # it says before the first row whether it takes them
                    schema = schema_of_parts(options, source.schema, plan)
                    await asyncio.to_thread(prepare, self.sink, schema, self._say, self.sleep)
                segment_rows = _segment_rows(options, standing, inputs, plan)
                spec = make_spec(options, inputs, model, plan, segment_rows, files)
                if options.max_age_s is not None and not self._was_begun(standing):
                    # One that was begun has begun on inputs that were fresh, and are the same.
                    check_age(inputs, options.max_age_s)
                job = await asyncio.to_thread(
                    open_job,
                    self.store,
                    spec,
                    standing,
                    self._say,
                    asked=asked,
                    is_fresh=options.fresh,
                    shard=options.shard,
                    sleep=self.sleep,
                )
                if isinstance(job, StandingJob):
                    return self._unneeded(standing, job, watch, said), False
                run = Run(
                    options,
                    self.observer,
                    watch,
                    Reach(options, servers, endpoints, model, plan),
                    inputs,
                    job,
                    self.leaving,
                    self.stop,
                )
                result = await run.carry_out(segment_rows)
            watch.pause()
        result = beside(result, standing.manifests)
        if options.shard is None:
            return result, self._was_begun(standing)
        # Of what a shard leaves unfinished others have their share.
        if inputs.newer:
            self._say(
                f"files that came since this increment was begun: {inputs.newer:,}; the run after "
                "tritonbulk commit scores them"
            )
        return result, False

    @staticmethod
    def _was_begun(standing: Standing) -> bool:
        return bool(standing.jobs) and standing.jobs[-1].manifest is None

    def _say(self, text: str) -> None:
        self.observer.say(text)

    def _unneeded(
        self, standing: Standing, job: StandingJob, watch: Stopwatch, said: str
    ) -> ScoreResult:
        """Return the result of a run that found its job finished."""
        assert job.manifest is not None, "only a finished job needs no run"
        self.observer.say(said)
        watch.pause()
        done = standing_result(
            self.store.name,
            job.file,
            counts_of_manifest(job.manifest),
            watch.wall_s,
            watch.cpu_s,
            len(job.manifest.parts),
        )
        done = replace(done, profile=self.options.profile, shard=self.options.shard)
        return beside(done, standing.manifests)


def _segment_rows(options: ScoreOptions, standing: Standing, inputs: JobInputs, plan: Plan) -> int:
    """Return the rows of a segment: as asked for, else as the job was begun with.

    Files that are added later may have wider rows; what was derived from the first ones holds.
    """
    if options.segment_rows is not None:
        return options.segment_rows
    if standing.jobs:
        return int(standing.jobs[0].file.spec["segment_rows"])
    return segment_rows_for(inputs.source, plan)
