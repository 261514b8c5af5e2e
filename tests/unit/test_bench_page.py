"""The page of a sweep: the verdict first, every setting somewhere, whatever was measured."""

import random
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tritonbulk.bench.page import sweep_page
from tritonbulk.bench.result import Applied, Checked, Sweep
from tritonbulk.bench.search import Space
from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bench.statistics import Interval
from tritonbulk.bench.trial import Executed, Noise, ServerSplit, Trial
from tritonbulk.bench.verdict import judge
from tritonbulk.bottleneck import Load

BASE = Variant(1, 0, 4096, "1")
A_MS, B_MS = 8.0, 0.05
BEGAN = datetime(2026, 11, 23, tzinfo=UTC)
LOAD = Load(0.02, 0.1, 0.05, 0.3, 0.1, 1.0, 0.97, 20.0, 5.0, 14.0)


def trial_of(setting, number=0, draw=None):
    """Return what an accelerator of a + b · rows milliseconds would measure, with some noise."""
    draw = draw or random.Random(number)
    rows, width, variant = setting.batch_rows, setting.in_flight, setting.variant
    batch_ms = A_MS + B_MS * rows
    rate = min(variant.instances * rows / batch_ms, width * rows / (batch_ms + 3)) * 1e3
    rate *= draw.gauss(1, 0.02)
    trip_ms = rows * width / rate * 1e3
    server = ServerSplit(
        rows, max(trip_ms - batch_ms - 3, 0), 0.4, batch_ms, 0.3, (Executed(rows, 200, batch_ms),)
    )
    return Trial(
        setting, number, "coarse grid", rows=200 * rows, seconds=2.0, rows_per_second=rate,
        warm_up_s=0.3, is_steady=True, cpu_s_client=0.2, cpu_s_server=0.4,
        in_flight_little=width, round_trip_ms=trip_ms, load=LOAD, bound_by="server compute",
        transport="unary", server=server, noise=Noise(draw.random() * 0.3, 0.0),
    )  # fmt: skip


def sweep_of(trials, **also):
    verdict = judge(trials, BASE, 3.0, 100_000_000)
    space = Space((64, 256, 1024, 4096), (1, 4, 16), BASE, (1, 2, 4))
    return Sweep("accelerator", ("rows.parquet",), 100_000_000, space, {"cores": 2}, 38_000.0,
                 tuple(trials), 120.0, verdict, **also)  # fmt: skip


def accelerator_sweep():
    draw = random.Random(4)
    settings = [
        Setting(rows, width, Variant(instances, delay, 4096, "1"))
        for rows in (64, 256, 1024, 2048)
        for width in (1, 4, 16)
        for instances, delay in ((1, 0), (2, 0), (2, 2000))
    ]
    trials = [trial_of(each, number, draw) for number in range(3) for each in settings]
    trials.append(Trial(Setting(4096, 16, BASE), 0, "coarse grid", error="INTERNAL: out of memory"))
    return sweep_of(trials)


def test_the_verdict_comes_first_with_its_reasons_and_costs():
    sweep = accelerator_sweep()
    page = sweep_page(sweep, BEGAN)
    found = sweep.verdict
    said = f"{found.batch_rows:,} rows a request, {found.in_flight} in flight, {found.instances} "
    assert said in page
    assert page.index(said) < page.index("<svg")
    assert f"{found.cost_per_million_rows:.3g}" in page
    for advice in found.advice:
        assert advice.why in page.replace("&#x27;", "'").replace("&amp;", "&")


def test_every_setting_stands_in_the_table():
    sweep = accelerator_sweep()
    table = sweep_page(sweep, BEGAN).partition("All settings")[2]
    assert len(re.findall("<tr>", table)) == 1 + len({trial.setting for trial in sweep.trials})


def test_what_failed_is_marked_and_its_words_are_text():
    words = "<script>alert(1)</script>"
    good = [trial_of(Setting(64, 1, BASE), number) for number in range(3)]
    bad = Trial(Setting(4096, 1, BASE), 0, "coarse grid", error=f"INTERNAL: {words}")
    page = sweep_page(sweep_of([*good, bad]), BEGAN)
    assert words not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "✗" in page


def test_a_sweep_in_which_all_failed_says_so():
    bad = Trial(Setting(64, 1, BASE), 0, "coarse grid", error="INTERNAL: out of memory")
    page = sweep_page(sweep_of([bad]), BEGAN)
    assert "There is no verdict" in page
    assert "out of memory" in page


def test_a_sweep_of_nothing_and_of_one_trial_are_pages():
    assert "There is no verdict" in sweep_page(sweep_of([]), BEGAN)
    assert "Measured once" in sweep_page(sweep_of([trial_of(Setting(64, 1, BASE))]), BEGAN)


def test_a_server_that_tells_nothing_leaves_its_part_out():
    trials = [replace(trial_of(Setting(64, w, BASE)), server=None, noise=None) for w in (1, 4)]
    page = sweep_page(sweep_of(trials), BEGAN)
    assert "What the server did" not in page


def test_what_was_checked_and_applied_is_told():
    ratio = Interval(1.01, 1.04, 1.07)
    checked = Checked(Setting(64, 1, BASE), (104.0, 104.0), (100.0, 100.0), ratio)
    trials = [trial_of(Setting(64, 1, BASE))]
    page = sweep_page(sweep_of(trials), BEGAN, [checked], Applied(ratio, True, Path("x.bak"), ""))
    assert "1.010 … 1.070" in page
    assert "the recommended one now; it was x.bak" in page
    page = sweep_page(sweep_of(trials), BEGAN, [], Applied(None, False, None, "<nothing> was won"))
    assert "as it was, because &lt;nothing&gt; was won" in page
    assert "perf_analyzer" not in page


def test_batches_that_failed_are_no_measure_of_what_a_batch_takes():
    good = [trial_of(Setting(rows, 1, BASE), number) for rows in (64, 256) for number in range(2)]
    split = ServerSplit(4096, 0, 0, 0, 0, (Executed(4096, 9, 0.001),))
    bad = replace(trial_of(Setting(4096, 1, BASE)), server=split, requests_failed=9)
    page = sweep_page(sweep_of([*good, bad]), BEGAN)
    assert "batches of 256 rows: " in page
    assert "batches of 4,096 rows: " not in page
