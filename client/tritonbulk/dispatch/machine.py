"""The state of a run: batches to send, requests in flight, retries; events in, actions out.

Rules:

- All state that decides about requests lives here and changes only in the methods of `Dispatch`.
- A batch is in exactly one place: ready, in flight, waiting for its retry, or settled.
- Requests go to the endpoint with the fewest rows in flight.
- Time comes in with every call (seconds of any monotonic clock); nothing here sleeps.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tritonbulk.dispatch.limits import Limits
from tritonbulk.dispatch.policy import Failure, Verdict, judge
from tritonbulk.dispatch.window import Window
from tritonbulk.errors import FailureLimitError, OutageError, TritonbulkError
from tritonbulk.segments import Batch

RETRY_WAIT_MIN_S = 0.1
RETRY_WAIT_MAX_S = 5.0
"""Exponential backoff: the first retry waits the minimum, each next one twice as long, at most
the maximum."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this batch to that endpoint, and report the outcome under ``request_id``."""

    request_id: int
    batch: Batch
    endpoint: int


@dataclass(frozen=True, slots=True)
class FailRows:
    """Write these rows with their error instead of a prediction."""

    batch: Batch
    failure: Failure


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop the run with this error."""

    error: TritonbulkError


Action = Send | FailRows | Abort


@dataclass(slots=True)
class _Request:
    batch: Batch
    attempts: int = 0
    endpoint: int = -1
    sent_s: float = 0.0


class Dispatch:
    """Decides about every request of a run.

    Args:
        limits: bounds that do not move.
        window: how many requests may be in flight.
        endpoints: how many there are, at least 1.
        now_s: the time at the start.
    """

    def __init__(self, limits: Limits, window: Window, endpoints: int, now_s: float) -> None:
        self._limits = limits
        self._window = window
        self._ready: deque[_Request] = deque()
        self._waiting: list[tuple[float, int, _Request]] = []
        self._in_flight: dict[int, _Request] = {}
        self._rows_at: list[int] = [0] * endpoints
        self._next_id = 0
        self._answered_s = now_s
        self._last_failure: Failure | None = None
        self.rows_ok = 0
        self.rows_failed = 0
        self.attempts = 0
        self.in_flight_max = 0

    @property
    def idle(self) -> bool:
        """True if no batch is ready, waiting or in flight."""
        return not (self._ready or self._waiting or self._in_flight)

    @property
    def wake_s(self) -> float | None:
        """When `step` must be called again even if nothing happens; None if it need not."""
        return self._waiting[0][0] if self._waiting else None

    def add(self, batches: Sequence[Batch]) -> None:
        """Take on the batches of a segment that was read."""
        self._ready.extend(_Request(batch) for batch in batches)

    def step(self, now_s: float) -> list[Action]:
        """Return what to do now: requests to send, or the end of the run."""
        while self._waiting and self._waiting[0][0] <= now_s:
            self._ready.appendleft(heapq.heappop(self._waiting)[2])
        if self._last_failure is not None and self._outage_s(now_s) >= self._limits.max_outage_s:
            return [Abort(self._outage(now_s))]
        actions: list[Action] = []
        while self._ready and self._admits(self._ready[0].batch.rows):
            actions.append(self._send(self._ready.popleft(), now_s))
        self.in_flight_max = max(self.in_flight_max, len(self._in_flight))
        return actions

    def succeeded(self, request_id: int, now_s: float) -> None:
        """Settle a request whose answer was checked and kept."""
        in_flight = len(self._in_flight)
        request = self._land(request_id)
        self._window.answered(request.batch.rows, in_flight, now_s)
        self._answered_s = now_s
        self._last_failure = None
        self.rows_ok += request.batch.rows

    def failed(self, request_id: int, failure: Failure, now_s: float) -> list[Action]:
        """Decide about a failed attempt: a later retry, a cut, failed rows, or the end."""
        in_flight = len(self._in_flight)
        request = self._land(request_id)
        verdict, error = judge(failure)
        if verdict is Verdict.STOP and error is not None:
            return [Abort(error)]
        if verdict is Verdict.BUSY:
            self._window.refused(in_flight, now_s - request.sent_s, now_s)
        if verdict in (Verdict.RETRY, Verdict.BUSY):
            self._last_failure = failure
            wait_s = min(RETRY_WAIT_MIN_S * 2 ** (request.attempts - 1), RETRY_WAIT_MAX_S)
            heapq.heappush(self._waiting, (now_s + wait_s, request_id, request))
            return []
        self._answered_s = now_s
        if request.batch.rows > 1:
            self._ready.extendleft(_Request(half) for half in reversed(request.batch.halves()))
            return []
        self.rows_failed += 1
        return [FailRows(request.batch, failure), *self._check_failures(failure)]

    def _admits(self, rows: int) -> bool:
        if len(self._in_flight) >= self._window.limit:
            return False
        return not self._in_flight or sum(self._rows_at) + rows <= self._limits.rows_max

    def _send(self, request: _Request, now_s: float) -> Send:
        request.endpoint = min(range(len(self._rows_at)), key=self._rows_at.__getitem__)
        request.attempts += 1
        request.sent_s = now_s
        self.attempts += 1
        self._rows_at[request.endpoint] += request.batch.rows
        request_id, self._next_id = self._next_id, self._next_id + 1
        self._in_flight[request_id] = request
        return Send(request_id, request.batch, request.endpoint)

    def _land(self, request_id: int) -> _Request:
        request = self._in_flight.pop(request_id)
        self._rows_at[request.endpoint] -= request.batch.rows
        return request

    def _outage_s(self, now_s: float) -> float:
        return now_s - self._answered_s

    def _outage(self, now_s: float) -> OutageError:
        failure = self._last_failure
        said = f"{failure.status}: {failure.text}" if failure else "nothing"
        return OutageError(
            f"no server answered for {self._outage_s(now_s):.0f} s (last word: {said}); check that "
            "it runs and that the address is right, then run again"
        )

    def _check_failures(self, failure: Failure) -> list[Action]:
        settled = self.rows_ok + self.rows_failed
        allowed = max(self._limits.failed_rows_min, int(self._limits.failed_fraction_max * settled))
        if self.rows_failed <= allowed:
            return []
        return [
            Abort(
                FailureLimitError(
                    f"{self.rows_failed} of {settled} rows failed, more than --max-failed-fraction "
                    f"{self._limits.failed_fraction_max:g} allows (last: {failure.status}: "
                    f"{failure.text}); look at model and data, or raise the limit"
                )
            )
        ]
