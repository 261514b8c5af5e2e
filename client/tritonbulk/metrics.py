"""Metrics: what is counted while a run goes on. All of them stand here, as data. Pure.

Whoever shows them (Prometheus, OpenTelemetry, a dashboard) takes names, labels and units from
`METRICS`; `Meter` turns the events of a run into their values. See ``docs/observability.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from tritonbulk.events import EndpointChanged, EndpointState, RequestEnded, RowsFailed, RunEvent

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as Prometheus knows it, unit last; of a counter without ``_total``, which is added.
        kind: "counter" only grows, "gauge" moves, "histogram" counts by buckets.
        unit: of its values; "1" for what is merely counted or a state.
        help: one sentence.
        labels: names of its labels, in order.
        buckets: upper bounds, of a histogram.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def exposed_name(self) -> str:
        """The name as Prometheus shows it."""
        return self.name + ("_total" if self.kind == "counter" else "")


LATENCY_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0
)  # fmt: skip

ROWS_EXPECTED = Metric(
    "tritonbulk_expected_rows", "gauge", "rows",
    "Rows that the run is to score; 0 where only reading tells.",
)  # fmt: skip
ROWS = Metric(
    "tritonbulk_rows", "counter", "rows",
    "Rows settled: with a prediction (ok) or with their error (failed).", ("status",),
)  # fmt: skip
REQUESTS = Metric(
    "tritonbulk_requests", "counter", "1",
    "Requests that ended, repeated ones included, by what their outcome means.",
    ("endpoint", "outcome"),
)  # fmt: skip
REQUEST_ROWS = Metric(
    "tritonbulk_request_rows", "counter", "rows",
    "Rows of the requests that ended, repeated ones included.", ("endpoint", "outcome"),
)  # fmt: skip
REQUEST_SECONDS = Metric(
    "tritonbulk_request_duration_seconds", "histogram", "s",
    "From sending a request to its answer.", ("endpoint",), LATENCY_BUCKETS_S,
)  # fmt: skip
IN_FLIGHT = Metric(
    "tritonbulk_in_flight_requests", "gauge", "1", "Requests under way, over all endpoints."
)
WINDOW = Metric(
    "tritonbulk_window_requests", "gauge", "1", "Requests that may be under way at once."
)
ENDPOINT_STATE = Metric(
    "tritonbulk_endpoint_state", "gauge", "1",
    "1 for the state that an endpoint is in, 0 for the others.", ("endpoint", "state"),
)  # fmt: skip
FAILURES = Metric(
    "tritonbulk_failed_rows", "counter", "rows",
    "Rows given up, by the gRPC status code of their failure.", ("code",),
)  # fmt: skip

METRICS = (
    ROWS_EXPECTED,
    ROWS,
    FAILURES,
    REQUESTS,
    REQUEST_ROWS,
    REQUEST_SECONDS,
    IN_FLIGHT,
    WINDOW,
    ENDPOINT_STATE,
)
"""All metrics of a run."""


class MetricSink(Protocol):
    """What takes values of metrics; labels in the order of `Metric.labels`."""

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """Let a counter grow by ``value``, 0 or more."""

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Give a gauge its value."""

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Count ``value`` in a histogram."""


class Meter:
    """Turns what a run tells into metrics; its three functions are those of an observer.

    Args:
        sink: takes them.
    """

    def __init__(self, sink: MetricSink) -> None:
        self._sink = sink
        self._settled = {"ok": 0, "failed": 0}

    def begin(self, rows: int | None) -> None:
        """Take note of how many rows there are to score; None where only the end tells."""
        self._sink.set(ROWS_EXPECTED, rows or 0)
        self._settled = {"ok": 0, "failed": 0}
        for status in self._settled:
            self._sink.add(ROWS, 0, status)

    def advance(self, rows_ok: int, rows_failed: int) -> None:
        """Take note that so many rows are settled by now."""
        for status, rows in (("ok", rows_ok), ("failed", rows_failed)):
            # Rows that are scored anew are taken back first, which a counter cannot show.
            if rows > self._settled[status]:
                self._sink.add(ROWS, rows - self._settled[status], status)
            self._settled[status] = max(rows, self._settled[status])

    def note(self, event: RunEvent) -> None:
        """Take note of an event."""
        sink = self._sink
        match event:
            case RequestEnded():
                sink.add(REQUESTS, 1, event.endpoint, event.outcome)
                sink.add(REQUEST_ROWS, event.rows, event.endpoint, event.outcome)
                if event.outcome == "ok":
                    sink.observe(REQUEST_SECONDS, event.seconds, event.endpoint)
                sink.set(IN_FLIGHT, event.in_flight)
                sink.set(WINDOW, event.window)
            case EndpointChanged():
                for state in get_args(EndpointState):
                    sink.set(ENDPOINT_STATE, float(state == event.state), event.endpoint, state)
            case RowsFailed():
                sink.add(FAILURES, event.rows, str(event.status))
