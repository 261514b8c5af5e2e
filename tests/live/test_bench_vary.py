"""Servers that a sweep varies are put back, whatever ends it; a confirmed verdict is written."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tritonbulk.bench.vary import read_config
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk.server.flags import ADMIN_HEADER
from tritonbulk.transport import Endpoint

pytestmark = [pytest.mark.live, pytest.mark.ci]

REPOSITORY = Path(__file__).parents[2] / "examples" / "accelerator" / "model_repository"
COMMAND = [sys.executable, "-m", "tritonbulk.cli.main"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    values = np.random.default_rng(0).standard_normal((4, 8192)).astype(np.float32)
    pq.write_table(pa.table({f"x{n}": each for n, each in enumerate(values)}), path)
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedTriton]:
    """A server that belongs to somebody else and allows model control."""
    with EmbeddedTriton(REPOSITORY, model_control="explicit", stop_deadline_s=0) as triton:
        yield triton


@pytest.fixture
def variables(server, tmp_path) -> dict[str, str]:
    return {
        **os.environ,
        "ADMIN": server.admin_headers[ADMIN_HEADER],
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


def served(server: EmbeddedTriton):
    async def ask():
        async with Endpoint(server.grpc) as endpoint:
            return await read_config(endpoint, "accelerator", "1")

    return asyncio.run(ask())


def bench(rows: Path, out: Path, *given: object) -> list[str]:
    return [
        *COMMAND, "bench", str(rows), "--model", "accelerator", "--input-map", "x=x*",
        "--out", str(out), *map(str, given),
    ]  # fmt: skip


def given_server(server: EmbeddedTriton) -> tuple[str, ...]:
    return ("--endpoint", server.grpc, "--header-env", f"{ADMIN_HEADER}=ADMIN", "--vary-server")


GRID = ("--batch-rows", "256", "--in-flight", "8", "--trial-seconds", "0.4", "--repeats", "1")


def test_a_server_is_as_it_was_after_a_sweep(server, rows, variables, tmp_path):
    before = served(server)
    command = bench(
        rows, tmp_path / "b.json", *given_server(server), *GRID,
        "--instances", "1,2", "--queue-delay", "0,500", "--json",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    variants = [cell["setting"]["variant"] for cell in figures["cells"]]
    assert [(v["instances"], v["queue_delay_us"]) for v in variants] == [
        (1, 0), (1, 500), (2, 0), (2, 500),
    ]  # fmt: skip
    assert not any(trial["error"] for trial in figures["trials"])
    assert served(server) == before
    assert list((tmp_path / "state").rglob("*.json")) == []
    assert variables["ADMIN"] not in done.stdout + done.stderr


def test_a_killed_sweep_is_undone_by_restore(server, rows, variables, tmp_path):
    before = served(server)
    command = bench(rows, tmp_path / "b.json", *given_server(server), *GRID, "--instances", "2,3")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=variables) as killed:
        give_up_s = time.monotonic() + 120
        while served(server) == before:
            assert killed.poll() is None
            assert time.monotonic() < give_up_s
            time.sleep(0.1)
        os.kill(killed.pid, signal.SIGKILL)
    (record,) = (tmp_path / "state").rglob("*.json")
    assert variables["ADMIN"] not in record.read_text()
    # A load that was under way when it was killed may still end.
    time.sleep(3)
    undo = [*COMMAND, "bench-restore", "--header-env", f"{ADMIN_HEADER}=ADMIN"]
    done = subprocess.run(undo, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is as it was" in done.stdout
    assert served(server) == before
    done = subprocess.run(undo, capture_output=True, text=True, env=variables, check=False)
    assert done.stdout == "no server was left varied\n"


def test_an_interrupted_sweep_puts_the_server_back_itself(server, rows, variables, tmp_path):
    before = served(server)
    command = bench(rows, tmp_path / "b.json", *given_server(server), *GRID, "--instances", "2,3")
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=variables, text=True) as interrupted:
        give_up_s = time.monotonic() + 120
        while served(server) == before:
            assert interrupted.poll() is None
            assert time.monotonic() < give_up_s
            time.sleep(0.1)
        interrupted.send_signal(signal.SIGINT)
        _, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, said
    assert "Traceback" not in said
    assert served(server) == before
    assert list((tmp_path / "state").rglob("*.json")) == []


def test_a_variant_that_the_server_refuses_does_not_end_a_sweep(server, rows, variables, tmp_path):
    before = served(server)
    command = bench(
        rows, tmp_path / "b.json", *given_server(server), *GRID, "--versions", "1,7", "--json"
    )
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    sound, refused = json.loads(done.stdout.splitlines()[-1])["cells"]
    assert not sound["error"]
    assert "does not load it" in refused["error"]
    assert served(server) == before


def test_a_confirmed_verdict_is_written_with_a_backup(rows, tmp_path):
    shutil.copytree(REPOSITORY, tmp_path / "models")
    config = tmp_path / "models" / "accelerator" / "config.pbtxt"
    before = config.read_text()
    grid = ("--batch-rows", "1024", "--in-flight", "2", "--trial-seconds", "1", "--repeats", "1")
    for _ in range(3):  # beside much other work a gain may not be confirmed at once
        command = bench(
            rows, tmp_path / "b.json", "--repository", tmp_path / "models", *grid,
            "--instances", "1,2", "--apply", "--json",
        )  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        applied = json.loads(done.stdout.splitlines()[-1])["applied"]
        if applied is not None and applied["is_kept"]:
            break
        assert config.read_text() == before, "not confirmed, not written"
    assert applied["is_kept"], applied
    assert "+  count: 2" in done.stdout, "the difference is shown"
    assert applied["ratio"]["low"] > 1
    assert "count: 2" in config.read_text()
    assert Path(applied["backup"]).read_text() == before
