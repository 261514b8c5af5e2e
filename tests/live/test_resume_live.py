"""Jobs through the command line and the real server: kill, stop, resume, finish, extend."""

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import tritonbulk

pytestmark = pytest.mark.live

TRITONBULK = [sys.executable, "-m", "tritonbulk.cli.main"]
ROWS = 200_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    values = np.arange(4 * ROWS, dtype=np.float32).reshape(-1, 4)
    columns = {name: values[:, index] for index, name in enumerate("abcd")}
    pq.write_table(pa.table({"id": np.arange(ROWS), **columns}), path, row_group_size=30_000)
    return path


def command(rows, triton, out, *more):
    return [
        *TRITONBULK, "score", str(rows), "--model", "wide", "--endpoint", triton.grpc,
        "--out", str(out), "--input-map", "x=a,b,c,d", "--segment-rows", "5000",
        "--batch-rows", "64", "--json", *more,
    ]  # fmt: skip


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def score(rows, triton, out, *more, code=0):
    done = run(*command(rows, triton, out, *more))
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if code in (0, 1) else done.stderr


def digests(out):
    files = [*out.glob("part-*"), out / "_tritonbulk" / "manifest.json"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def clean(rows, triton, tmp_path_factory):
    out = tmp_path_factory.mktemp("clean") / "out"
    result = score(rows, triton, out)
    assert result["job_rows"] == result["rows_ok"] == ROWS
    return digests(out)


def begun(rows, triton, out, parts, *more):
    """Start a run and return it once some parts stand there."""
    process = subprocess.Popen(
        command(rows, triton, out, "--max-in-flight", "1", *more),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(out.glob("part-*"))) < parts:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_job_killed_again_and_again_ends_as_an_undisturbed_one(rows, triton, tmp_path, clean):
    out = tmp_path / "out"
    for parts in (1, 6, 15):
        process = begun(rows, triton, out, parts)
        process.kill()
        process.communicate()
    result = score(rows, triton, out)
    assert result["segments_before"] >= 15
    assert result["segments"] + result["segments_before"] == 40
    assert result["rows_scored"] == ROWS - 5000 * result["segments_before"]
    assert result["job_rows"] == ROWS
    assert digests(out) == clean
    assert ds.dataset(out).to_table()["id"].to_pylist() == list(range(ROWS))
    again = score(rows, triton, out)
    assert (again["rows_scored"], again["job_rows"]) == (0, ROWS)
    assert "is finished already" in run(*command(rows, triton, out)).stderr
    status = run(*TRITONBULK, "status", str(out))
    assert "40 of 40 parts, finished: 200,000 rows, 0 failed" in status.stdout
    verified = run(*TRITONBULK, "verify", str(out))
    assert verified.returncode == 0, verified.stderr
    assert "40 parts with 200,000 rows are as they were written; 1 input has" in verified.stdout
    (out / "part-00000007.parquet").unlink()
    damaged = run(*TRITONBULK, "verify", str(out))
    assert damaged.returncode == 3
    assert "part-00000007.parquet: it is missing" in damaged.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on(number, code, rows, triton, tmp_path, clean):
    out = tmp_path / "out"
    process = begun(rows, triton, out, 2)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "to go on: tritonbulk score" in said
    assert "Traceback" not in said
    stopped_at = len(list(out.glob("part-*")))
    assert 2 <= stopped_at < 40
    assert score(rows, triton, out)["segments_before"] == stopped_at
    assert digests(out) == clean


def test_a_second_signal_ends_at_once(rows, triton, tmp_path):
    process = begun(rows, triton, tmp_path / "out", 1, "--batch-rows", "1")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert time.monotonic() - began < 5


def test_two_runs_of_one_job_give_one_result(rows, triton, tmp_path, clean):
    out = tmp_path / "out"
    runs = [begun(rows, triton, out, 1) for _ in range(2)]
    for process in runs:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert digests(out) == clean


def test_eight_shards_of_which_two_are_killed_end_as_one_undivided_run(
    rows, triton, tmp_path, clean
):
    out = tmp_path / "out"
    for shard in ("2/8", "5/8"):
        before = len(list(out.glob("part-*")))
        process = begun(rows, triton, out, before + 1, "--shard", shard)
        process.kill()
        process.communicate()
    given = {
        "model": "wide", "out": out, "endpoints": [triton.grpc], "segment_rows": 5000,
        "input_map": {"x": tuple("abcd")}, "batch_rows": 64,
    }  # fmt: skip

    async def score_all(*shards):
        return await asyncio.gather(
            *(tritonbulk.score_async(rows, **given, shard=f"{shard}/8") for shard in shards)
        )

    first = asyncio.run(score_all(0, 1, 3, 4, 6, 7))
    assert [(each.segments, each.job_rows) for each in first] == [(5, 25_000)] * 6
    unfinished = run(*TRITONBULK, "commit", str(out))
    assert unfinished.returncode == 3
    assert "shard 2/8: segment" in unfinished.stderr
    assert "run these shards again, then commit" in unfinished.stderr
    asyncio.run(score_all(2, 5, 5, 2))  # two copies of each at once
    done = run(*TRITONBULK, "commit", str(out), "--json")
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])["rows"]) == (0, ROWS)
    assert digests(out) == clean


