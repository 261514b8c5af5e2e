"""Events of a run: what happens to requests and endpoints, for whoever counts and shows it.

They tell and decide nothing. A run makes them only for an observer that asked for them
(`scoring.Observer.note`), which is called in the event loop and must return at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal[
    "ok", "busy", "away", "lost", "late", "sick", "suspect", "rejected", "wrong", "oversize", "stop"
]
"""How an attempt ended: with an answer that was kept, or with a failure that means this (see
`dispatch.policy.Meaning`)."""

EndpointState = Literal["up", "resting", "probing", "gone"]
"""What is done with an endpoint: it gets requests; it rests after failures; it is asked whether it
can be used again; it gets no more requests."""


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """One attempt ended.

    Attributes:
        endpoint: address of the server.
        outcome: how.
        rows: rows of the request, those repeated to fill a batch left out.
        seconds: from sending to the answer or failure.
        in_flight: requests still under way, over all endpoints.
        window: how many may be.
    """

    endpoint: str
    outcome: Outcome
    rows: int
    seconds: float
    in_flight: int
    window: int


@dataclass(frozen=True, slots=True)
class EndpointChanged:
    """An endpoint is treated differently from now on.

    Attributes:
        endpoint: address of the server.
        state: how.
        reason: why, in a few words; "" if it answers again.
        quotes_data: the reason may quote values of rows, so that no log takes it.
    """

    endpoint: str
    state: EndpointState
    reason: str
    quotes_data: bool = False


@dataclass(frozen=True, slots=True)
class RowsFailed:
    """Rows were given up; they stand in the output with their error.

    Attributes:
        rows: how many.
        status: gRPC status code of the failure.
        text: the reason, partly in the server's own words.
    """

    rows: int
    status: int
    text: str


RunEvent = RequestEnded | EndpointChanged | RowsFailed
