"""Assembly: options, plan and servers → what the driver is given, for scoring and for bench."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from tritonbulk.codec import Predictions, RequestEncoder, ResponseDecoder
from tritonbulk.contract import prediction_row_bytes, row_bytes
from tritonbulk.dispatch import (
    Limits,
    failed_rows_max,
    fill_rows,
    segment_rows_auto,
)
from tritonbulk.dispatch.limits import window_max
from tritonbulk.pipeline import Pipeline, Segments
from tritonbulk.plan import Plan
from tritonbulk.scorer_options import ScorerOptions
from tritonbulk.segments import Batch, Segment
from tritonbulk.session import Servers
from tritonbulk.source import Source
from tritonbulk.transport import Carriage, ServedModel, Transport, choose_carriage


def naming(source: Source) -> Callable[[Segment, Batch], str]:
    """Return what says in words which rows of ``source`` a batch is."""

    def name_rows(segment: Segment, batch: Batch) -> str:
        name, begin = source.files[segment.file_index].name, batch.row_begin
        if batch.rows == 1 and not segment.rows_filtered:
            return f"{name}, row {begin + segment.row_begin} (from 0)"
        if not segment.rows_filtered:
            return f"{name}, counted from row {begin + segment.row_begin} ({batch.rows} rows)"
        end = segment.row_begin + segment.rows + segment.rows_filtered - 1
        return (
            f"{name}, counted from row {begin} of those that pass the filter among rows "
            f"{segment.row_begin} to {end}"
        )

    return name_rows


def make_pipeline(
    name_rows: Callable[[Segment, Batch], str],
    segments: Segments,
    model: ServedModel,
    plan: Plan,
    write: Callable[[Segment, pa.RecordBatch, Predictions], Callable[[], object]],
    confirm: Callable[[frozenset[int]], Awaitable[frozenset[int]]],
    leaving: threading.Event | None = None,
    priority: int = 0,
    *,
    fails_nan: bool = False,
) -> Pipeline:
    """Return the pipeline that scores ``segments`` by ``plan``.

    ``name_rows``, ``segments``, ``write``, ``confirm``, ``leaving`` and ``fails_nan`` are as in
    `Pipeline`, ``priority`` as in `RequestEncoder`.
    """
    return Pipeline(
        segments=segments,
        name_rows=name_rows,
        encoder=RequestEncoder(model.name, model.version, plan.inputs, plan.outputs, priority),
        decoder=ResponseDecoder(plan.outputs, model.version, model.name),
        fed=plan.fed,
        outputs=plan.outputs,
        names=plan.names,
        batch_rows=plan.batch_rows,
        fill_rows=fill_rows(
            model.max_batch_size, max(row_bytes(plan.inputs), row_bytes(plan.outputs))
        ),
        row_bytes_out=prediction_row_bytes(plan.outputs),
        confirm=confirm,
        write=write,
        leaving=leaving or threading.Event(),
        fails_nan=fails_nan,
    )


def segment_rows_for(source: Source, plan: Plan) -> int:
    """Return the rows of a segment where none are asked for."""
    return segment_rows_auto(source.row_bytes(plan.columns) + prediction_row_bytes(plan.outputs))


def make_limits(options: ScorerOptions, rows: int | None, request_bytes: int) -> Limits:
    """Return the bounds that do not move while a run lasts.

    Args:
        options: of the run.
        rows: of the whole job; None where only reading tells: the share of failed rows is then of
            those so far.
        request_bytes: bytes of the tensors of a full request and its answer.
    """
    keeps = options.on_error == "keep" and options.status_columns
    fraction = options.failed_fraction_max if keeps else 0.0
    limits = Limits(
        options.outage_s,
        failed_rows_max(fraction, rows or 0),
        failed_fraction_max=fraction if rows is None else 0.0,
        window_max=window_max(request_bytes),
        yield_to=options.yield_to,
        attempt_s_max=options.request_timeout_s,
    )
    if (pinned := options.in_flight_pinned) is not None:
        limits = replace(limits, window_start=pinned, window_max=pinned, requests_max=pinned)
    if options.memory_bytes is None:
        return limits
    half = options.memory_bytes // 2
    return replace(limits, bytes_max=half, segments_bytes_max=half)


def make_carriage(options: ScorerOptions, plan: Plan, servers: Servers) -> Carriage:
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
