"""Scoring: the composition of source, server, plan, driver and sink into one run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from tritonbulk.codec import Predictions, RequestEncoder, ResponseDecoder
from tritonbulk.contract import row_bytes
from tritonbulk.dispatch import (
    FixedWindow,
    GoodputWindow,
    Limits,
    Window,
    failed_rows_max,
    segment_rows_auto,
)
from tritonbulk.dispatch.limits import WINDOW_MAX_PER_ENDPOINT, WINDOW_START_PER_ENDPOINT
from tritonbulk.driver import drive
from tritonbulk.errors import InputError, StoppedError
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
    record_run,
    write_empty,
)
from tritonbulk.options import ScoreOptions
from tritonbulk.pipeline import Driven, Pipeline
from tritonbulk.plan import Plan, make_plan
from tritonbulk.projection import project
from tritonbulk.segments import Batch, Segment
from tritonbulk.session import Servers, confirmation, connect, read_contract, serve
from tritonbulk.source import Source, open_source
from tritonbulk.transport import (
    Carriage,
    Endpoint,
    ServedModel,
    Transport,
    choose_carriage,
    open_transports,
)


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What a scoring run did; the fields of ``score --json``.

    Attributes:
        rows_in: input rows that were read.
        rows_scored: of these, rows that stand in the output, with a prediction or their error.
        rows_ok: of these, rows with a prediction.
        rows_failed: of these, rows with an error.
        seconds: wall time from parsed options to the last commit, without starting or stopping
            an embedded server.
        rows_per_second: ``rows_scored / seconds``.
        cpu_seconds_client: user and system time of this process over the same span.
        requests: requests sent, repeated attempts included.
        batch_rows: rows of a full request.
        in_flight_max: most requests in flight at one moment.
        model: the model's name.
        model_version: the version that answered.
        endpoints: addresses of the servers.
        transport: what carried the requests at the end: unary, stream or shm; joined by "+" where
            endpoints differ.
        output: the output folder.
        rows_filtered: rows that were read and that ``where`` removed:
            ``rows_in - rows_scored``.
        job: the job's fingerprint.
        job_rows: rows in its output, those of earlier runs included.
        job_rows_failed: of these, rows with an error.
        segments: parts that this run made.
        segments_before: parts that stood there when it began.
    """

    rows_in: int
    rows_scored: int
    rows_ok: int
    rows_failed: int
    seconds: float
    rows_per_second: float
    cpu_seconds_client: float
    requests: int
    batch_rows: int
    in_flight_max: int
    model: str
    model_version: str
    endpoints: tuple[str, ...]
    transport: str
    output: str
    rows_filtered: int
    job: str
    job_rows: int
    job_rows_failed: int
    segments: int
    segments_before: int


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is told how a run goes; every function returns at once.

    Attributes:
        say: told one sentence at a time about what happens before the first row, and about a
            transport that gives way to another.
        begin: told how many rows there are to score; None where only the end will tell.
        advance: told (rows settled, rows failed) so far, after each answer.
    """

    say: Callable[[str], None] = lambda _: None
    begin: Callable[[int | None], None] = lambda _: None
    advance: Callable[[int, int], None] = lambda *_: None


async def run_score(
    options: ScoreOptions, observer: Observer | None = None, stop: asyncio.Event | None = None
) -> ScoreResult:
    """Carry out one scoring run; see `score` for what it raises.

    Raises:
        StoppedError: ``stop`` was set before the last segment was read; what is complete is
            committed, and a run of the same job does the rest.
    """
    observer = observer or Observer()
    store = open_store(options.out, is_single_writer=options.single_writer)
    result = await _run_job(options, store, observer, stop)
    if options.single_file is not None:
        finished = await asyncio.to_thread(look, store)
        await asyncio.to_thread(project, store, finished.parts, options.single_file)
        observer.say(f"all rows are in {options.single_file} as well")
    return result


async def _run_job(
    options: ScoreOptions, store: Store, observer: Observer, stop: asyncio.Event | None
) -> ScoreResult:
    watch = _Stopwatch()
    source = open_source(options.inputs, options.input_format, options.columns, options.where)
    contract = read_contract(options)
    standing = await asyncio.to_thread(look, store)
    check_start(standing, is_fresh=options.fresh)
    inputs = await asyncio.to_thread(job_inputs, source, options, standing)
    if inputs is None:
        observer.say(f"no input is new: every file is in {store.name} already")
        return _unneeded(options, standing.jobs[-1], watch)
    asked = await asyncio.to_thread(asked_of, options)
    if finished := finished_job(standing, inputs, asked):
        observer.say(f"this job is finished already; see {store.name}")
        return _unneeded(options, finished, watch)
    watch.pause()
    async with serve(options, observer.say) as servers:
        watch.resume()
        async with connect(servers, options, observer.say) as (endpoints, model):
            plan = make_plan(options, model, source.schema, contract, source.name)
            segment_rows = options.segment_rows or _segment_rows_auto(source, plan)
            if options.limit_rows is None and options.where is None:
                _check_nulls(inputs.source, plan)
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
                return _unneeded(options, job, watch)
            run = _Run(options, observer, watch, servers, endpoints, model, plan, inputs, job, stop)
            result = await run.carry_out(segment_rows)
        watch.pause()
    return result


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a job, everything decided."""

    options: ScoreOptions
    observer: Observer
    watch: _Stopwatch
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
        self.observer.begin(rows)
        pipeline = make_pipeline(
            source,
            missing_segments(self.inputs, self.job, plan, segment_rows, options.limit_rows),
            self.model,
            plan,
            part_writer(self.job, plan.keep),
            confirmation(self.endpoints, self.model, options.max_outage_s),
        )
        carriage = make_carriage(options, plan, self.servers)
        async with open_transports(
            carriage, self.endpoints, self.servers.shared_memory, self.observer.say
        ) as transports:
            driven = await drive(
                pipeline,
                make_limits(options, rows),
                make_window(options, len(self.endpoints)),
                transports,
                self.observer.advance,
                self.servers.watch,
                self.stop,
                options.stop_grace_s,
            )
            transport = names_of(transports)
        if driven.stopped:
            raise StoppedError(
                f"stopped with {len(self.job.parts)} segments in {self.job.store.name}; the same "
                "command goes on with the rest"
            )
        if not self.job.parts:
            await asyncio.to_thread(write_empty, self.job, source, plan)
        manifest, _ = await asyncio.to_thread(self.job.finish)
        result = self._result(driven, transport, manifest, before)
        await asyncio.to_thread(record_run, self.job.store, asdict(result))
        return result

    def _rows_expected(self) -> int | None:
        """Return how many rows will be scored, None where only reading tells."""
        rows = self.inputs.source.rows
        if rows is None or self.options.where is not None:
            return None
        if self.options.limit_rows is not None:
            rows = min(rows, self.options.limit_rows)
        return rows - sum(part.statement.rows for part in self.job.parts.values())

    def _result(
        self, driven: Driven, transport: str, manifest: Manifest, before: int
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
            output=str(self.options.out),
            rows_filtered=driven.rows_filtered,
            job=self.job.file.fingerprint,
            job_rows=manifest.rows,
            job_rows_failed=manifest.rows_failed,
            segments=len(manifest.parts) - before,
            segments_before=before,
        )


