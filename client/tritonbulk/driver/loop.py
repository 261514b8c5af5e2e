"""The loop of a run carries out what `Dispatch` decides.

One loop owns all state; tasks and threads (one reads, one makes parts, two commit) report to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

import pyarrow as pa

from tritonbulk.clocks import StageClock
from tritonbulk.codec import EncodableRows, Predictions
from tritonbulk.dispatch import (
    NAN,
    Abort,
    Action,
    Dispatch,
    FailRows,
    Failure,
    Limits,
    Probe,
    Say,
    Send,
    may_open,
    naming_rows,
    outcome,
)
from tritonbulk.driver.announce import Announcer
from tritonbulk.driver.attempt import attempt, control_of, probe
from tritonbulk.driver.ends import Ends
from tritonbulk.driver.messages import (
    Answered,
    Failed,
    Looked,
    Message,
    OpenSegment,
    Probed,
    Read,
    StopAsked,
    Unconfirmed,
    Written,
)
from tritonbulk.driver.startup import first_of
from tritonbulk.events import Outcome, RequestEnded, RowsFailed, RunEvent
from tritonbulk.pipeline import Care, Driven, Joined, Left, NoCare, Pipeline
from tritonbulk.segments import Batch, Segment, plan_batches
from tritonbulk.transport import Transport

NAMED_ROWS_MAX = 3
"""Rows that were given up and that the end of a run names, if there were too many."""

WATCH_S = 1.0
"""Pause between two looks at the embedded server."""


async def drive(
    pipeline: Pipeline,
    limits: Limits,
    transports: Sequence[Transport],
    observe: Callable[[int, int], None],
    watch: Callable[[], None],
    stop: asyncio.Event | None = None,
    stop_grace_s: float = 0.0,
    note: Callable[[RunEvent], None] | None = None,
    care: Care | None = None,
    say: Callable[[str], None] = lambda _: None,
    look: Callable[[], Awaitable[float | None]] | None = None,
) -> Driven:
    """Score every segment of a pipeline and return what was done, once all is committed.

    When ``stop`` is set no further segment is read; those in memory are finished and committed
    within ``stop_grace_s`` seconds, and what is not finished then is dropped.

    Args:
        pipeline: what to score.
        limits: bounds that do not move.
        transports: one an endpoint, at least one.
        observe: called with (rows scored, rows failed) so far, after each answer.
        watch: called every `WATCH_S` seconds; raises if the run cannot go on.
        stop: asks the run to end early.
        stop_grace_s: how long it may go on then.
        note: told each event of the run; returns at once.
        care: what can be done about the endpoints; None: nothing, they stay what they are.
        say: told one sentence at a time about endpoints and outages.
        look: awaited every `WATCH_S` seconds, to find out what others feel; see `Dispatch.felt`.

    Raises:
        TritonbulkError: what stopped the run, as a single error; segments that were complete by
            then may have been written.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            driver = _Driver(
                pipeline, limits, transports, tasks, observe, note, care or NoCare(), say
            )
            helpers = [
                tasks.create_task(driver.watch(watch, look)),
                tasks.create_task(driver.stop_when(stop or asyncio.Event(), stop_grace_s)),
                tasks.create_task(driver.follow()),
            ]
            driven = await driver.run()
            for helper in helpers:
                helper.cancel()
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    return driven


