"""Breaker: whether one endpoint gets requests, rests, or is asked if it can be used again.

::

    up ──leaves, or too many failures──▶ resting ──after a while──▶ probing ──passes──▶ up
                                            ▲                          │
                                            └──────────fails───────────┘

An endpoint that is up again gets a new breaker.

Readiness lies (a server whose model's process died says that it is ready), so what is asked is a
control: a row that was scored before.
"""

from __future__ import annotations

import math
from collections import deque

from tritonbulk.events import EndpointState

REST_S_MIN = 0.1
REST_S_MAX = 1.0
"""The first rest lasts the minimum, each next one twice as long, at most the maximum."""

FAILURES_IN_A_ROW_MAX = 5
WINDOW_ANSWERS = 20
WINDOW_FAILURES_MAX = 10
"""An endpoint rests after five failures in a row, or more than ten in twenty answers."""

PAUSE_S_MIN = 0.05
PAUSE_S_MAX = 1.0
"""An endpoint whose queue is full again and again gets nothing for so long, doubling."""


class Breaker:
    """The breaker of one endpoint, which begins by letting requests through.

    Args:
        rests: how often it has rested without an answer in between, which makes the next rest
            longer.

    Attributes:
        state: what is done with the endpoint.
        reason: why it does not get requests; "" while it does.
        is_sick: the model's process died there, or answers nothing any more.
        since_s: when it ceased to get requests.
        rests: see above.
    """

    def __init__(self, rests: int = 0) -> None:
        self.state: EndpointState = "up"
        self.reason = ""
        self.is_sick = False
        self.since_s = 0.0
        self._next_s = 0.0
        self.rests = rests
        self._in_a_row = 0
        self._recent: deque[bool] = deque(maxlen=WINDOW_ANSWERS)
        self._recent_failures = 0
        self._refusals = 0
        self._paused_s = -math.inf

    @property
    def next_s(self) -> float:
        """When something can be sent there: a request, or a control; infinite for never."""
        if self.state == "up":
            return self._paused_s
        return self._next_s if self.state == "resting" else math.inf

    def answered(self) -> None:
        """Take note of an answer that was kept."""
        self._in_a_row = 0
        self._refusals = 0
        self._paused_s = -math.inf
        if self._recent_failures:
            self._note(is_failure=False)

    def failed(self, reason: str, now_s: float) -> None:
        """Take note of a failure that counts; too many of them ask for a control at once."""
        self._in_a_row += 1
        self._note(is_failure=True)
        too_many = (
            self._in_a_row >= FAILURES_IN_A_ROW_MAX or self._recent_failures > WINDOW_FAILURES_MAX
        )
        if self.state == "up" and too_many:
            self._rest(reason, now_s, 0.0)

    def refused(self, now_s: float) -> None:
        """Take note that its queue was full; refusals that come together count once."""
        if now_s < self._paused_s:
            return
        self._refusals += 1
        if self._refusals > 1:
            self._paused_s = now_s + min(PAUSE_S_MIN * 2 ** (self._refusals - 2), PAUSE_S_MAX)

    def leave(self, reason: str, now_s: float, *, is_sick: bool = False) -> None:
        """Take the endpoint out at once; failures that come together count once."""
        self.is_sick |= is_sick
        if self.state == "up":
            self._rest(reason, now_s, self._rest_s)

    def probe(self) -> None:
        """Take note that it is asked whether it can be used again."""
        self.state = "probing"

    def probe_failed(self, reason: str, now_s: float) -> None:
        """Take note that it cannot, for now."""
        self.rests += 1
        since_s = self.since_s
        self._rest(reason, now_s, self._rest_s)
        self.since_s = since_s

    def retire(self, reason: str) -> None:
        """Never use it again."""
        self.state, self.reason = "gone", reason

    @property
    def _rest_s(self) -> float:
        return min(REST_S_MIN * 2.0 ** min(self.rests, 10), REST_S_MAX)

    def _rest(self, reason: str, now_s: float, rest_s: float) -> None:
        if self.state == "gone":
            return
        self.state, self.reason = "resting", reason
        self.since_s = now_s
        self._next_s = now_s + rest_s

    def _note(self, *, is_failure: bool) -> None:
        if len(self._recent) == WINDOW_ANSWERS:
            self._recent_failures -= self._recent[0]
        self._recent.append(is_failure)
        self._recent_failures += is_failure
