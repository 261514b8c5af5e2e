"""A scorer at work: one thread with an event loop, its own connections, one drive for all batches.

Batches of all callers in a process go through the same window, so that it is found once, and
through the same breakers and retries, which are those of `score`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass

import pyarrow as pa

from tritonbulk.assembly import make_limits, make_pipeline
from tritonbulk.codec import Predictions
from tritonbulk.contract import prediction_row_bytes
from tritonbulk.dispatch import segment_rows_auto
from tritonbulk.errors import FailureLimitError, StoppedError, TritonbulkError, blaming
from tritonbulk.part import output_schema, scored_rows
from tritonbulk.pipeline import Pipeline
from tritonbulk.plan import Plan, make_plan
from tritonbulk.reach import Confirm, Reach
from tritonbulk.scorer.config import ScorerConfig
from tritonbulk.scorer_options import ScorerOptions
from tritonbulk.segments import Batch, Segment
from tritonbulk.session import connect, read_contract, serve
from tritonbulk.source.columns import row_bytes

SEGMENT_ROWS = 16_384
"""Rows that are handed over at once, where the model's requests and the bytes of rows allow it:
enough for several requests, few enough that the first are answered while others are read."""

SEGMENT_REQUESTS_MAX = 64
"""Requests that so many rows may make: models with small batches are slow ones."""

_log = logging.getLogger("tritonbulk")


@dataclass(frozen=True, slots=True)
class Ready:
    """What is known once the model was reached.

    Attributes:
        plan: what is sent and kept.
        schema: of scored rows.
        segment_rows: how many rows to hand over at once.
        bytes_max: bytes of rows and predictions that a caller may have handed over, not taken back.
    """

    plan: Plan
    schema: pa.Schema
    segment_rows: int
    bytes_max: int

    def size_bytes(self, rows: pa.RecordBatch) -> int:
        """Return the bytes that rows and their predictions take."""
        return int(rows.nbytes) + len(rows) * prediction_row_bytes(self.plan.outputs)


class Work:
    """A scorer at work on batches of one schema; the first batch starts it.

    Args:
        config: of the scorer.
        schema: of the batches, without metadata.

    Attributes:
        ready: set when the model was reached, or failed with what went wrong.
    """

    def __init__(self, config: ScorerConfig, schema: pa.Schema) -> None:
        self._config = config
        self._schema = schema
        self.ready: Future[Ready] = Future()
        self.ready.set_running_or_notify_cancel()  # many wait for it: none may cancel it
        # An iterator that is collected drops its batches, wherever its thread was: perhaps in here.
        self._lock = threading.RLock()
        self._ended: BaseException | None = None
        self._blamed: object = None  # the caller whose rows have ended it
        self._given: dict[Future[pa.RecordBatch], object] = {}  # each with its caller
        self._loop = asyncio.new_event_loop()
        self._inbox: asyncio.Queue[tuple[pa.RecordBatch, Future[pa.RecordBatch]] | None] = (
            asyncio.Queue()
        )
        self._taken: dict[int, Future[pa.RecordBatch]] = {}
        # Whoever forgets to close it must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="tritonbulk-scorer", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more batches: it failed, or was closed."""
        with self._lock:
            return self._ended is not None

    def submit(self, rows: pa.RecordBatch, caller: object) -> Future[pa.RecordBatch]:
        """Hand over rows of the schema; return where they come back with their predictions.

        Args:
            rows: are scored together.
            caller: whose rows they are. Others do not see an error that blames them.

        Raises:
            TritonbulkError: what has ended it; StoppedError if those were another caller's rows.
        """
        future: Future[pa.RecordBatch] = Future()
        with self._lock:
            if self._ended is not None:
                raise self._end_of(caller, self._ended)
            self._given[future] = caller
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, (rows, future))
        future.add_done_callback(self._forget)
        return future

    def close(self, wait_s: float) -> None:
        """Finish what was handed over and end; wait so long for it."""
        with self._lock:
            if self._ended is None:
                self._loop.call_soon_threadsafe(self._inbox.put_nowait, None)
        self._thread.join(wait_s)

    def _forget(self, future: Future[pa.RecordBatch]) -> None:
        with self._lock:
            self._given.pop(future, None)

    def _end_of(self, caller: object, ended: BaseException) -> BaseException:
        """Return what a caller is told of the end."""
        if self._blamed in (None, caller):
            return ended
        return StoppedError("another batch ended the scorer; hand this one over again")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._work())
        finally:
            self._loop.close()

    async def _work(self) -> None:
        ended: BaseException = StoppedError("the scorer was closed")
        try:
            await self._score()
        except Exception as error:
            ended = error
        finally:
            with self._lock:
                self._ended = ended
                self._blamed = self._caller_blamed(ended)
                left = list(self._given.items())
            if not self.ready.done():
                self.ready.set_exception(ended)
            for future, caller in left:
                # One that was cancelled is nobody's any more.
                if not future.done():
                    future.set_exception(self._end_of(caller, ended))

    def _caller_blamed(self, ended: BaseException) -> object:
        """Return whose rows have ended it; None if nobody's."""
        if not isinstance(ended, TritonbulkError) or ended.segment is None:
            return None
        future = self._taken.get(ended.segment)
        return None if future is None else self._given.get(future)

    async def _score(self) -> None:
        options = self._config.here()
        async with (
            serve(options, _say) as servers,
            connect(servers, options, _say) as (endpoints, model),
        ):
            self._config.check(model)
            plan = make_plan(options, model, self._schema, read_contract(options), "the batches")
            limits = make_limits(options, None, plan.request_bytes)
            self.ready.set_result(_ready(options, plan, self._schema, limits.segments_bytes_max))

            def pipeline(confirm: Confirm) -> Pipeline:
                return make_pipeline(
                    _name_rows,
                    self._segments(),
                    model,
                    plan,
                    self._writer(options, plan),
                    confirm,
                    priority=options.priority,
                    fails_nan=options.nan == "fail",
                )

            await Reach(options, servers, endpoints, model, plan).drive(pipeline, limits, _say)

    async def _segments(self) -> AsyncIterator[tuple[Segment, pa.RecordBatch]]:
        """Yield what is handed over, in its order."""
        index = 0
        while (found := await self._inbox.get()) is not None:
            rows, future = found
            if future.set_running_or_notify_cancel():
                self._taken[index] = future
                yield Segment(index, 0, 0, len(rows)), rows
                index += 1

    def _writer(
        self, options: ScorerOptions, plan: Plan
    ) -> Callable[[Segment, pa.RecordBatch, Predictions], Callable[[], object]]:
        """Return what makes scored rows, and in turn returns what gives them back."""

        def write(
            segment: Segment, rows: pa.RecordBatch, predictions: Predictions
        ) -> Callable[[], object]:
            try:
                done = scored_rows(
                    rows.select(list(plan.keep)),
                    predictions,
                    options.vectors,
                    has_status=options.status_columns,
                )
            except FailureLimitError as error:
                raise blaming(error, segment.index) from None
            return lambda: self._taken.pop(segment.index).set_result(done)

        return write


def _ready(options: ScorerOptions, plan: Plan, schema: pa.Schema, bytes_max: int) -> Ready:
    kept = [schema.field(name) for name in plan.keep]
    out = output_schema(
        kept, plan.outputs, plan.names, options.vectors, has_status=options.status_columns
    )
    return Ready(plan, out, _segment_rows(plan, schema), bytes_max)


def _segment_rows(plan: Plan, schema: pa.Schema) -> int:
    """Return how many rows to hand over at once: whole requests, as far as bytes allow."""
    read = pa.schema([schema.field(name) for name in plan.columns])
    by_bytes = segment_rows_auto(row_bytes(read, {}) + prediction_row_bytes(plan.outputs))
    requests = min(max(SEGMENT_ROWS // plan.batch_rows, 1), SEGMENT_REQUESTS_MAX)
    return max(min(plan.batch_rows * requests, by_bytes), 1)


def _name_rows(segment: Segment, batch: Batch) -> str:
    begin, end = batch.row_begin, batch.row_begin + batch.rows - 1
    return f"rows {begin} to {end} of {segment.rows} that were handed over together"


def _say(text: str) -> None:
    _log.info("%s", text)