def make_pipeline(
    source: Source,
    segments: Iterator[tuple[Segment, pa.RecordBatch]],
    model: ServedModel,
    plan: Plan,
    write: Callable[[Segment, pa.RecordBatch, Predictions], object],
    confirm: Callable[[], Awaitable[None]],
) -> Pipeline:
    """Return the pipeline that scores ``segments`` of ``source`` by ``plan``.

    ``write`` and ``confirm`` are as in `Pipeline`.
    """

    def name_rows(segment: Segment, batch: Batch) -> str:
        name, begin = source.files[segment.file_index].name, batch.row_begin
        if not segment.rows_filtered:
            return f"{name}, counted from row {begin + segment.row_begin} ({batch.rows} rows)"
        end = segment.row_begin + segment.rows + segment.rows_filtered - 1
        return (
            f"{name}, counted from row {begin} of those that pass the filter among rows "
            f"{segment.row_begin} to {end}"
        )

    return Pipeline(
        segments=segments,
        name_rows=name_rows,
        encoder=RequestEncoder(model.name, model.version, plan.inputs, plan.outputs),
        decoder=ResponseDecoder(plan.outputs, model.version),
        fed=plan.fed,
        outputs=plan.outputs,
        names=plan.names,
        batch_rows=plan.batch_rows,
        row_bytes_out=row_bytes(plan.outputs),
        confirm=confirm,
        write=write,
    )


