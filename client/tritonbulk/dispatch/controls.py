"""Controls: rows that were scored before, sent to see whether an endpoint works.

Readiness lies: a server whose model's process died says that it is ready. So a control goes where
an endpoint has rested, and where somebody stands accused: only if it passes was it not the server.
Before any row is scored there is none, and what the server says of itself is all there is.
"""

from __future__ import annotations

import math

from tritonbulk.dispatch.actions import Abort, Action, FailRows, Probe, Say
from tritonbulk.dispatch.deadlines import Deadlines
from tritonbulk.dispatch.endings import too_full
from tritonbulk.dispatch.endpoints import Endpoints
from tritonbulk.dispatch.filling import Filling
from tritonbulk.dispatch.isolation import Isolation
from tritonbulk.dispatch.policy import TREATMENTS, Failure, Meaning, meaning
from tritonbulk.dispatch.requests import Request, Stage
from tritonbulk.dispatch.traffic import Traffic
from tritonbulk.errors import AnswerError
from tritonbulk.segments import Batch

CONTROL_WAIT_S = 0.1
"""A control that a full queue refused waits so long."""

WRONG_CONTROLS_MAX = 3
"""Controls in a row that bring a wrong answer before the model is held to be broken."""


class Controls:
    """When controls are sent, and what follows from what becomes of them.

    Args:
        traffic: of the run's requests.
        endpoints: of the run.
        isolation: told what a control says of those who stand accused.
        filling: told what it says of full batches.
        deadlines: of the run's attempts.

    Attributes:
        exist: whether any row was scored yet.
        row_bytes: of one row, input and answer.
    """

    def __init__(
        self,
        traffic: Traffic,
        endpoints: Endpoints,
        isolation: Isolation,
        filling: Filling,
        deadlines: Deadlines,
    ) -> None:
        self._traffic = traffic
        self._endpoints = endpoints
        self._isolation = isolation
        self._filling = filling
        self._deadlines = deadlines
        self._refused_until_s = -math.inf
        self._wrong = 0
        self.exist = False
        self.row_bytes = 1

    @property
    def wake_s(self) -> float:
        """When one that was refused may be sent again; infinite if none was."""
        return self._refused_until_s if self._refused_until_s > -math.inf else math.inf

    def ask_some(self, now_s: float, *, is_idle: bool) -> list[Action]:
        """Ask endpoints that have rested, and those at which somebody stands accused.

        Args:
            now_s: the time.
            is_idle: whether there is nothing to use an endpoint for.
        """
        asked: list[Action] = []
        if self._endpoints.out and not is_idle:
            for index in self._endpoints.due(now_s):
                breaker = self._endpoints[index].breaker
                is_sick, breaker.is_sick = breaker.is_sick, False
                self._endpoints.probe(index)
                asked.append(self.ask(index, now_s, asks=True, is_sick=is_sick))
        if not self.wait(now_s):
            for index in self._isolation.wants:
                each = self._endpoints[index]
                if each.is_up and each.may_be_probed:
                    asked.append(self.ask(index, now_s))
        return asked

    def wait(self, now_s: float) -> bool:
        """Return whether a full queue has refused one just now."""
        if self._refused_until_s <= now_s:
            self._refused_until_s = -math.inf
        return self._refused_until_s > -math.inf

    def ask(self, index: int, now_s: float, *, asks: bool = False, is_sick: bool = False) -> Probe:
        """Send a control to an endpoint; ``asks`` and ``is_sick`` are as in `Probe`."""
        self._endpoints[index].is_probed = True
        control = Request(Batch(-1, 0, 1), self.row_bytes, Stage.CONTROL, has_row=self.exist)
        control.is_filled = self._filling.fills_control(index)
        request_id = self._traffic.take_off(control, index, now_s)
        timeout_s = self._deadlines.deadline_s(control.rows_sent)
        return Probe(request_id, index, asks, is_sick, self.exist, control.is_filled, timeout_s)

    def answered(self) -> None:
        """Take note that some row, of whatever request, came with a right answer."""
        self._wrong = 0

    def passed(self, control: Request, now_s: float) -> list[Action]:
        """Use the endpoint, and judge whom it concerns.

        Returns:
            What to do, and the rows that are convicted.
        """
        index = control.endpoint
        endpoint = self._endpoints[index]
        endpoint.is_probed = False
        if not control.has_row:
            # It says that it can be used, and there is no row yet to see whether it can.
            self._restore(index, is_trial=True)
            return []
        was_short = index in self._filling.short
        if not self._filling.control_passed(index, is_filled=control.is_filled):
            is_asked = endpoint.breaker.state == "probing"
            return [self.ask(index, now_s)] if is_asked else []
        endpoint.is_probed_alone = index in self._filling.short
        actions: list[Action] = []
        if endpoint.is_probed_alone and not was_short:
            self._isolation.retire(index)  # what has failed there says nothing
            actions.append(Say(too_full(endpoint.name, self._filling.rows)))
        self._restore(index, is_trial=False)
        endpoint.vouched_s = now_s
        convicted = self._isolation.passed(index, control.sent_s)
        return actions + [FailRows(batch, failure) for batch, failure in convicted]

    def failed(self, control: Request, failure: Failure, now_s: float) -> list[Action]:
        """Take the endpoint out, unless its queue was full, and blame nobody."""
        index, kind = control.endpoint, meaning(failure)
        each = self._endpoints[index]
        each.is_probed = False
        self._filling.control_failed(index, kind, is_filled=control.is_filled)
        each.is_probed_alone = control.has_row and not self._filling.fills_control(index)
        if kind is Meaning.BUSY and index not in self._endpoints.out:
            self._refused_until_s = now_s + CONTROL_WAIT_S
            return []
        self._endpoints.control_failed(index, failure, now_s)
        is_sick = TREATMENTS[kind].blames or kind is Meaning.SICK
        self._isolation.void(index, now_s, is_sick=is_sick)
        if kind is Meaning.WRONG:
            self._wrong += 1
            if self._wrong >= WRONG_CONTROLS_MAX:
                return [Abort(AnswerError(f"{failure.text}; mend the model, then run again"))]
        return []

    def _restore(self, index: int, *, is_trial: bool) -> None:
        if self._endpoints[index].breaker.state == "probing":
            self._endpoints.restore(index, is_trial=is_trial)
