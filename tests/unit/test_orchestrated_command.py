"""The command that orchestrators run, and what its end means to them."""

import pytest

from tests.crash import jobs
from tritonbulk.integrations import command
from tritonbulk.integrations.command import RunError, Running, ScoreCommand, run


def test_options_become_words():
    options = {"endpoint": ["a:1", "b:1"], "batch_rows": 8, "strict_inputs": True, "status": False}
    words = ScoreCommand(["in"], "m", "out/", {**options, "report": None}).words()
    assert words[3:] == [
        *("score", "in", "--model", "m", "--out", "out/", "--json", "--endpoint", "a:1"),
        *("--endpoint", "b:1", "--batch-rows", "8", "--strict-inputs", "--no-status"),
    ]
    assert (
        ScoreCommand(["in"], "m", "s3://b/out/").manifest == "s3://b/out/_tritonbulk/manifest.json"
    )


@pytest.mark.parametrize(
    ("code", "helps"), [(2, False), (4, False), (3, True), (-9, True), (143, True)]
)
def test_an_end_tells_whether_a_retry_helps(code, helps):
    assert RunError(code, "").retry_helps is helps


def test_wrong_use_says_why(tmp_path):
    with pytest.raises(RunError, match=r"exit code 2: .*does not exist") as caught:
        run(ScoreCommand([str(tmp_path / "none.parquet")], "m", str(tmp_path / "out")))
    assert not caught.value.retry_helps


@pytest.mark.live
def test_a_run_that_is_stopped_is_gone_on_with(triton, tmp_path):
    rows = str(jobs.write_rows(tmp_path / "rows.parquet"))
    options = {"endpoint": triton.grpc, "input_map": "x=a,b,c,d", "segment_rows": jobs.SEGMENT_ROWS}
    asked = ScoreCommand([rows], "wide", str(tmp_path / "out"), options)
    running = Running(ScoreCommand([rows], "wide", asked.out, {**options, "max_in_flight": 1}))
    while not list(tmp_path.glob("out/part-*")):
        assert running._process.poll() is None
    running.stop()
    assert run(asked)["job_rows"] == jobs.ROWS
    assert jobs.is_right(tmp_path / "out")
    assert command.FINISHED == (0, 1)


def in_place_of_it(tmp_path, monkeypatch, script):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(command.sys, "executable", str(program))
    return ScoreCommand(["in"], "m", "out")


def test_a_program_that_could_not_begin_has_not_finished(tmp_path, monkeypatch):
    broken = in_place_of_it(tmp_path, monkeypatch, "echo No module named tritonbulk >&2; exit 1")
    with pytest.raises(RunError, match="exit code 1: No module") as caught:
        run(broken)
    assert caught.value.retry_helps
    failed_rows = in_place_of_it(tmp_path, monkeypatch, """echo '{"failed": 1}'; exit 1""")
    assert run(failed_rows) == {"failed": 1}


def test_what_a_run_says_is_logged_while_it_goes_on(tmp_path, monkeypatch, caplog):
    waits = "for i in $(seq 600); do [ -e $0.go ] && break; sleep 0.1; done"
    script = f"echo half >&2; {waits}; echo whole >&2; echo '{{}}'"
    said = in_place_of_it(tmp_path, monkeypatch, script)
    monkeypatch.setattr(command, "_RELAY_S", 0.1)
    caplog.set_level("INFO", logger=command.__name__)
    running = Running(said)
    while not caplog.messages:
        assert running.wait(0.1) is None
    (tmp_path / "program.go").touch()
    assert running.wait(60) == {}
    assert caplog.messages == ["half", "whole"]