def test_a_finished_job_needs_no_server(rows, repository, tmp_path):
    out = tmp_path / "out"
    words = [
        *TRITONBULK, "score", str(rows), "--model", "double", "--repository", str(repository),
        "--out", str(out), "--input-map", "x=a,b,c,d", "--limit", "100",
    ]  # fmt: skip
    first = run(*words, "--single-file", str(tmp_path / "all.parquet"))
    assert first.returncode == 0, first.stderr
    assert pq.read_table(tmp_path / "all.parquet").num_rows == 100
    again = run(*words)
    assert again.returncode == 0
    assert "starting the embedded" not in again.stderr
    assert "is finished already" in again.stderr
    other = run(*words, "--batch-rows", "2")
    assert other.returncode == 2
    assert "batch_rows 4 → 2" in other.stderr.splitlines()[-1]
    fresh = run(*words, "--fresh")
    assert fresh.returncode == 2
    assert "nothing was deleted" in fresh.stderr


def narrow_or_wide(path, begin, text):
    values = np.arange(4 * begin, 4 * begin + 4 * 600, dtype=np.float32).reshape(-1, 4)
    columns = {name: values[:, index] for index, name in enumerate("abcd")}
    table = pa.table({"id": np.arange(begin, begin + 600), "t": [text] * 600, **columns})
    pq.write_table(table, path)


def test_one_run_finishes_an_increment_and_goes_on_with_files_that_came_since(triton, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    narrow_or_wide(folder / "a.parquet", 0, "x")
    words = [
        *TRITONBULK, "score", str(folder), "--model", "wide", "--endpoint", triton.grpc,
        "--out", str(out), "--input-map", "x=a,b,c,d", "--only-new", "--json",
    ]  # fmt: skip

    def score_new():
        done = run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    assert score_new()["rows_scored"] == 600
    (out / "_tritonbulk" / "manifest.json").unlink()
    # Its rows are so wide that by themselves they would make smaller segments.
    narrow_or_wide(folder / "b.parquet", 600, "x" * 100_000)
    result = score_new()
    assert (result["rows_scored"], result["segments"]) == (600, 1)
    assert (result["job_rows"], result["output_rows"], result["output_parts"]) == (1200, 1200, 2)
    assert ds.dataset(out).to_table(["id"])["id"].to_pylist() == list(range(1200))
    assert (out / "_tritonbulk" / "manifest-0001.json").exists()
    narrow_or_wide(folder / "c.parquet", 1200, "x")
    added = score_new()
    assert (added["job_rows"], added["segments_before"]) == (600, 0)
    assert (added["output_rows"], added["output_parts"]) == (1800, 3)
    again = run(*words)
    assert json.loads(again.stdout.splitlines()[-1])["output_rows"] == 1800
    assert "nothing to score: 1,800 rows in 3 parts, 0 failed, are in " in again.stdout


def test_a_run_without_status_columns_stops_at_a_failed_row(rows, triton, tmp_path):
    out = tmp_path / "out"
    result = score(rows, triton, out, "--no-status")
    assert result["job_rows"] == ROWS
    assert ds.dataset(out).to_table().column_names == ["id", "a", "b", "c", "d", "y"]
