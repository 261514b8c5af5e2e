"""Reports of runs: kept whatever becomes of the run, without secrets, never a reason to fail."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tritonbulk.bottleneck import Bottleneck, Load
from tritonbulk.errors import OptionError, SinkError, StoppedError
from tritonbulk.events import RequestEnded, RowsFailed
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.options import ScoreOptions
from tritonbulk.redaction import Secret
from tritonbulk.report.recorder import Recorder
from tritonbulk.report.run_page import RunFacts, run_page
from tritonbulk.reporting import Reporter
from tritonbulk.result import ScoreResult

RESULT = ScoreResult(
    rows_in=100, rows_scored=100, rows_ok=98, rows_failed=2, seconds=1.5, rows_per_second=66.7,
    cpu_seconds_client=0.1, requests=12, batch_rows=10, in_flight_max=4, model="double",
    model_version="1", endpoints=("gpu1:8001",), transport="unary", output="out", rows_filtered=0,
    job="sha256:" + "a" * 64, job_rows=100, job_rows_failed=2, segments=1, segments_before=0,
    bottleneck=Bottleneck(
        "server compute", is_saturated=True,
        load=Load(0.1, 0.2, 0.1, 0.3, 0.1, 1.0, 0.99, 20.0, 5.0, 14.0),
    ),
    profile=None,
)  # fmt: skip
FACTS = RunFacts(
    model="double", version="1", inputs=("in.parquet",), output="out",
    began=datetime(2026, 11, 23, tzinfo=UTC), seconds=1.5, result=RESULT, error="", settings={},
    environment={"cores": "2"},
)  # fmt: skip


def reporter(tmp_path, text="ValueError: five hundred", **options):
    made = Reporter(ScoreOptions(inputs=("in.parquet",), model="double", out="out", **options))
    made.begin()
    made.note(RequestEnded("gpu1:8001", "ok", 98, 0.01, 3, 4))
    made.note(RowsFailed(2, 13, text))
    return made, LocalStore(tmp_path / "out")


def kept_in(tmp_path, ending):
    return sorted((tmp_path / "out" / "_tritonbulk" / "runs").glob(f"*.{ending}"))


def test_figures_and_report_of_a_run_stand_beside_its_job_under_one_name(tmp_path):
    made, store = reporter(tmp_path)
    result, problem = made.finish(store, RESULT)
    (figures,), (report,) = kept_in(tmp_path, "json"), kept_in(tmp_path, "html")
    assert problem == ""
    assert figures.stem == report.stem
    assert result == replace(RESULT, report=str(report))
    assert "five hundred" in report.read_text()


def test_a_report_goes_where_it_was_asked_for_as_well_and_replaces_what_stood_there(tmp_path):
    (tmp_path / "report.html").write_text("old")
    made, store = reporter(tmp_path, report=tmp_path / "report.html")
    result, _ = made.finish(store, RESULT)
    assert result.report == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == kept_in(tmp_path, "html")[0].read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "report.html"]


def test_a_report_that_cannot_be_written_is_said_and_changes_nothing(tmp_path):
    (tmp_path / "gone").mkdir()
    made, store = reporter(tmp_path, report=tmp_path / "gone" / "report.html")
    (tmp_path / "gone").rmdir()
    result, problem = made.finish(store, RESULT)
    assert "cannot be written" in problem
    assert result == replace(RESULT, report=str(kept_in(tmp_path, "html")[0]))


def test_a_run_that_failed_leaves_its_report_and_no_figures(tmp_path):
    made, store = reporter(tmp_path, report=tmp_path / "report.html")
    made.fail(store, StoppedError("stopped with 3 segments"))
    (report,) = kept_in(tmp_path, "html")
    assert "stopped with 3 segments" in report.read_text()
    assert (tmp_path / "report.html").read_text() == report.read_text()
    assert kept_in(tmp_path, "json") == []


def test_a_store_that_failed_is_not_asked_again(tmp_path):
    made, store = reporter(tmp_path)
    made.fail(store, SinkError("the disk is full"))
    assert not (tmp_path / "out").exists()


def test_a_run_that_sent_nothing_has_no_report(tmp_path):
    options = ScoreOptions(
        inputs=("in.parquet",), model="double", out="out", report=tmp_path / "report.html"
    )
    made, store = Reporter(options), LocalStore(tmp_path / "out")
    result, problem = made.finish(store, RESULT)
    assert result.report == ""
    assert "there was nothing to do" in problem
    made.fail(store, StoppedError("stopped"))
    assert list(tmp_path.iterdir()) == []


def test_secrets_that_a_server_repeats_are_not_kept(tmp_path):
    secret = Secret('a<very&"secret"-word')
    made, store = reporter(tmp_path, text=f"unknown key {secret.reveal()}")
    made.finish(store, RESULT)
    page = kept_in(tmp_path, "html")[0].read_text()
    assert "unknown key ***" in page
    assert "secret" not in page


@pytest.mark.parametrize("where", ["out/report.html", "missing/report.html", "."])
def test_a_report_has_a_place_of_its_own(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(OptionError, match="--report"):
        ScoreOptions(inputs=("in.parquet",), model="double", out="out", report=tmp_path / where)


def test_what_servers_said_is_text_and_cut():
    record = Recorder()
    record.note(RowsFailed(1, 13, "<script>alert(1)</script>" + "x" * 10_000), 1.0)
    page = run_page(replace(FACTS, inputs=("<b>", "y" * 10_000)), record)
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert len(page) < 60_000


def test_a_page_loads_nothing_and_runs_nothing():
    page = run_page(FACTS, Recorder())
    assert "default-src &#x27;none&#x27;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (RESULT, "98 of 100 rows have a prediction, 2 an error"),
        (replace(RESULT, rows_failed=0, rows_ok=100), "All 100 rows have a prediction"),
        (replace(RESULT, rows_failed=0, rows_ok=0, rows_scored=0), "There was nothing to score"),
        (None, "The run ended before its time: the outage"),
    ],
)
def test_the_verdict_comes_first_and_says_what_became_of_the_rows(result, said):
    page = run_page(replace(FACTS, result=result, error="the outage"), Recorder())
    assert said in page
    assert page.index(said) < page.index("<svg" if "<svg" in page else "Environment")


def test_a_year_of_events_makes_a_small_page():
    record = Recorder()
    for number in range(20_000):
        record.note(
            RequestEnded(f"gpu{number % 100}:8001", "ok", 4096, 0.02, 8, 8), number * 1577.0
        )
    assert len(run_page(FACTS, record)) < 120_000
