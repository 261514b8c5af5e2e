"""Requests: where each of a run's batches is. A request is in exactly one place."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

from tritonbulk.segments import Batch


class Stage(Enum):
    """How a request is sent."""

    PLAIN = "plain"
    """As it was planned; the server may execute it together with others."""
    APART = "apart"
    """Repeated to a full batch, so that nothing can be executed together with it."""
    ALONE = "alone"
    """So, and with nothing else of ours in flight at its endpoint: it may take the server down."""
    CONTROL = "control"
    """A row that was scored before, repeated to a full batch, to see whether the server works."""


@dataclass(slots=True)
class Request:
    """One request, with its history.

    Attributes:
        batch: its rows.
        row_bytes: of each of them, input and answer.
        stage: how it is sent.
        is_filled: whether it is repeated to a full batch.
        may_fill: whether it may be: not once it was too large so.
        has_row: of a control: whether it has a row, and not only a question.
        rows_sent: its rows with repetitions.
        attempts: how often it was sent, since it became what it is.
        refusals: how often a full queue refused it, one after the other.
        losses: connections that broke, and model processes that died, with it in flight.
        lates: attempts without an answer in time.
        strikes: failures that count towards its conviction.
        doubts: failures that do not, for want of a control.
        endpoint: where it was sent last.
        sent_s: when.
        rows_ahead: rows in flight there then, its own included.
        is_vouched: whether a control had passed there shortly before.
    """

    batch: Batch
    row_bytes: int
    stage: Stage = Stage.PLAIN
    is_filled: bool = False
    may_fill: bool = True
    has_row: bool = False
    rows_sent: int = 0
    attempts: int = 0
    refusals: int = 0
    losses: int = 0
    lates: int = 0
    strikes: int = 0
    doubts: int = 0
    endpoint: int = -1
    sent_s: float = 0.0
    rows_ahead: int = 0
    is_vouched: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors while it is in flight."""
        return self.rows_sent * self.row_bytes

    def halves(self) -> tuple[Request, Request]:
        """Return it cut in two, each sent as it was."""
        first, second = self.batch.halves()
        return (
            Request(first, self.row_bytes, self.stage, may_fill=self.may_fill),
            Request(second, self.row_bytes, self.stage, may_fill=self.may_fill),
        )


class Queue:
    """Requests that are to be sent or are in flight.

    Args:
        fill_rows: rows that fill a batch.
    """

    def __init__(self, fill_rows: int) -> None:
        self._fill_rows = fill_rows
        self._next = 0
        self._waiting: list[tuple[float, int, Request]] = []
        self.ready: deque[Request] = deque()
        """Sent as planned, in order of the input, repetitions first."""
        self.apart: deque[Request] = deque()
        """Suspects, each sent apart."""
        self.alone: deque[Request] = deque()
        """Suspects, each sent alone."""
        self.in_flight: dict[int, Request] = {}
        self.controls = 0
        """Of those in flight, controls."""
        self.rows = 0
        """Rows in flight."""
        self.size_bytes = 0
        """Bytes of tensors in flight."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to be sent and nothing is in flight."""
        return not (self.in_flight or self._waiting or self.ready or self.apart or self.alone)

    @property
    def has_more(self) -> bool:
        """Whether something could be sent now, were there room for it."""
        return bool(self.ready or self.apart or self.alone)

    @property
    def due_s(self) -> float:
        """When the first request that waits may be sent; infinite if none waits."""
        return self._waiting[0][0] if self._waiting else math.inf

    def again(self, request: Request, at_s: float, now_s: float) -> None:
        """Send a request again, not before a time."""
        if at_s > now_s:
            self._next += 1
            heapq.heappush(self._waiting, (at_s, self._next, request))
        else:
            self.put_back(request)

    def put_back(self, request: Request) -> None:
        """Send a request again, as soon as there is room."""
        match request.stage:
            case Stage.APART:
                self.apart.appendleft(request)
            case Stage.ALONE:
                self.alone.appendleft(request)
            case _:
                self.ready.appendleft(request)

    def cut(self, request: Request) -> None:
        """Send a request again in two halves."""
        for half in reversed(request.halves()):
            self.put_back(half)

    def part(self) -> None:
        """Send alone whoever was to be sent apart."""
        while self.apart:
            request = self.apart.pop()
            request.stage = Stage.ALONE
            self.alone.appendleft(request)

    def wake(self, now_s: float) -> None:
        """Move those that have waited long enough."""
        while self._waiting and self._waiting[0][0] <= now_s:
            self.put_back(heapq.heappop(self._waiting)[2])

    def send(self, request: Request, endpoint: int, now_s: float) -> int:
        """Take note that a request is in flight, and return its id."""
        rows = request.batch.rows
        request.rows_sent = max(self._fill_rows, rows) if request.is_filled else rows
        request.endpoint = endpoint
        request.sent_s = now_s
        request.attempts += 1
        request_id, self._next = self._next, self._next + 1
        self.in_flight[request_id] = request
        self.controls += request.stage is Stage.CONTROL
        self.rows += request.rows_sent
        self.size_bytes += request.size_bytes
        return request_id

    def land(self, request_id: int) -> Request:
        """Take note that a request is no longer in flight, and return it."""
        request = self.in_flight.pop(request_id)
        self.controls -= request.stage is Stage.CONTROL
        self.rows -= request.rows_sent
        self.size_bytes -= request.size_bytes
        return request
