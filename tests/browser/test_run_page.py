"""Reports of runs in a real browser: charts are drawn, and nothing overflows, at every size."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tritonbulk
from tests.browser import chromium
from tritonbulk.bottleneck import Bottleneck, Load
from tritonbulk.environment import environment
from tritonbulk.events import EndpointChanged, RequestEnded, RowsFailed
from tritonbulk.report.recorder import Recorder
from tritonbulk.report.run_page import RunFacts, run_page

pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing()),
]

HOSTILE = '</text></svg><script>document.title="x"</script><img src=x onerror=alert(1)>'


def eventful_run():
    """Return the page of 20 minutes at three servers, one of which dies for two of them."""
    record, draw = Recorder(), random.Random(5)
    addresses = [f"gpu{number}.example.com:8001" for number in range(3)]
    for tick in range(24_000):
        at_s = tick * 0.05
        is_down = 500 < at_s < 620
        address = addresses[draw.randrange(2 if is_down else 3)]
        seconds = draw.lognormvariate(-4, 0.4) * (1.5 + math.sin(at_s / 100))
        outcome = "lost" if is_down and draw.random() < 0.05 else "ok"
        record.note(RequestEnded(address, outcome, 4096, seconds, 12, 16), at_s)
    record.note(EndpointChanged(addresses[2], "resting", "Connection reset " * 20), 500)
    record.note(EndpointChanged(addresses[2], "up", ""), 620)
    for number in range(4):
        record.note(RowsFailed(number + 1, 13, f"{HOSTILE} {number} " * 3), 700 + number)
    record.note(RowsFailed(2, 3, "word" * 90), 800)
    load = Load(0.03, 0.2, 0.05, 0.4, 0.1, 1.0, 0.97, 31.2, 12.1, 15.3)
    facts = RunFacts(
        model="a_model_with_a_rather_long_name_" + "x" * 60,
        version="202611230838672021",
        inputs=("s3://bucket/" + "folder/" * 30 + "file.parquet", HOSTILE),
        output="scored",
        began=datetime(2026, 11, 23, tzinfo=UTC),
        seconds=1200.0,
        result=None,
        error=f"StoppedError {HOSTILE}",
        settings={"where": "x" * 200},
        environment=environment(),
    )
    return facts, record, load


def result_of(facts, record, load):
    return tritonbulk.ScoreResult(
        rows_in=record.rows + 12, rows_scored=record.rows + 12, rows_ok=record.rows, rows_failed=12,
        seconds=1200.0, rows_per_second=record.rows / 1200, cpu_seconds_client=300.0,
        requests=24_000, batch_rows=4096, in_flight_max=16, model=facts.model,
        model_version=facts.version, endpoints=tuple(record.endpoints), transport="unary",
        output="scored", rows_filtered=0, job="sha256:" + "a" * 64, job_rows=record.rows,
        job_rows_failed=12, segments=1500, segments_before=3,
        bottleneck=Bottleneck("server compute", is_saturated=True, load=load), profile=None,
    )  # fmt: skip


def test_a_long_run_with_failures_is_drawn_at_every_size(tmp_path):
    facts, record, load = eventful_run()
    page = run_page(replace(facts, result=result_of(facts, record, load), error=""), record)
    measured = chromium.measure(page, tmp_path)
    chromium.check(measured)
    titles = {chart["title"] for chart in measured["phone"]["charts"]}
    assert titles >= {"Throughput", "Requests in flight", "Latency over time", "Failed attempts"}
    assert titles >= {"Latency of requests", "Busy, of the whole time", "Rows by endpoint"}
    # What servers said is shown, and is text.
    assert "onerror=alert(1)" in measured["desktop"]["text"]
    assert chromium.photograph(page, tmp_path, "desktop", 2600).stat().st_size > 50_000
    assert chromium.photograph(page, tmp_path, "phone", 4000).stat().st_size > 50_000


@pytest.mark.live
def test_the_report_of_a_real_run_is_drawn_and_printed(triton, tmp_path):
    rows = 4_000
    x = pa.FixedSizeListArray.from_arrays(np.arange(rows * 4, dtype=np.float32), 4)
    pq.write_table(pa.table({"x": x}), tmp_path / "in.parquet")
    result = tritonbulk.score(
        tmp_path / "in.parquet", model="double", out=tmp_path / "out", endpoints=[triton.grpc],
        report=str(tmp_path / "report.html"),
    )  # fmt: skip
    assert result.report == str(tmp_path / "report.html")
    page = Path(result.report).read_text(encoding="utf-8")
    (kept,) = (tmp_path / "out" / "_tritonbulk" / "runs").glob("*.html")
    assert kept.read_text(encoding="utf-8") == page
    measured = chromium.measure(page, tmp_path)
    chromium.check(measured)
    assert f"All {rows:,} rows have a prediction" in measured["phone"]["text"]
    assert len(measured["phone"]["charts"]) >= 5
    assert chromium.photograph(page, tmp_path, "desktop", 2000).stat().st_size > 50_000
    paper = chromium.print_out(page, tmp_path).read_bytes()
    assert paper.startswith(b"%PDF")
    assert 1 <= paper.count(b"/Type /Page\n") <= 4
