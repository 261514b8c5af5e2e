"""Recorder: what happened in a run, kept in the same room however long it lasts. Pure.

It is told each event with the time since the run began, in O(1). Time is cut into at most `BINS`
bins, whose width doubles when they are used up; latencies are counted in sixteenths of an octave,
so that percentiles are within 5 % of what they would be. All of it takes less than a megabyte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tritonbulk.events import (
    EndpointChanged,
    EndpointState,
    Outcome,
    RequestEnded,
    RowsFailed,
    RunEvent,
)

BINS = 120
BIN_S = 0.25
"""Width of a bin at first."""

LATENCY_LOW_S = 1e-4
PER_OCTAVE = 16
LATENCIES = 23 * PER_OCTAVE
"""Counters of latencies, from `LATENCY_LOW_S` to 14 minutes; the ends take what is beyond."""

ENDPOINTS_MAX = 64
CHANGES_MAX = 200
REASONS_MAX = 50
REASON_LETTERS = 400
"""Letters that are kept of what a server said."""


class Latencies:
    """Counts of latencies; half of them lie below `quantile(0.5)`."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = [0] * LATENCIES

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[place_of(seconds)] += 1

    def take(self, other: Latencies) -> None:
        """Add the counts of another."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Return the seconds below which that share of all lies; None if there are none."""
        wanted = share * self.total
        if not wanted:
            return None
        below = 0
        for place, found in enumerate(self.counts):
            if below + found >= wanted:
                within = (wanted - below) / found if found else 0.0
                return edge(place + within)
            below += found
        return edge(LATENCIES)


def place_of(seconds: float) -> int:
    """Return the counter that a latency belongs to."""
    if seconds <= LATENCY_LOW_S:
        return 0
    return min(int(math.log2(seconds / LATENCY_LOW_S) * PER_OCTAVE), LATENCIES - 1)


def edge(place: float) -> float:
    """Return the lower edge of a counter of latencies, in seconds."""
    return LATENCY_LOW_S * 2.0 ** (place / PER_OCTAVE)


@dataclass(slots=True)
class Bin:
    """What happened in one stretch of time.

    Attributes:
        rows: rows that were answered.
        answered: requests that were.
        failed: attempts that were not.
        in_flight_sum: sum over all ends of attempts of what was in flight then.
        in_flight_max: the most.
        window: the last width; None if no attempt ended.
        latencies: of answers.
    """

    rows: int = 0
    answered: int = 0
    failed: int = 0
    in_flight_sum: int = 0
    in_flight_max: int = 0
    window: int | None = None
    latencies: Latencies = field(default_factory=Latencies)

    def take(self, later: Bin) -> None:
        """Become this and the bin after it together."""
        self.rows += later.rows
        self.answered += later.answered
        self.failed += later.failed
        self.in_flight_sum += later.in_flight_sum
        self.in_flight_max = max(self.in_flight_max, later.in_flight_max)
        self.window = self.window if later.window is None else later.window
        self.latencies.take(later.latencies)


@dataclass(slots=True)
class EndpointRecord:
    """What became of the attempts at one endpoint.

    Attributes:
        outcomes: how often attempts ended how.
        rows: rows that it answered.
        latencies: of its answers.
        state: how it was treated last.
        probes: how often it was asked whether it can be used again.
    """

    outcomes: dict[Outcome, int] = field(default_factory=dict)
    rows: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    state: EndpointState = "up"
    probes: int = 0


@dataclass(slots=True)
class Reason:
    """Rows that failed for one reason: how many, and seconds from the run's begin to the first."""

    rows: int
    first_s: float


OTHERS = "(others)"
"""Stands for endpoints and reasons beyond those that are kept apart."""


class Recorder:
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.bin_s = BIN_S
        self.bins: list[Bin] = []
        self.endpoints: dict[str, EndpointRecord] = {}
        self.changes: list[tuple[float, EndpointChanged]] = []
        self.changes_left_out = 0
        self.reasons: dict[tuple[int, str], Reason] = {}
        self.latencies = Latencies()

    def note(self, event: RunEvent, at_s: float) -> None:
        """Take one event in.

        Args:
            event: what happened.
            at_s: seconds since the run began.
        """
        match event:
            case RequestEnded():
                self._ended(event, self._bin(at_s))
            case EndpointChanged():
                self._changed(event, at_s)
            case RowsFailed(rows, status, text):
                self._failed(rows, status, text[:REASON_LETTERS], at_s)

    def rate(self) -> list[float]:
        """Return rows answered a second, one value a bin."""
        return [each.rows / self.bin_s for each in self.bins]

    @property
    def rows(self) -> int:
        """Rows that were answered."""
        return sum(each.rows for each in self.bins)

    def outcomes(self) -> dict[Outcome, int]:
        """Return how often attempts ended how, over all endpoints."""
        total: dict[Outcome, int] = {}
        for endpoint in self.endpoints.values():
            for outcome, times in endpoint.outcomes.items():
                total[outcome] = total.get(outcome, 0) + times
        return total

    def _ended(self, event: RequestEnded, now: Bin) -> None:
        endpoint = self._endpoint(event.endpoint)
        endpoint.outcomes[event.outcome] = endpoint.outcomes.get(event.outcome, 0) + 1
        now.in_flight_sum += event.in_flight
        now.in_flight_max = max(now.in_flight_max, event.in_flight)
        now.window = event.window
        if event.outcome != "ok":
            now.failed += 1
            return
        now.rows += event.rows
        now.answered += 1
        endpoint.rows += event.rows
        place = place_of(event.seconds)
        for latencies in (now.latencies, endpoint.latencies, self.latencies):
            latencies.counts[place] += 1

    def _changed(self, event: EndpointChanged, at_s: float) -> None:
        """Keep a change; one that rests, is asked and rests on has not changed."""
        endpoint = self._endpoint(event.endpoint)
        if event.state == "probing":
            endpoint.probes += 1
            return
        is_known = event.endpoint in self.endpoints
        was, endpoint.state = endpoint.state, event.state
        if is_known and event.state == was:
            return
        if len(self.changes) < CHANGES_MAX:
            kept = replace(event, reason=event.reason[:REASON_LETTERS])
            self.changes.append((at_s, kept))
        else:
            self.changes_left_out += 1

    def _failed(self, rows: int, status: int, text: str, at_s: float) -> None:
        key = (status, text)
        if key not in self.reasons and len(self.reasons) >= REASONS_MAX:
            key = (0, OTHERS)
        if key in self.reasons:
            self.reasons[key].rows += rows
        else:
            self.reasons[key] = Reason(rows, at_s)

    def _endpoint(self, address: str) -> EndpointRecord:
        if address not in self.endpoints and len(self.endpoints) >= ENDPOINTS_MAX:
            address = OTHERS
        return self.endpoints.setdefault(address, EndpointRecord())

    def _bin(self, at_s: float) -> Bin:
        """Return the bin of a moment; merges bins until there is room for it."""
        while at_s >= self.bin_s * BINS:
            self.bins = [_merged(self.bins[at : at + 2]) for at in range(0, len(self.bins), 2)]
            self.bin_s *= 2
        place = max(int(at_s / self.bin_s), 0)
        while len(self.bins) <= place:
            self.bins.append(Bin())
        return self.bins[place]


def _merged(pair: Sequence[Bin]) -> Bin:
    first, *rest = pair
    for later in rest:
        first.take(later)
    return first
