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
