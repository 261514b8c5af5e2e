"""Scoring: the composition of source, server, plan, driver and sink into one run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tritonbulk.bottleneck import Bottleneck, find_bottleneck
from tritonbulk.codec import Predictions, RequestEncoder, ResponseDecoder
from tritonbulk.contract import prediction_row_bytes
from tritonbulk.dispatch import (
    FixedWindow,
    GoodputWindow,
    Limits,
    Window,
    failed_rows_max,
    segment_rows_auto,
)
from tritonbulk.dispatch.limits import WINDOW_START_PER_ENDPOINT, window_max
from tritonbulk.driver import drive
from tritonbulk.options import ScoreOptions
from tritonbulk.part import PartFormat
from tritonbulk.pipeline import Driven, Pipeline
from tritonbulk.plan import Plan, make_plan
from tritonbulk.result import ScoreResult
from tritonbulk.segments import Batch, Segment
from tritonbulk.server_statistics import total_seconds
from tritonbulk.session import Servers, connect, read_contract, read_statistics, serve
from tritonbulk.sink import Sink, check_output, open_sink
from tritonbulk.source import Source, open_source
from tritonbulk.transport import (
    Carriage,
    ServedModel,
    Transport,
    choose_carriage,
    open_transports,
)


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
    options: ScoreOptions, observer: Observer | None = None, ready: Servers | None = None
) -> ScoreResult:
    """Carry out one scoring run; see `score` for what it raises.

    Args:
        options: what to do.
        observer: told how it goes.
        ready: where to send the requests, for whoever has a server already and the right to share
            memory with it; None: those that ``options`` name, else an embedded one.
    """
    observer = observer or Observer()
    watch = _Stopwatch()
    source = open_source(options.inputs, options.input_format, options.columns, options.where)
    contract = read_contract(options)
    check_output(options.out)
    watch.pause()
    given = contextlib.nullcontext(ready) if ready else serve(options, observer.say)
    async with given as servers:
        watch.resume()
        async with connect(servers, options, observer.say) as (endpoints, model):
            plan = make_plan(options, model, source.schema, contract, source.name)
            rows = _rows_expected(source, options)
            _tell_profile(options, observer)
            observer.begin(rows)
            carriage = make_carriage(options, plan, servers)
            segments = source.read(
                options.segment_rows or _segment_rows_auto(source, plan),
                plan.columns,
                options.limit_rows,
            )
            form = PartFormat(options.out_format, options.vectors)
            sink = open_sink(options.out, form)
            pipeline = make_pipeline(source, segments, model, plan, sink)
            counted = await read_statistics(endpoints, model)
            async with open_transports(
                carriage, endpoints, servers.shared_memory, observer.say
            ) as transports:
                driven = await drive(
                    pipeline,
                    make_limits(options, rows),
                    make_window(options, plan.request_bytes, len(endpoints)),
                    transports,
                    observer.advance,
                    servers.watch,
                )
                transport = names_of(transports)
            bottleneck = find_bottleneck(
                driven.stages,
                total_seconds(counted, await read_statistics(endpoints, model), model.instances),
            )
            if not (driven.rows_ok or driven.rows_failed or driven.rows_filtered):
                _write_empty(source, plan, open_sink(options.out, form))
        watch.pause()
    return _result(options, model, plan, driven, watch, servers, transport, bottleneck)


def _tell_profile(options: ScoreOptions, observer: Observer) -> None:
    if (profile := options.profile) is not None:
        observer.say(
            f"the profile pins {profile.batch_rows:,} rows a request and {profile.in_flight} "
            f"requests in flight, which scored {profile.rows_per_second:,.0f} rows/s when measured"
        )


def _write_empty(source: Source, plan: Plan, sink: Sink) -> None:
    """Write one part without rows, so that whoever reads the output finds its columns."""
    kept = pa.schema([source.schema.field(name) for name in plan.keep])
    rows = pa.RecordBatch.from_pylist([], kept)
    sink.write(0, rows, Predictions(0, plan.outputs, plan.names))
    sink.close()


def make_pipeline(
    source: Source,
    segments: Iterator[tuple[Segment, pa.RecordBatch]],
    model: ServedModel,
    plan: Plan,
    sink: Sink,
) -> Pipeline:
    """Return the pipeline that scores ``segments`` of ``source`` into ``sink`` by ``plan``."""

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
        row_bytes_out=prediction_row_bytes(plan.outputs),
        write=lambda segment, rows, done: sink.write(
            segment.index, rows.select(plan.keep), done, segment.rows_filtered
        ),
        close=sink.close,
    )


def _segment_rows_auto(source: Source, plan: Plan) -> int:
    return segment_rows_auto(source.row_bytes(plan.columns) + prediction_row_bytes(plan.outputs))


def _rows_expected(source: Source, options: ScoreOptions) -> int | None:
    """Return how many rows will be scored, None where only reading tells."""
    if source.rows is None or options.where is not None:
        return None
    return source.rows if options.limit_rows is None else min(source.rows, options.limit_rows)


def make_limits(options: ScoreOptions, rows: int | None) -> Limits:
    """Return the bounds that do not move while a run lasts.

    Where only reading tells how many rows there are, the share of failed rows is of those so far.
    """
    fraction = options.failed_fraction_max
    return Limits(
        options.max_outage_s,
        failed_rows_max(fraction, rows or 0),
        failed_fraction_max=fraction if rows is None else 0.0,
    )


def make_window(options: ScoreOptions, request_bytes: int, endpoints: int) -> Window:
    """Return the window that was asked for: of fixed width, or one that finds its width.

    Args:
        options: of the run.
        request_bytes: bytes of the tensors of a full request and its answer.
        endpoints: how many there are.
    """
    if options.in_flight_pinned is not None:
        return FixedWindow(options.in_flight_pinned)
    return GoodputWindow(
        start=WINDOW_START_PER_ENDPOINT * endpoints,
        limit_max=window_max(request_bytes) * endpoints,
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


def _result(
    options: ScoreOptions,
    model: ServedModel,
    plan: Plan,
    driven: Driven,
    watch: _Stopwatch,
    servers: Servers,
    transport: str,
    bottleneck: Bottleneck,
) -> ScoreResult:
    rows_scored = driven.rows_ok + driven.rows_failed
    return ScoreResult(
        rows_in=rows_scored + driven.rows_filtered,
        rows_scored=rows_scored,
        rows_ok=driven.rows_ok,
        rows_failed=driven.rows_failed,
        seconds=round(watch.wall_s, 6),
        rows_per_second=round(rows_scored / watch.wall_s, 1),
        cpu_seconds_client=round(watch.cpu_s, 6),
        requests=driven.requests,
        batch_rows=plan.batch_rows,
        in_flight_max=driven.in_flight_max,
        model=model.name,
        model_version=model.version,
        endpoints=servers.addresses,
        transport=transport,
        output=str(options.out),
        rows_filtered=driven.rows_filtered,
        bottleneck=bottleneck,
        profile=options.profile,
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

    def pause(self) -> None:
        self.wall_s += time.perf_counter() - self._wall_began_s
        self.cpu_s += time.process_time() - self._cpu_began_s
