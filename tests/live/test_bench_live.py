"""Sweeps as a user runs them, on the simulated accelerator behind the real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tritonbulk.bench.log import read_log

pytestmark = pytest.mark.live

REPOSITORY = Path(__file__).parents[2] / "examples" / "accelerator" / "model_repository"
COMMAND = [sys.executable, "-m", "tritonbulk.cli.main"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    values = np.random.default_rng(0).standard_normal((4, 8192)).astype(np.float32)
    pq.write_table(pa.table({f"x{n}": each for n, each in enumerate(values)}), path)
    return path


def bench(rows: Path, out: Path, *given: object) -> list[str]:
    return [
        *COMMAND, "bench", str(rows), "--model", "accelerator", "--input-map", "x=x*",
        "--repository", str(REPOSITORY), "--out", str(out), *map(str, given),
    ]  # fmt: skip


@pytest.mark.ci
def test_a_budget_finds_what_to_deploy(rows, tmp_path):
    out = tmp_path / "bench.json"
    given = ("--budget", "30s", "--batch-rows", "256,900", "--in-flight", "4", "--instances", "2",
             "--queue-delay", "0", "--json")  # fmt: skip
    done = subprocess.run(bench(rows, out, *given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    verdict = figures["verdict"]
    assert set(verdict) >= {
        "batch_rows", "in_flight", "instances", "max_batch_size", "rows_per_second", "bound_by",
        "fit",
    }  # fmt: skip
    assert verdict["instances"] == 2, "a second instance doubles the rate"
    assert verdict["bound_by"] in {"compute", "memory"}
    # A batch of 900 rows takes 53 ms, and longer only if the machine has other work.
    assert 45 < verdict["fit"]["a_ms"] + 900 * verdict["fit"]["b_ms_per_row"] < 150
    assert figures["configured"]["instances"] == 1
    assert {trial["why"] for trial in figures["trials"]} > {"coarse grid"}
    assert read_log(tmp_path / "bench.trials.jsonl").is_finished
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bench.html", "bench.json", "bench.trials.jsonl",
    ]  # fmt: skip


def test_a_killed_sweep_goes_on_with_its_trials(rows, tmp_path):
    out, raw = tmp_path / "bench.json", tmp_path / "bench.trials.jsonl"
    grid = ("--batch-rows", "64,256", "--in-flight", "1", "--repeats", "2",
            "--trial-seconds", "0.5")  # fmt: skip
    command = bench(rows, out, *grid)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as killed:
        give_up_s = time.monotonic() + 120
        while not (raw.exists() and raw.read_text().count('"trial"') >= 2):
            assert killed.poll() is None
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        os.kill(killed.pid, signal.SIGKILL)
    before = read_log(raw).trials
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"going on with a sweep of {len(before)} trials" in done.stderr
    after = read_log(raw)
    assert after.trials[: len(before)] == before
    assert len(after.trials) == 4
    assert len(json.loads(out.read_text())["trials"]) == 4


def test_batches_that_fail_do_not_end_a_sweep(rows, tmp_path):
    out = tmp_path / "bench.json"
    grid = ("--batch-rows", "64,4096", "--in-flight", "1", "--repeats", "1", "--trial-seconds",
            "0.3", "--json")  # fmt: skip
    done = subprocess.run(bench(rows, out, *grid), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout.splitlines()[-1])["cells"]
    assert small["labels"] in ([], ["noisy"], ["unsteady"], ["noisy", "unsteady"])
    assert "failed" in large["labels"]


def test_instances_of_a_server_that_is_not_ours_need_to_be_allowed(rows, triton, tmp_path):
    done = subprocess.run(
        [*COMMAND, "bench", str(rows), "--model", "halve", "--input-map", "x=x*",
         "--endpoint", triton.grpc, "--instances", "1,2", "--batch-rows", "4",
         "--out", str(tmp_path / "b.json")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--vary-server" in done.stderr
    assert not (tmp_path / "b.json").exists()
