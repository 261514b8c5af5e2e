"""The state of a run: events in, actions out.

All state that decides about requests lives here; time (of any monotonic clock) comes in with calls.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from tritonbulk.dispatch.actions import Abort, Action, FailRows, Say, Send
from tritonbulk.dispatch.controls import Controls
from tritonbulk.dispatch.deadlines import Deadlines
from tritonbulk.dispatch.endings import YIELDS, none_scored
from tritonbulk.dispatch.endpoints import Endpoints
from tritonbulk.dispatch.filling import Filling
from tritonbulk.dispatch.isolation import (
    LATES_PLAIN_MAX,
    LOSSES_PLAIN_MAX,
    UNJUDGED_ROWS_MAX,
    VOUCHED_S,
    Accusation,
    Isolation,
)
from tritonbulk.dispatch.limits import Limits
from tritonbulk.dispatch.policy import TREATMENTS, Failure, Meaning, fatal, meaning
from tritonbulk.dispatch.quota import RetryQuota
from tritonbulk.dispatch.requests import Queue, Request, Stage
from tritonbulk.dispatch.silence import Silence
from tritonbulk.dispatch.tally import Tally
from tritonbulk.dispatch.traffic import Traffic
from tritonbulk.dispatch.turn import admits, sources, tries_others
from tritonbulk.dispatch.yielding import Yielding
from tritonbulk.events import EndpointChanged
from tritonbulk.segments import Batch

BUSY_WAIT_S_MIN = 0.05
BUSY_WAIT_S_MAX = 1.0
"""A request that a full queue refused waits the minimum, then twice as long each time, at most the
maximum: the window has become narrower meanwhile, so there is soon room."""

_UNCONFIRMED = Failure(14, "UNAVAILABLE", "it answers, but does not say which model it serves")

_KILLS = (Meaning.LOST, Meaning.SICK, Meaning.LATE)
"""What a single row can do to a server besides failing."""


class Dispatch:
    """Decides about every request of a run.

    Args:
        limits: bounds that do not move.
        endpoints: their addresses, at least one.
        fill_rows: rows that fill a batch, so that nothing else is executed with it.

    Attributes:
        tally: what was done so far.
    """

    def __init__(self, limits: Limits, endpoints: Sequence[str], fill_rows: int = 1) -> None:
        self._limits = limits
        self._endpoints = Endpoints(endpoints, limits)
        self._yielding = None if limits.yield_to is None else Yielding(limits.yield_to)
        self._yields = False
        self._silence = Silence(limits.max_outage_s)
        self._queue = Queue(fill_rows)
        self._traffic = Traffic(self._queue, self._endpoints, self._silence)
        self._filling = Filling(fill_rows)
        self._hesitates = False
        self._isolation = Isolation(self._queue)
        self._deadlines = Deadlines(limits.attempt_s_max)
        self._controls = Controls(
            self._traffic, self._endpoints, self._isolation, self._filling, self._deadlines
        )
        self._quota = RetryQuota()
        self._reserved: int | None = None
        self._resume_s = math.inf
        self._was_idle = True
        self.tally = Tally(limits)

    @property
    def idle(self) -> bool:
        """True if every batch is settled."""
        return self._queue.is_empty and self._isolation.is_empty

    @property
    def in_flight(self) -> int:
        """Requests in flight, over all endpoints."""
        return len(self._queue.in_flight)

    @property
    def window(self) -> int:
        """Requests that may be in flight now, over all endpoints."""
        return self._width if self._yielding is None else self._yielding.limit(self._width)

    @property
    def hungry(self) -> bool:
        """True if more batches could be sent at once than are at hand."""
        return len(self._queue.ready) + len(self._queue.in_flight) < self.window

    @property
    def stuck(self) -> bool:
        """True if only rows are left that nothing can be found out about: none was ever scored."""
        return self._queue.is_empty and self._isolation.stuck

    @property
    def wake_s(self) -> float | None:
        """When `step` must be called again even if nothing happens; None if it need not."""
        at_s = min(self._queue.due_s, self._resume_s, self._controls.wake_s, self._silence.ends_s)
        if self._endpoints.out and not self.idle:
            at_s = min(at_s, self._endpoints.probe_s)
        return at_s if at_s < math.inf else None

    def silence(self, now_s: float) -> tuple[float, str]:
        """Return the seconds since the last row was scored, if all has failed since, and why."""
        return self._silence.so_far(now_s)

    def take_changes(self) -> list[EndpointChanged]:
        """Return how endpoints are treated differently since the last call."""
        return self._endpoints.take_changes()

    def add(self, batches: Sequence[Batch], row_bytes: int) -> None:
        """Take on the batches of a segment that was read, whose rows take so many bytes each."""
        self._controls.row_bytes = row_bytes
        self._queue.ready.extend(Request(batch, row_bytes) for batch in batches)

    def add_endpoint(self, name: str) -> int:
        """Take on one more endpoint and return its index."""
        return self._endpoints.add(name)

    def retire_endpoint(self, index: int, reason: str, now_s: float) -> None:
        """Send nothing more to an endpoint; what is in flight there may still be answered."""
        self._endpoints.retire(index, reason)
        self._isolation.retire(index)
        if self._endpoints.are_gone:
            self._silence.deserted(self._endpoints[index].name, reason, now_s)

    def unconfirmed(self, indexes: Collection[int], now_s: float) -> None:
        """Ask endpoints again which model they serve before anything more is sent there."""
        for index in indexes:
            self._endpoints.leave(index, _UNCONFIRMED, now_s)

    def step(self, now_s: float) -> list[Action]:
        """Return what to do now: requests to send, or the end of the run."""
        self._queue.wake(now_s)
        if self.idle or self._was_idle:
            self._silence.rested(now_s)
        self._was_idle = self.idle
        if error := self._silence.over(now_s):
            return [Abort(error)]
        short = self._filling.short
        if short and self._endpoints.up() and not self._endpoints.up(but=short):
            self._queue.part()
        actions = self._controls.ask_some(now_s, is_idle=self.idle)
        alone = self._queue.alone
        others_first = tries_others(self._queue, alone, has_control=self._controls.exist)
        if self._traffic.is_alone or (alone and not others_first):
            actions += self._send_alone(now_s)
        else:
            self._reserved = None
        self._resume_s = math.inf
        kept_free = self._endpoints.kept_free(self._reserved, self._isolation.wants, short)
        while send := self._send_next(kept_free, now_s):
            actions.append(send)
        self.tally.in_flight(len(self._queue.in_flight))
        return actions

    def succeeded(self, request_id: int, now_s: float) -> list[Action]:
        """Settle a request whose answer was checked and kept."""
        request = self._traffic.land(request_id)
        if request.stage is Stage.CONTROL and not request.has_row:
            return self._controls.passed(request, now_s)
        endpoint = self._endpoints[request.endpoint]
        if endpoint.is_stuck:
            self._deadlines.forget_lates()
        endpoint.answered(request, now_s)
        self._deadlines.answered(request.rows_sent, now_s - request.sent_s)
        self._quota.succeeded()
        self._silence.scored(now_s)
        self._controls.answered()
        if request.stage is Stage.CONTROL:
            return self._within_limit(self._controls.passed(request, now_s))
        self.tally.rows_ok += request.batch.rows
        if not self._controls.exist:
            self._controls.exist = True
            self._hesitates = False
            self._filling.begin()
            self._isolation.hear()
        return []

    def failed(self, request_id: int, failure: Failure, now_s: float) -> list[Action]:
        """Decide about a failed attempt: another one, a cut, failed rows, or the end."""
        request = self._traffic.land(request_id)
        endpoint = self._endpoints[request.endpoint]
        if error := fatal(failure, endpoint.name, is_first=not self._controls.exist):
            return [Abort(error)]
        self._silence.failed(endpoint.name, failure)
        kind = meaning(failure)
        if request.stage is Stage.CONTROL:
            return self._controls.failed(request, failure, now_s)
        treatment = TREATMENTS[kind]
        if treatment.leaves:
            self._endpoints.leave(request.endpoint, failure, now_s)
        elif treatment.counts and request.stage is Stage.PLAIN:
            self._endpoints.failed(request.endpoint, failure, now_s)
        if kind is Meaning.BUSY:
            endpoint.refused(request, now_s)
            wait_s = min(BUSY_WAIT_S_MIN * 2.0 ** min(request.refusals, 10), BUSY_WAIT_S_MAX)
            request.refusals += 1
            self._queue.again(request, now_s + wait_s, now_s)
            return []
        if kind is Meaning.OVERSIZE:
            return self._cut_or_fail(request, failure)
        self._count(request, kind, now_s)
        is_killer = request.stage is Stage.ALONE and kind in _KILLS
        if is_killer or (treatment.blames and request.stage is not Stage.PLAIN):
            return self._accuse(Accusation(request, failure, now_s))
        if treatment.blames:
            request.stage = Stage.APART
            self._hesitates = not self._controls.exist
            if request.endpoint in self._filling.short and endpoint.requests:
                endpoint.crowded(request, now_s)  # it has joined too many, as likely as not
        elif request.losses >= LOSSES_PLAIN_MAX or request.lates >= LATES_PLAIN_MAX:
            request.stage = Stage.ALONE
        wait_s = self._quota.take(treatment.cost, now_s)
        self._queue.again(request, now_s + wait_s, now_s)
        return []

    def felt(self, mean_s: float | None, now_s: float) -> list[Action]:
        """Take note of what others feel, where the run yields to them.

        Args:
            mean_s: how long requests waited in the servers' queues since the last time, where they
                waited longest; None if there were none.
            now_s: the time.
        """
        if self._yielding is None or not self._width:
            return []
        self._yielding.felt(mean_s, self._width, now_s)
        if self._yields or not self._yielding.yields(self._width):
            return []
        self._yields = True
        return [Say(YIELDS)]

    def give_up(self) -> Action:
        """Return the end of a run in which no row can be scored."""
        unjudged = self._isolation.unjudged
        return Abort(none_scored(unjudged[-1].failure, len(unjudged)))

    @property
    def _width(self) -> int:
        """Requests that may be in flight if others do not matter."""
        return min(self._endpoints.window, self._limits.requests_max)

    def _count(self, request: Request, kind: Meaning, now_s: float) -> None:
        """Count what may be a death of the server, or a request that never ends."""
        if kind is Meaning.LATE:
            request.lates += 1
            if request.stage is not Stage.ALONE:  # else it tells of its rows, not of its size
                self._deadlines.late(request.rows_sent, now_s - request.sent_s)
        elif kind in _KILLS:
            request.losses += 1

    def _accuse(self, accusation: Accusation) -> list[Action]:
        is_gone = self._endpoints[accusation.request.endpoint].breaker.state == "gone"
        self._isolation.accuse(accusation, has_control=self._controls.exist, is_gone=is_gone)
        if len(self._isolation.unjudged) >= UNJUDGED_ROWS_MAX:
            return [self.give_up()]
        return []

    def _within_limit(self, actions: Sequence[Action]) -> list[Action]:
        """Count the rows that fail; return all, or as far as the one too many and then the end."""
        done: list[Action] = []
        for action in actions:
            done.append(action)
            if isinstance(action, FailRows):
                self.tally.rows_failed += action.batch.rows
                if error := self.tally.over_limit(action.failure):
                    return [*done, Abort(error)]
        return done

    def _cut_or_fail(self, request: Request, failure: Failure) -> list[Action]:
        if request.rows_sent > request.batch.rows:  # the repetitions may be what is too much
            request.may_fill, request.stage = False, Stage.ALONE
            self._queue.put_back(request)
        elif request.batch.rows > 1:
            self._queue.cut(request)
        else:
            return self._within_limit([FailRows(request.batch, failure)])
        return []

    def _send_next(self, kept_free: set[int], now_s: float) -> Send | None:
        """Send the next request, if there is room for it and an endpoint that can take it."""
        for source in sources(self._queue, has_control=self._controls.exist):
            if not source:
                continue
            first, window = source[0], self.window
            if not admits(self._queue, first, self._limits, window, hesitates=self._hesitates):
                return None
            unfit = self._filling.unfit(first)
            endpoint = self._endpoints.choose(first.batch.rows, now_s, kept_free | unfit)
            if endpoint is not None:
                return self._send(source.popleft(), endpoint, now_s)
            may_cut = unfit and first.stage is Stage.PLAIN
            if may_cut and self._endpoints.choose(first.batch.rows, now_s, kept_free) is not None:
                self._queue.cut(source.popleft())
                return self._send_next(kept_free, now_s)
            self._resume_s = self._endpoints.resume_s(now_s)
        return None

    def _send_alone(self, now_s: float) -> list[Action]:
        """Send the next suspect to an endpoint that has nothing else of ours to do."""
        if self._traffic.is_alone:
            return []
        if self._reserved is None or not self._endpoints[self._reserved].is_up:
            self._reserved = self._endpoints.idlest(but=self._filling.short)
        if self._reserved is None or self._endpoints[self._reserved].requests:
            return []
        each = self._endpoints[self._reserved]
        if self._controls.exist and now_s - each.vouched_s > VOUCHED_S:
            is_refused = self._controls.wait(now_s)
            return [] if is_refused else [self._controls.ask(self._reserved, now_s)]
        return [self._send(self._queue.alone.popleft(), self._reserved, now_s)]

    def _send(self, request: Request, endpoint: int, now_s: float) -> Send:
        is_suspect = request.stage is not Stage.PLAIN
        request.is_filled = is_suspect and request.may_fill and self._filling.fills(endpoint)
        request_id = self._traffic.take_off(request, endpoint, now_s)
        self.tally.attempts += 1
        timeout_s = self._deadlines.deadline_s(request.rows_sent, request.lates)
        return Send(request_id, request.batch, endpoint, request.is_filled, timeout_s)
