"""Reports of sweeps in a real browser: charts are drawn, and nothing overflows, at every size."""

import pytest

from tests.browser import chromium
from tests.unit.test_bench_page import BEGAN, accelerator_sweep
from tritonbulk.bench.page import sweep_page

pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing()),
]


def test_a_sweep_is_drawn_at_every_size_and_printed(tmp_path):
    page = sweep_page(accelerator_sweep(), BEGAN)
    measured = chromium.measure(page, tmp_path)
    chromium.check(measured)
    titles = {chart["title"] for chart in measured["phone"]["charts"]}
    assert titles >= {"Throughput by latency", "Batches that the model executed"}
    assert titles >= {"What a batch takes", "Where a request's time goes"}
    maps = [title for title in titles if title.startswith("Server ")]
    assert len(maps) == 3
    assert chromium.photograph(page, tmp_path, "desktop", 3600).stat().st_size > 50_000
    assert chromium.photograph(page, tmp_path, "phone", 5000).stat().st_size > 50_000
    paper = chromium.print_out(page, tmp_path).read_bytes()
    assert 2 <= paper.count(b"/Type /Page\n") <= 7