def _segment_rows_auto(source: Source, plan: Plan) -> int:
    return segment_rows_auto(source.row_bytes(plan.columns) + row_bytes(plan.outputs))


def make_limits(options: ScoreOptions, rows: int | None) -> Limits:
    """Return the bounds that do not move while a run lasts.

    Where only reading tells how many rows there are, the share of failed rows is of those so far.
    """
    fraction = options.failed_fraction_max
    limits = Limits(
        options.max_outage_s,
        failed_rows_max(fraction, rows or 0),
        failed_fraction_max=fraction if rows is None else 0.0,
    )
    if options.memory_bytes is None:
        return limits
    half = options.memory_bytes // 2
    return replace(limits, bytes_max=half, segments_bytes_max=half)


def make_window(options: ScoreOptions, endpoints: int) -> Window:
    """Return the window that was asked for: of fixed width, or one that finds its width."""
    if options.in_flight_max is not None:
        return FixedWindow(options.in_flight_max)
    return GoodputWindow(
        start=WINDOW_START_PER_ENDPOINT * endpoints, limit_max=WINDOW_MAX_PER_ENDPOINT * endpoints
    )


def make_carriage(options: ScoreOptions, plan: Plan, servers: Servers) -> Carriage:
    """Return how the requests to each endpoint travel."""
    return choose_carriage(
        options.transport,
        servers.addresses,
        plan.inputs,
        plan.outputs,
        plan.batch_rows,
        may_share=servers.shared_memory is not None,
    )


def names_of(transports: Sequence[Transport]) -> str:
    """Return the names of the transports, each once."""
    return "+".join(sorted({transport.name for transport in transports}))


def _check_nulls(source: Source, plan: Plan) -> None:
    """Refuse nulls that no policy allows before the first row, where statistics tell of them."""
    fed = {
        column.name: tensor.name
        for tensor in plan.inputs
        for column in tensor.columns
        if column.null == "refuse"
    }
    for column, nulls in source.null_counts(tuple(fed)).items():
        if nulls:
            raise InputError(
                f"column {column!r} has {nulls} nulls in {source.name}, which tensor "
                f"{fed[column]!r} does not take; fill them, or export the model with a policy for "
                "them"
            )


def _unneeded(options: ScoreOptions, job: StandingJob, watch: _Stopwatch) -> ScoreResult:
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
        output=str(options.out),
        rows_filtered=0,
        job=job.file.fingerprint,
        job_rows=job.manifest.rows,
        job_rows_failed=job.manifest.rows_failed,
        segments=0,
        segments_before=len(job.manifest.parts),
    )


class _Stopwatch:
    """Wall and CPU time of this process, without the spans in which it was paused."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0
        self.resume()

    def resume(self) -> None:
        self._wall_began_s = time.perf_counter()
        self._cpu_began_s = time.process_time()

    def now(self) -> tuple[float, float]:
        """Return wall and CPU seconds so far; it must be running."""
        return (
            self.wall_s + time.perf_counter() - self._wall_began_s,
            self.cpu_s + time.process_time() - self._cpu_began_s,
        )

    def pause(self) -> None:
        self.wall_s += time.perf_counter() - self._wall_began_s
        self.cpu_s += time.process_time() - self._cpu_began_s
