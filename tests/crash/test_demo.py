"""The demo killed ten times in a row, and its scoring into an object store: as if undisturbed."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import IS_FULL
from tests.crash import jobs
from tests.crash.forks import PROJECT
from tests.crash.object_faults import BUCKET, faulty_server
from tritonbulk.job.stores.object import ObjectStore

pytestmark = [
    pytest.mark.live,
    pytest.mark.ci,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not IS_FULL, reason="takes minutes; make test-crash-full runs it"),
]

KILLS = 10
FLIGHTS = PROJECT / "examples" / "flights"
DEMO = (sys.executable, str(FLIGHTS / "demo.py"))
RUN_S_MAX = 300


def run_to_the_end(words, folder, environment=None):
    """Run a command to its end; return the seconds that it took."""
    began = time.monotonic()
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True,
        text=True, timeout=RUN_S_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - began


def start(words, folder, environment=None):
    """Start a command as the leader of a group of processes."""
    return subprocess.Popen(
        words, cwd=folder, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def kill_after(process, seconds):
    """Kill a command and all that it started after a while."""
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def is_scoring(process):
    """Return whether ``tritonbulk score`` runs in the group of a process."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if (
                b"\0score\0" in path.read_bytes()
                and os.getpgid(int(path.parent.name)) == process.pid
            ):
                return True
    return False


def until_scoring(process, *, is_over=False):
    """Wait while a process lives until its scoring has begun, or is over; return the time."""
    while is_scoring(process) is is_over and process.poll() is None:
        time.sleep(0.005)
    return time.monotonic()


def test_the_demo_killed_ten_times_ends_as_an_undisturbed_one(folder, tally):
    dice, out = random.Random(8), folder / "scored"
    own = out / "_tritonbulk"
    demo = start(DEMO, folder)
    begin_s = until_scoring(demo)
    end_s = until_scoring(demo, is_over=True)
    assert demo.wait(RUN_S_MAX) == 0
    clean = jobs.digests(out)
    shutil.rmtree(out)
    for _ in range(KILLS):
        demo = start(DEMO, folder)
        # Scoring is a small piece of a demo, and the only one that writes to the output.
        until_scoring(demo)
        kill_after(demo, dice.uniform(0, end_s - begin_s))
        assert not out.exists() or not jobs.faults(out)
        tally("P1: kills of the demo")
        if own.exists() and not (own / "manifest.json").exists():
            tally("P1: of which left the demo's scoring unfinished")
    run_to_the_end(DEMO, folder)
    assert jobs.digests(out) == clean


def test_the_demos_scoring_into_an_object_store_killed_ten_times(folder, tally, monkeypatch):
    dice = random.Random(9)
    for words in (("data.py",), ("train.py", "--no-train")):
        run_to_the_end((sys.executable, str(FLIGHTS / words[0]), *words[1:]), folder)
    with faulty_server() as server:
        environment = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": "canary-key",
            "AWS_SECRET_ACCESS_KEY": "canary-secret",
            "AWS_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        names = ("clean", "killed")
        clean, killed = (
            (
                *(sys.executable, "-m", "tritonbulk.cli.main", "score", "data/flights.parquet"),
                *("--model", "flight_delay", "--out", f"s3://{BUCKET}/{name}"),
                *("--segment-rows", "8192"),
            )
            for name in names
        )
        clean_s = run_to_the_end(clean, folder, environment)
        for _ in range(KILLS):
            kill_after(start(killed, folder, environment), dice.uniform(0.4 * clean_s, clean_s))
            store = ObjectStore(f"s3://{BUCKET}/killed")
            assert not jobs.faults(store)
            tally("P1: kills of scoring into an object store")
            if store.names("_tritonbulk") == ["job.json"]:
                tally("P1: of which left scoring into it unfinished")
        run_to_the_end(killed, folder, environment)
        digests = [jobs.digests(ObjectStore(f"s3://{BUCKET}/{name}")) for name in names]
    assert digests[0] == digests[1]
