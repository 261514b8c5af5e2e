"""The state of a run: events in, actions out.

All state that decides about requests lives here; time (of any monotonic clock) comes in with calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tritonbulk.dispatch.actions import Abort, Action, FailRows, Probe, Say, Send
from tritonbulk.dispatch.deadlines import Deadlines
from tritonbulk.dispatch.endings import none_scored, outage, too_full
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
from tritonbulk.dispatch.policy import TREATMENTS, Failure, Meaning, discreet, fatal, meaning
from tritonbulk.dispatch.quota import RetryQuota
from tritonbulk.dispatch.requests import Queue, Request, Stage
from tritonbulk.dispatch.tally import Tally
from tritonbulk.dispatch.turn import admits, next_source, tries_others
from tritonbulk.dispatch.window import Window
from tritonbulk.errors import AnswerError
from tritonbulk.events import EndpointChanged
from tritonbulk.segments import Batch

BUSY_WAIT_S_MIN = 0.05
BUSY_WAIT_S_MAX = 1.0
"""A request that a full queue refused waits the minimum, then twice as long each time, at most the
maximum: the window has become narrower meanwhile, so there is soon room."""

CONTROL_WAIT_S = 0.1
"""A control that a full queue refused waits so long."""

WRONG_CONTROLS_MAX = 3
"""Controls in a row that bring a wrong answer before the model is held to be broken."""

_KILLS = (Meaning.LOST, Meaning.SICK, Meaning.LATE)
"""What a single row can do to a server besides failing."""


class Dispatch:
    """Decides about every request of a run.

    Args:
        limits: bounds that do not move.
        window: how many requests may be in flight.
        endpoints: their addresses, at least one.
        fill_rows: rows that fill a batch, so that nothing else is executed with it.

    Attributes:
        has_control: whether any row was scored yet.
        tally: what was done so far.
    """

    def __init__(
        self, limits: Limits, window: Window, endpoints: Sequence[str], fill_rows: int = 1
    ) -> None:
        self._limits = limits
        self._window = window
        self._endpoints = Endpoints(endpoints)
        self._queue = Queue(fill_rows)
        self._filling = Filling(fill_rows)
        self._hesitates = False
        self._isolation = Isolation(self._queue)
        self._deadlines = Deadlines(limits.attempt_s_max)
        self._quota = RetryQuota()
        self._reserved: int | None = None
        self._is_alone = False
        self._resume_s = math.inf
        self._controls_s = -math.inf
        self._row_bytes = 1
        self._scored_s = 0.0
        self._last: tuple[str, Failure] | None = None
        self._wrong_controls = 0
        self.has_control = False
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
        """Requests that may be in flight now."""
        return self._window.limit

    @property
    def hungry(self) -> bool:
        """True if more batches could be sent at once than are at hand."""
        return len(self._queue.ready) + len(self._queue.in_flight) < self._window.limit

    @property
    def stuck(self) -> bool:
        """True if only rows are left that nothing can be found out about: none was ever scored."""
        return self._queue.is_empty and self._isolation.stuck

    @property
    def wake_s(self) -> float | None:
        """When `step` must be called again even if nothing happens; None if it need not."""
        at_s = min(self._queue.due_s, self._resume_s)
        if self._endpoints.out and not self.idle:
            at_s = min(at_s, self._endpoints.probe_s)
        if self._controls_s > -math.inf:
            at_s = min(at_s, self._controls_s)
        if self._last is not None:
            at_s = min(at_s, self._scored_s + self._limits.max_outage_s)
        return at_s if at_s < math.inf else None

    def silence(self, now_s: float) -> tuple[float, str]:
        """Return the seconds since the last row was scored, if all has failed since, and why."""
        if self._last is None:
            return 0.0, ""
        return now_s - self._scored_s, f"last word of {self._last[0]}: {discreet(self._last[1])}"

    def take_changes(self) -> list[EndpointChanged]:
        """Return how endpoints are treated differently since the last call."""
        return self._endpoints.take_changes()

    def add(self, batches: Sequence[Batch], row_bytes: int) -> None:
        """Take on the batches of a segment that was read, whose rows take so many bytes each."""
        self._row_bytes = row_bytes
        self._queue.ready.extend(Request(batch, row_bytes) for batch in batches)

    def add_endpoint(self, name: str) -> int:
        """Take on one more endpoint and return its index."""
        return self._endpoints.add(name)

    def retire_endpoint(self, index: int, reason: str, now_s: float) -> None:
        """Send nothing more to an endpoint; what is in flight there may still be answered."""
        self._endpoints.retire(index, reason)
        self._isolation.retire(index)
        if self._endpoints.are_gone and self._last is None:
            gone = Failure(14, "UNAVAILABLE", reason)
            self._last, self._scored_s = (self._endpoints[index].name, gone), now_s

    def step(self, now_s: float) -> list[Action]:
        """Return what to do now: requests to send, or the end of the run."""
        self._queue.wake(now_s)
        if self._last is not None and now_s - self._scored_s >= self._limits.max_outage_s:
            return [Abort(outage(*self._last, now_s - self._scored_s))]
        actions: list[Action] = []
        if self._endpoints.out or self._isolation.wants:
            actions += self._probe_some(now_s)
        alone = self._queue.alone
        others_first = tries_others(self._queue, alone, has_control=self.has_control)
        if self._is_alone or (alone and not others_first):
            actions += self._send_alone(now_s)
        else:
            self._reserved = None
        self._resume_s = math.inf
        wants = self._isolation.wants if self._filling.is_short else None
        kept_free = self._endpoints.kept_free(self._reserved, wants)
        while source := next_source(self._queue, has_control=self.has_control):
            first, window = source[0], self._window.limit
            if not admits(self._queue, first, self._limits, window, hesitates=self._hesitates):
                break
            endpoint = self._endpoints.choose(first.batch.rows, now_s, kept_free)
            if endpoint is None:
                self._resume_s = self._endpoints.resume_s(now_s)
                break
            actions.append(self._send(source.popleft(), endpoint, now_s))
        self.tally.in_flight(len(self._queue.in_flight))
        return actions

    def succeeded(self, request_id: int, now_s: float) -> list[Action]:
        """Settle a request whose answer was checked and kept."""
        in_flight = len(self._queue.in_flight)
        request = self._land(request_id)
        if request.stage is Stage.CONTROL and not self.has_control:
            # It says that it can be used, and there is no row yet to see whether it can.
            self._endpoints[request.endpoint].is_probed = False
            self._restore(request.endpoint, is_trial=True)
            return []
        if request.stage is Stage.PLAIN:
            self._window.answered(request.batch.rows, in_flight, now_s)
        if self._endpoints[request.endpoint].is_stuck:
            self._deadlines.forget_lates()
        self._endpoints[request.endpoint].answered(request, now_s)
        self._deadlines.answered(request.rows_sent, now_s - request.sent_s)
        self._quota.succeeded()
        self._scored_s = now_s
        self._last = None
        self._wrong_controls = 0
        if request.stage is Stage.CONTROL:
            return self._passed(request, now_s)
        self.tally.rows_ok += request.batch.rows
        if not self.has_control:
            self.has_control = True
            self._hesitates = False
            self._filling.begin()
            self._isolation.hear()
        return []

    def failed(self, request_id: int, failure: Failure, now_s: float) -> list[Action]:
        """Decide about a failed attempt: another one, a cut, failed rows, or the end."""
        in_flight = len(self._queue.in_flight)
        request = self._land(request_id)
        name = self._endpoints[request.endpoint].name
        if error := fatal(failure, name, is_first=not self.has_control):
            return [Abort(error)]
        self._last = name, failure
        kind = meaning(failure)
        if request.stage is Stage.CONTROL:
            return self._control_failed(request, failure, kind, now_s)
        treatment = TREATMENTS[kind]
        if treatment.leaves:
            self._endpoints.leave(request.endpoint, failure, now_s)
        elif treatment.counts and request.stage is Stage.PLAIN:
            self._endpoints.failed(request.endpoint, failure, now_s)
        if kind is Meaning.BUSY:
            self._window.refused(in_flight, now_s - request.sent_s, now_s)
            self._endpoints[request.endpoint].breaker.refused(now_s)
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
            request.stage = Stage.ALONE if self._filling.is_short else Stage.APART
            self._hesitates = not self.has_control
            if self._filling.is_short and in_flight > 1:
                # The server has joined too many, as likely as not.
                self._window.refused(in_flight, now_s - request.sent_s, now_s)
        elif request.losses >= LOSSES_PLAIN_MAX or request.lates >= LATES_PLAIN_MAX:
            request.stage = Stage.ALONE
        wait_s = self._quota.take(treatment.cost, now_s)
        self._queue.again(request, now_s + wait_s, now_s)
        return []

    def give_up(self) -> Action:
        """Return the end of a run in which no row can be scored."""
        unjudged = self._isolation.unjudged
        return Abort(none_scored(unjudged[-1].failure, len(unjudged)))

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
        self._isolation.accuse(accusation, has_control=self.has_control, is_gone=is_gone)
        if len(self._isolation.unjudged) >= UNJUDGED_ROWS_MAX:
            return [self.give_up()]
        return []

    def _passed(self, control: Request, now_s: float) -> list[Action]:
        """A control has passed: judge whom it concerns."""
        endpoint = self._endpoints[control.endpoint]
        endpoint.is_probed = False
        was_short = self._filling.is_short
        if not self._filling.control_passed(control.endpoint, is_filled=control.is_filled):
            is_asked = endpoint.breaker.state == "probing"
            return [self._probe(control.endpoint, now_s)] if is_asked else []
        endpoint.is_probed_alone = self._filling.is_short
        actions: list[Action] = []
        if self._filling.is_short and not was_short:
            self._queue.part()
            self._isolation.begin_again()
            self._endpoints.probe_alone()
            actions.append(Say(too_full(self._filling.rows)))
        self._restore(control.endpoint, is_trial=False)
        endpoint.vouched_s = now_s
        for batch, failure in self._isolation.passed(control.endpoint, control.sent_s):
            actions += self._convict(batch, failure)
            if isinstance(actions[-1], Abort):
                break
        return actions

    def _control_failed(
        self, control: Request, failure: Failure, kind: Meaning, now_s: float
    ) -> list[Action]:
        index = control.endpoint
        each = self._endpoints[index]
        each.is_probed = False
        self._filling.control_failed(index, kind, is_filled=control.is_filled)
        each.is_probed_alone = self.has_control and not self._filling.fills_control(index)
        if kind is Meaning.BUSY and index not in self._endpoints.out:
            self._controls_s = now_s + CONTROL_WAIT_S
            return []
        self._endpoints.control_failed(index, failure, now_s)
        is_sick = TREATMENTS[kind].blames or kind is Meaning.SICK
        self._isolation.void(index, now_s, is_sick=is_sick)
        if kind is Meaning.WRONG:
            self._wrong_controls += 1
            if self._wrong_controls >= WRONG_CONTROLS_MAX:
                return [Abort(AnswerError(f"{failure.text}; mend the model, then run again"))]
        return []

    def _convict(self, batch: Batch, failure: Failure) -> list[Action]:
        self.tally.rows_failed += batch.rows
        error = self.tally.over_limit(failure)
        return [FailRows(batch, failure), *([Abort(error)] if error else [])]

    def _cut_or_fail(self, request: Request, failure: Failure) -> list[Action]:
        # The repetitions may be what is too much.
        was_plain, request.stage = request.stage is Stage.PLAIN, Stage.PLAIN
        if request.batch.rows > 1:
            self._queue.cut(request)
        elif was_plain:
            return self._convict(request.batch, failure)
        else:
            self._queue.put_back(request)
        return []

    def _restore(self, index: int, *, is_trial: bool) -> None:
        if self._endpoints[index].breaker.state == "probing":
            self._endpoints.restore(index, is_trial=is_trial)

    def _probe_some(self, now_s: float) -> list[Action]:
        """Ask endpoints that have rested, and those at which somebody stands accused."""
        actions: list[Action] = []
        if not self.idle:
            for index in self._endpoints.due(now_s):
                breaker = self._endpoints[index].breaker
                is_sick, breaker.is_sick = breaker.is_sick, False
                self._endpoints.probe(index)
                actions.append(self._probe(index, now_s, asks=True, is_sick=is_sick))
        if self._controls_s <= now_s:
            self._controls_s = -math.inf
            for index in self._isolation.wants:
                each = self._endpoints[index]
                if each.is_up and each.may_be_probed:
                    actions.append(self._probe(index, now_s))
        return actions

    def _probe(
        self, index: int, now_s: float, *, asks: bool = False, is_sick: bool = False
    ) -> Probe:
        each = self._endpoints[index]
        each.is_probed = True
        control = Request(Batch(-1, 0, 1), self._row_bytes, Stage.CONTROL)
        control.is_filled = is_filled = self._filling.fills_control(index)
        request_id = self._take_off(control, index, now_s)
        timeout_s = self._deadlines.deadline_s(control.rows_sent)
        return Probe(request_id, index, asks, is_sick, self.has_control, is_filled, timeout_s)

    def _send_alone(self, now_s: float) -> list[Action]:
        """Send the next suspect to an endpoint that has nothing else of ours to do."""
        if self._is_alone:
            return []
        if self._reserved is None or not self._endpoints[self._reserved].is_up:
            self._reserved = self._endpoints.idlest()
        if self._reserved is None or self._endpoints[self._reserved].requests:
            return []
        each = self._endpoints[self._reserved]
        if self.has_control and now_s - each.vouched_s > VOUCHED_S:
            return [self._probe(self._reserved, now_s)]
        self._is_alone = True
        return [self._send(self._queue.alone.popleft(), self._reserved, now_s)]

    def _send(self, request: Request, endpoint: int, now_s: float) -> Send:
        request.is_filled = request.stage is not Stage.PLAIN and self._filling.is_on
        request_id = self._take_off(request, endpoint, now_s)
        self.tally.attempts += 1
        timeout_s = self._deadlines.deadline_s(request.rows_sent, request.lates)
        return Send(request_id, request.batch, endpoint, request.is_filled, timeout_s)

    def _take_off(self, request: Request, endpoint: int, now_s: float) -> int:
        if not self._queue.in_flight and self._last is None:
            self._scored_s = now_s  # nobody was asked until now, so nobody has been silent
        request_id = self._queue.send(request, endpoint, now_s)
        each = self._endpoints[endpoint]
        each.sent(request)
        request.is_vouched = now_s - each.vouched_s <= VOUCHED_S
        return request_id

    def _land(self, request_id: int) -> Request:
        request = self._queue.land(request_id)
        self._endpoints[request.endpoint].landed(request)
        if request.stage is Stage.ALONE:
            self._is_alone = False
        return request
