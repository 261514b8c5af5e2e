"""Metrics are data: what is shown, what is documented and what is counted are one."""

import re
import urllib.request
from pathlib import Path

import pytest

from tritonbulk.errors import OptionError
from tritonbulk.events import EndpointChanged, RequestEnded, RowsFailed
from tritonbulk.metrics import METRICS, Meter
from tritonbulk.telemetry.logs import RunLog
from tritonbulk.telemetry.prometheus import PrometheusSink, serving

DOCS = Path(__file__).parents[2] / "docs" / "observability.md"


def told(meter):
    """Tell a meter of a run."""
    meter.begin(100)
    meter.note(EndpointChanged("a:1", "up", ""))
    meter.note(RequestEnded("a:1", "ok", 64, 0.02, 3, 8))
    meter.advance(64, 0)
    meter.note(RequestEnded("a:1", "busy", 32, 0.001, 2, 4))
    meter.note(EndpointChanged("a:1", "resting", "refused"))
    meter.note(RowsFailed(2, 3, "why"))
    meter.advance(64, 2)
    meter.advance(32, 2)  # taken back, to be scored anew
    meter.advance(98, 2)


def test_what_is_documented_is_what_there_is():
    line = re.compile(r"^\| `(\w+)` \| (\w+) \| ?(.*?) ?\| (\w+) \| (.*) \|$", re.MULTILINE)
    rows = line.findall(DOCS.read_text())
    documented = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), unit, what)
        for name, kind, labels, unit, what in rows
        if name.startswith("tritonbulk_")
    ]
    known = [(m.exposed_name, m.kind, m.labels, m.unit, m.help) for m in METRICS]
    assert documented == known


def test_what_a_run_tells_is_shown_over_http():
    sink = PrometheusSink()
    told(Meter(sink))
    with serving(sink, "127.0.0.1", 0) as address:
        with urllib.request.urlopen(address, timeout=30) as answer:
            text = answer.read().decode()
        port = int(address.split(":")[2].split("/")[0])
        with pytest.raises(OptionError, match=f"--metrics-port {port}: nothing can listen"):
            serving(PrometheusSink(), "127.0.0.1", port).__enter__()
    for line in (
        "tritonbulk_expected_rows 100.0",
        'tritonbulk_rows_total{status="ok"} 98.0',
        'tritonbulk_rows_total{status="failed"} 2.0',
        'tritonbulk_failed_rows_total{code="3"} 2.0',
        'tritonbulk_requests_total{endpoint="a:1",outcome="ok"} 1.0',
        'tritonbulk_requests_total{endpoint="a:1",outcome="busy"} 1.0',
        'tritonbulk_request_rows_total{endpoint="a:1",outcome="busy"} 32.0',
        'tritonbulk_request_duration_seconds_bucket{endpoint="a:1",le="0.025"} 1.0',
        'tritonbulk_request_duration_seconds_count{endpoint="a:1"} 1.0',
        "tritonbulk_in_flight_requests 2.0",
        "tritonbulk_window_requests 4.0",
        'tritonbulk_endpoint_state{endpoint="a:1",state="resting"} 1.0',
        'tritonbulk_endpoint_state{endpoint="a:1",state="up"} 0.0',
    ):
        assert line in text.splitlines(), line
    shown = set(re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", text, re.MULTILINE))
    assert shown == {metric.exposed_name for metric in METRICS}


def test_a_log_warns_once_of_an_outage_and_seldom_of_rows(caplog):
    log = RunLog()
    with caplog.at_level("DEBUG", "tritonbulk"):
        for state in ("resting", "probing", "resting", "probing", "up", "resting"):
            log.note(EndpointChanged("a:1", state, "connection refused"))
        for status in (13, 13, 13, 3):
            log.note(RowsFailed(1, status, "poison"))
    levels = [record.levelname for record in caplog.records]
    assert levels[:6] == ["WARNING", "DEBUG", "DEBUG", "DEBUG", "INFO", "WARNING"]
    assert levels[6:] == ["WARNING", "DEBUG", "DEBUG", "WARNING"]
