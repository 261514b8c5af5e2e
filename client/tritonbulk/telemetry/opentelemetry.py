"""Traces and metrics of a run by OpenTelemetry, sent where its own environment variables say.

One span covers the run, one each request that ended (sampled as ``OTEL_TRACES_SAMPLER`` says).
Names and units of the metrics are those of `tritonbulk.metrics`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from tritonbulk.errors import PlatformError
from tritonbulk.events import RequestEnded, RunEvent
from tritonbulk.metrics import METRICS, Metric

SCOPE = "tritonbulk"


class OpenTelemetrySink:
    """Passes metrics on to a meter; a `tritonbulk.metrics.MetricSink`.

    Args:
        meter: of OpenTelemetry.
    """

    def __init__(self, meter: Any) -> None:
        makers = {
            "counter": meter.create_counter,
            "gauge": meter.create_gauge,
            "histogram": meter.create_histogram,
        }
        self._of = {
            metric.name: makers[metric.kind](metric.name, metric.unit, metric.help)
            for metric in METRICS
        }

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """See `MetricSink.add`."""
        self._of[metric.name].add(value, _attributes(metric, labels))

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """See `MetricSink.set`."""
        self._of[metric.name].set(value, _attributes(metric, labels))

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """See `MetricSink.observe`."""
        self._of[metric.name].record(value, _attributes(metric, labels))


class RunTrace:
    """The spans of one run; a context manager.

    Args:
        tracer: of OpenTelemetry.
        model: the model's name.
    """

    def __init__(self, tracer: Any, model: str) -> None:
        self._tracer = tracer
        self._model = model
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RunTrace:
        # Our errors' texts hold no secrets, and those of rows stay out of traces.
        self._stack.enter_context(
            self._tracer.start_as_current_span(
                "tritonbulk.score",
                attributes={"gen_ai.request.model": self._model},
                record_exception=False,
                set_status_on_exception=False,
            )
        )
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            from opentelemetry import trace as traces  # noqa: PLC0415

            span = traces.get_current_span()
            span.set_status(traces.StatusCode.ERROR, kind.__name__)
        self._stack.close()

    def note(self, event: RunEvent) -> None:
        """Make a span of a request that ended."""
        if not isinstance(event, RequestEnded):
            return
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            "tritonbulk.request",
            start_time=end_ns - int(event.seconds * 1e9),
            attributes={
                "server.address": event.endpoint,
                "tritonbulk.outcome": event.outcome,
                "tritonbulk.rows": event.rows,
            },
        )
        span.end(end_ns)


@contextlib.contextmanager
def exporting(model: str) -> Iterator[tuple[OpenTelemetrySink, RunTrace]]:
    """Give what sends metrics and spans by OTLP over HTTP; all is sent when the block ends.

    Raises:
        PlatformError: the packages are not installed; a retry does not help.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise PlatformError(
            "--otel needs packages of OpenTelemetry; pip install 'tritonbulk[otel]'"
        ) from None
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say more, and stand above this.
    resource = Resource({"service.name": SCOPE}).merge(Resource.create())
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource)
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        with RunTrace(traces.get_tracer(SCOPE), model) as trace:
            yield OpenTelemetrySink(meters.get_meter(SCOPE)), trace
    finally:
        traces.shutdown()
        meters.shutdown()


def _attributes(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))