class _Driver:
    def __init__(
        self,
        pipeline: Pipeline,
        limits: Limits,
        transports: Sequence[Transport],
        tasks: asyncio.TaskGroup,
        observe: Callable[[int, int], None],
        note: Callable[[RunEvent], None] | None,
        care: Care,
        say: Callable[[str], None],
    ) -> None:
        self._note = note
        self._pipeline = pipeline
        self._limits = limits
        self._transports = list(transports)
        self._care = care
        self._say = say
        self._announcer = Announcer(say, limits.max_outage_s, heals=care.heals)
        self._control: EncodableRows | None = None
        self._tasks = tasks
        self._observe = observe
        self._clock = asyncio.get_running_loop().time
        self._stages = StageClock()
        self._laid_out_s = self._lay_out_s()
        names = [transport.address for transport in transports]
        self._dispatch = Dispatch(limits, names, pipeline.fill_rows)
        self._ends = Ends(pipeline, self._stages)
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._open: dict[int, OpenSegment] = {}
        self._reading = False
        self._exhausted = False
        self._stop_s: float | None = None
        self._cut_short = False
        self._rows_filtered = 0
        self._works: set[asyncio.Task[None]] = set()
        self._given_up: list[str] = []

    async def watch(
        self, watch: Callable[[], None], look: Callable[[], Awaitable[float | None]] | None
    ) -> None:
        """Look after what nobody reports, every `WATCH_S` seconds."""
        while True:
            await asyncio.sleep(WATCH_S)
            watch()
            now_s = self._clock()
            self._announcer.tick(*self._dispatch.silence(now_s), now_s)
            if look is not None:
                self._messages.put_nowait(Looked(await look()))

    async def follow(self) -> None:
        """Report endpoints that come and go."""
        async for change in self._care.changes():
            self._messages.put_nowait(change)

    async def stop_when(self, asked: asyncio.Event, grace_s: float) -> None:
        """Wait until the run is asked to stop, and tell it by when."""
        await asked.wait()
        self._messages.put_nowait(StopAsked(self._clock() + grace_s))

    async def run(self) -> Driven:
        try:
            while not (self._exhausted and not self._open):
                if self._stop_s is not None and self._clock() >= self._stop_s:
                    self._cut_short = True
                    break
                if self._may_read():
                    self._reading = True
                    self._report(self._ends.read)
                self._carry_out(self._dispatch.step(self._clock()))
                if self._dispatch.stuck and not self._reading:
                    self._carry_out([self._dispatch.give_up()])
                message = await self._next_message()
                if message is not None:
                    self._handle(message)
                self._tell_changes()
        finally:
            await self._leave()
        done = self._dispatch.tally
        return Driven(
            done.rows_ok,
            done.rows_failed,
            self._rows_filtered,
            done.attempts,
            done.in_flight_max,
            self._stages.so_far(self._lay_out_s() - self._laid_out_s),
            stopped=self._cut_short,
        )

    def _lay_out_s(self) -> float:
        return sum(transport.laid_out_s for transport in self._transports)

    async def _leave(self) -> None:
        """Give up what is under way and wait for the threads; the loop goes on meanwhile.

        What a thread has begun to write it writes to its end; what it only waits for it gives up.
        """
        self._pipeline.leaving.set()
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        await self._ends.close()

    def _may_read(self) -> bool:
        if self._reading or self._exhausted:
            return False
        sizes = [open_.size_bytes for open_ in self._open.values()]
        return may_open(sizes, self._limits.segments_bytes_max, is_hungry=self._dispatch.hungry)

    async def _next_message(self) -> Message | None:
        """Return the next message, or None when something is to be done before one comes."""
        wakes_s = [at for at in (self._dispatch.wake_s, self._stop_s) if at is not None]
        if not wakes_s:
            return await self._messages.get()
        try:
            async with asyncio.timeout_at(min(wakes_s)):
                return await self._messages.get()
        except TimeoutError:
            return None

    def _handle(self, message: Message) -> None:
        match message:
            case Read(None):
                self._reading, self._exhausted, self._cut_short = False, True, False
            case Read() if self._stop_s is not None:
                self._reading = False
            case StopAsked(by_s):
                self._cut_short = not self._exhausted
                self._exhausted, self._stop_s = True, by_s
            case Read((segment, rows)):
                self._reading = False
                self._take_on(segment, rows)
            case Answered():
                self._keep(message)
            case Failed(send, failure, seconds):
                actions = self._dispatch.failed(send.request_id, failure, self._clock())
                self._tell(outcome(failure), send, seconds)
                self._carry_out(actions)
            case Probed(asked, failure, _):
                self._probed(asked, failure)
            case Joined() | Left() | Looked():
                self._heed(message)
            case Written(segment_index):
                del self._open[segment_index]
            case Unconfirmed(segment_index, silent):
                self._dispatch.unconfirmed(silent, self._clock())
                self._score_again(self._open[segment_index])

    def _heed(self, message: Joined | Left | Looked) -> None:
        """Take note of what has become of the servers."""
        match message:
            case Joined(transport):
                self._transports.append(transport)
                self._dispatch.add_endpoint(transport.address)
            case Left(index):
                self._dispatch.retire_endpoint(index, "its name no longer says so", self._clock())
            case Looked(mean_s):
                self._carry_out(self._dispatch.felt(mean_s, self._clock()))

    def _keep(self, answered: Answered) -> None:
        """Put a checked answer in place."""
        send = answered.send
        batch, open_ = send.batch, self._open[send.batch.segment]
        if self._control is None:
            self._control = control_of(answered, open_, self._pipeline)
        with self._stages.busy("decode"):
            open_.predictions.put(batch.row_begin, answered.answers)
        open_.endpoints.add(send.endpoint)
        answered.reply.release()
        self._carry_out(self._dispatch.succeeded(send.request_id, self._clock()))
        if self._pipeline.fails_nan:
            self._refuse_nan(batch, open_)
        self._tell("ok", send, answered.seconds)
        self._settle(batch.segment)

    def _refuse_nan(self, batch: Batch, open_: OpenSegment) -> None:
        """Fail the rows of a batch whose prediction is NaN."""
        given = batch.row_begin, batch.rows, NAN.code, NAN.text
        found = open_.predictions.fail_nan(*given)
        if count := len(found):
            self._give_up(open_, found, NAN)
            if error := self._dispatch.tally.refuse(count, NAN):
                raise naming_rows(error, self._given_up, batch.segment)

    def _give_up(self, open_: OpenSegment, rows: Sequence[int], failure: Failure) -> None:
        """Name the first rows that failed, and tell of all."""
        if self._note is not None:
            self._note(RowsFailed(len(rows), failure.code, failure.text))
        for row in islice(rows, NAMED_ROWS_MAX - len(self._given_up)):
            one = Batch(open_.segment.index, row, 1)
            self._given_up.append(self._pipeline.name_rows(open_.segment, one))

    def _probed(self, asked: Probe, failure: Failure | None) -> None:
        now_s = self._clock()
        if failure is None:
            actions = self._dispatch.succeeded(asked.request_id, now_s)
        else:
            actions = self._dispatch.failed(asked.request_id, failure, now_s)
        for each in actions:
            if isinstance(each, FailRows):
                # Its word against these rows will stand in the output.
                self._open[each.batch.segment].endpoints.add(asked.endpoint)
        self._carry_out(actions)

    def _tell(self, outcome: Outcome, send: Send, seconds: float) -> None:
        """Tell whoever counts that an attempt ended."""
        if self._note is None:
            return
        in_flight, window = self._dispatch.in_flight, self._dispatch.window
        address = self._transports[send.endpoint].address
        self._note(RequestEnded(address, outcome, send.batch.rows, seconds, in_flight, window))

    def _tell_changes(self) -> None:
        """Tell how endpoints are treated since the last time."""
        for change in self._dispatch.take_changes():
            self._announcer.changed(change, self._clock())
            if self._note is not None:
                self._note(change)

    def _take_on(self, segment: Segment, rows: pa.RecordBatch) -> None:
        predictions = Predictions(segment.rows, self._pipeline.outputs, self._pipeline.names)
        size_bytes = rows.nbytes + segment.rows * self._pipeline.row_bytes_out
        encodable = self._pipeline.encoder.prepare(rows)
        self._open[segment.index] = OpenSegment(segment, encodable, predictions, size_bytes)
        self._rows_filtered += segment.rows_filtered
        if not segment.rows:
            self._settle(segment.index)
            return
        self._queue(segment, rows)

    def _queue(self, segment: Segment, rows: pa.RecordBatch) -> None:
        fed_bytes = rows.select(self._pipeline.fed).nbytes // segment.rows
        self._dispatch.add(
            plan_batches(segment, self._pipeline.batch_rows),
            fed_bytes + self._pipeline.row_bytes_out,
        )

    def _score_again(self, open_: OpenSegment) -> None:
        """Ask for a segment's predictions anew, because nobody vouches for those that came."""
        segment, failed = open_.segment, open_.predictions.rows_failed
        self._dispatch.tally.take_back(segment.rows - failed, failed)
        open_.predictions = Predictions(segment.rows, self._pipeline.outputs, self._pipeline.names)
        open_.endpoints.clear()
        self._queue(segment, open_.encodable.rows)

    def _carry_out(self, actions: Sequence[Action]) -> None:
        blamed: int | None = None
        for action in actions:
            match action:
                case Send():
                    self._report(self._attempt, action)
                case Probe():
                    self._report(self._probe, action)
                case FailRows(batch, failure):
                    blamed, open_ = batch.segment, self._open[batch.segment]
                    rows = range(batch.row_begin, batch.row_begin + batch.rows)
                    open_.predictions.fail(rows.start, len(rows), failure.code, failure.text)
                    self._give_up(open_, rows, failure)
                    self._settle(batch.segment)
                case Say(text):
                    self._say(text)
                case Abort(error):
                    raise naming_rows(error, self._given_up, blamed)

    def _settle(self, index: int) -> None:
        """Report progress after some rows of a segment were settled; write it if all were."""
        self._observe(self._dispatch.tally.rows_ok, self._dispatch.tally.rows_failed)
        if self._open[index].predictions.complete:
            self._report(self._ends.write, self._open[index])

    def _report(self, work: Callable[..., Awaitable[Message]], *given: object) -> None:
        """Run ``work`` as a task whose result becomes a message."""

        async def run() -> None:
            self._messages.put_nowait(await work(*given))

        task = self._tasks.create_task(run())
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    async def _attempt(self, send: Send) -> Message:
        transport = self._transports[send.endpoint]
        open_ = self._open[send.batch.segment]
        return await attempt(send, open_, self._pipeline, transport, self._stages)

    async def _probe(self, asked: Probe) -> Message:
        transport = self._transports[asked.endpoint]
        return await probe(asked, self._control, self._care, self._pipeline, transport)
