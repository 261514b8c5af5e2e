"""Metrics of a run over HTTP, in the text format of Prometheus."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)

from tritonbulk.errors import OptionError
from tritonbulk.metrics import METRICS, Metric

PATH = "/metrics"


class PrometheusSink:
    """Holds the metrics of one run in a registry of its own; a `tritonbulk.metrics.MetricSink`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # no list of ours has them
        makers = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self.registry = CollectorRegistry()
        self._of = {
            metric.name: makers[metric.kind](
                metric.name,
                metric.help,
                metric.labels,
                registry=self.registry,
                **({"buckets": metric.buckets} if metric.buckets else {}),
            )
            for metric in METRICS
        }

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """See `MetricSink.add`."""
        self._at(metric, labels).inc(value)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """See `MetricSink.set`."""
        self._at(metric, labels).set(value)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """See `MetricSink.observe`."""
        self._at(metric, labels).observe(value)

    def _at(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        found = self._of[metric.name]
        return found.labels(*labels) if labels else found


@contextlib.contextmanager
def serving(sink: PrometheusSink, host: str, port: int) -> Iterator[str]:
    """Answer ``GET /metrics`` in a thread for as long as the block lasts; give the address.

    Args:
        sink: what is shown.
        host: address to listen on.
        port: the same; 0 takes any.

    Raises:
        OptionError: nothing can listen there; a retry does not help.
    """
    try:
        server, thread = start_http_server(port, host, sink.registry)
    except OSError as error:
        raise OptionError(
            f"--metrics-port {port}: nothing can listen at {host}:{port} "
            f"({error.strerror or error}); give another port"
        ) from None
    try:
        yield f"http://{host}:{server.server_port}{PATH}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
