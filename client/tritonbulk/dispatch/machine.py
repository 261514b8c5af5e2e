"""The state of a run: batches to send, requests in flight, retries; events in, actions out.

Rules:

- All state that decides about requests lives here and changes only in the methods of `Dispatch`.
- A batch is in exactly one place: ready, in flight, waiting for its retry, or settled.
- Requests go to the endpoint with the fewest rows in flight, of those that answer (`endpoints`).
- Time comes in with every call (seconds of any monotonic clock); nothing here sleeps.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tritonbulk.dispatch.endpoints import Endpoints
from tritonbulk.dispatch.limits import Limits
from tritonbulk.dispatch.policy import Failure, Verdict, judge
from tritonbulk.dispatch.window import Window
from tritonbulk.errors import FailureLimitError, OutageError, TritonbulkError
from tritonbulk.segments import Batch

BUSY_WAIT_S_MIN = 0.05
BUSY_WAIT_S_MAX = 1.0
"""A request that a full queue refused waits the minimum, then twice as long each time, at most the
maximum: the window has become narrower meanwhile, so there is soon room."""


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
    row_bytes: int
    attempts: int = 0
    endpoint: int = -1
    sent_s: float = 0.0

    @property
    def size_bytes(self) -> int:
        return self.batch.rows * self.row_bytes


class Dispatch:
    """Decides about every request of a run.

    Args:
        limits: bounds that do not move.
        window: how many requests may be in flight.
        endpoints: how many there are, at least 1.
    """

    def __init__(self, limits: Limits, window: Window, endpoints: int) -> None:
        self._limits = limits
        self._window = window
        self._endpoints = Endpoints(endpoints)
        self._ready: deque[_Request] = deque()
        self._waiting: list[tuple[float, int, _Request]] = []
        self._in_flight: dict[int, _Request] = {}
        self._rows_in_flight = 0
        self._bytes_in_flight = 0
        self._next_id = 0
        self._heard_s = 0.0
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
    def in_flight(self) -> int:
        """Requests in flight, over all endpoints."""
        return len(self._in_flight)

    @property
    def window(self) -> int:
        """Requests that may be in flight now."""
        return self._window.limit

    @property
    def hungry(self) -> bool:
        """True if more batches could be sent at once than are at hand."""
        return len(self._ready) + len(self._in_flight) < self._window.limit

    @property
    def wake_s(self) -> float | None:
        """When `step` must be called again even if nothing happens; None if it need not."""
        times = [self._waiting[0][0]] if self._waiting else []
        if self._ready and not self._in_flight:
            times.append(self._endpoints.up_s)
        if self._last_failure is not None:
            times.append(self._heard_s + self._limits.max_outage_s)
        return min(times, default=None)

    def add(self, batches: Sequence[Batch], row_bytes: int) -> None:
        """Take on the batches of a segment that was read, whose rows take so many bytes each."""
        self._ready.extend(_Request(batch, row_bytes) for batch in batches)

    def step(self, now_s: float) -> list[Action]:
        """Return what to do now: requests to send, or the end of the run."""
        while self._waiting and self._waiting[0][0] <= now_s:
            self._ready.appendleft(heapq.heappop(self._waiting)[2])
        if self._last_failure is not None and self._silence_s(now_s) >= self._limits.max_outage_s:
            return [Abort(self._outage(now_s))]
        actions: list[Action] = []
        while self._ready and self._admits(self._ready[0]):
            endpoint = self._endpoints.choose(now_s)
            if endpoint is None:
                break
            actions.append(self._send(self._ready.popleft(), endpoint, now_s))
        self.in_flight_max = max(self.in_flight_max, len(self._in_flight))
        return actions

    def succeeded(self, request_id: int, now_s: float) -> None:
        """Settle a request whose answer was checked and kept."""
        in_flight = len(self._in_flight)
        request = self._land(request_id)
        self._window.answered(request.batch.rows, in_flight, now_s)
        self._hear(request.endpoint, now_s)
        self.rows_ok += request.batch.rows

    def failed(self, request_id: int, failure: Failure, now_s: float) -> list[Action]:
        """Decide about a failed attempt: another one, a cut, failed rows, or the end."""
        in_flight = len(self._in_flight)
        request = self._land(request_id)
        verdict, error = judge(failure)
        if verdict is Verdict.STOP and error is not None:
            return [Abort(error)]
        if verdict is Verdict.RETRY:
            self._last_failure = failure
            self._endpoints.failed(request.endpoint, now_s)
            self._ready.appendleft(request)
            return []
        self._hear(request.endpoint, now_s)
        if verdict is Verdict.BUSY:
            self._window.refused(in_flight, now_s - request.sent_s, now_s)
            wait_s = min(BUSY_WAIT_S_MIN * 2 ** (request.attempts - 1), BUSY_WAIT_S_MAX)
            heapq.heappush(self._waiting, (now_s + wait_s, request_id, request))
            return []
        if request.batch.rows > 1:
            halves = (_Request(half, request.row_bytes) for half in request.batch.halves())
            self._ready.extendleft(reversed(tuple(halves)))
            return []
        self.rows_failed += 1
        return [FailRows(request.batch, failure), *self._check_failures(failure)]

    def take_back(self, rows_ok: int, rows_failed: int) -> None:
        """Forget rows that were settled; their batches are added once more."""
        self.rows_ok -= rows_ok
        self.rows_failed -= rows_failed

    def _admits(self, request: _Request) -> bool:
        if not self._in_flight:
            return True  # a request above the bounds goes alone rather than never
        return (
            len(self._in_flight) < self._window.limit
            and self._rows_in_flight + request.batch.rows <= self._limits.rows_max
            and self._bytes_in_flight + request.size_bytes <= self._limits.bytes_max
        )

    def _send(self, request: _Request, endpoint: int, now_s: float) -> Send:
        if not self._in_flight and self._last_failure is None:
            self._heard_s = now_s  # nobody was asked until now, so nobody has been silent
        request.endpoint = endpoint
        request.attempts += 1
        request.sent_s = now_s
        self.attempts += 1
        self._endpoints.sent(endpoint, request.batch.rows)
        self._rows_in_flight += request.batch.rows
        self._bytes_in_flight += request.size_bytes
        request_id, self._next_id = self._next_id, self._next_id + 1
        self._in_flight[request_id] = request
        return Send(request_id, request.batch, endpoint)

    def _land(self, request_id: int) -> _Request:
        request = self._in_flight.pop(request_id)
        self._endpoints.landed(request.endpoint, request.batch.rows)
        self._rows_in_flight -= request.batch.rows
        self._bytes_in_flight -= request.size_bytes
        return request

    def _hear(self, endpoint: int, now_s: float) -> None:
        """Take note that a server answered, be it with a refusal."""
        self._endpoints.answered(endpoint)
        self._heard_s = now_s
        self._last_failure = None

    def _silence_s(self, now_s: float) -> float:
        return now_s - self._heard_s

    def _outage(self, now_s: float) -> OutageError:
        failure = self._last_failure
        said = f"{failure.status}: {failure.text}" if failure else "nothing"
        return OutageError(
            f"no server answered for {self._silence_s(now_s):.0f} s (last word: {said}); check "
            "that it runs and that the address is right, then run again"
        )

    def _check_failures(self, failure: Failure) -> list[Action]:
        limits = self._limits
        failed = self.rows_failed + limits.rows_failed_before
        settled = self.rows_ok + self.rows_failed + limits.rows_before
        allowed = max(limits.failed_rows_max, int(limits.failed_fraction_max * settled))
        if failed <= allowed:
            return []
        return [
            Abort(
                FailureLimitError(
                    f"{failed} rows failed, and --max-failed-fraction allows "
                    f"{allowed} (last: {failure.status}: {failure.text}); "
                    "look at model and data, or raise the limit"
                )
            )
        ]
