"""Soak: three servers and the client killed at random while rows with poison among them are scored.

Ten minutes by default (`make soak`); each round is one job over a file of its own, continued after
each kill of the client until it is finished, and then checked row by row.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.conftest import write_python_entry
from tests.faults.conftest import check_output, write_echo, write_rows
from tritonbulk.server.embedded import EmbeddedTriton

SECONDS = float(os.environ.get("TRITONBULK_SOAK_S", "600"))
ROWS = 60_000
POISON_SHARE = 0.001
WORDS = (-1, -2, -3, -5, -7, -8, -9, -10, -12)
KILL_EVERY_S = (4.0, 12.0)
"""A server is killed, ended or stopped for a while that often; the client half as often."""


class Nemesis(threading.Thread):
    """Kills, ends and stops servers at random, one at a time, and starts them again."""

    def __init__(self, servers: list[EmbeddedTriton], rng: random.Random) -> None:
        super().__init__(daemon=True)
        self._servers, self._random = servers, rng
        self.stopped = threading.Event()
        self.counts = {"SIGKILL": 0, "SIGTERM": 0, "SIGSTOP": 0}

    def run(self) -> None:
        while not self.stopped.wait(self._random.uniform(*KILL_EVERY_S)):
            server = self._random.choice(self._servers)
            name = self._random.choice(sorted(self.counts))
            os.kill(server.pid, getattr(signal, name))
            time.sleep(self._random.uniform(0.2, 3.0))
            if name == "SIGSTOP":
                os.kill(server.pid, signal.SIGCONT)
            else:
                server.restart()
            self.counts[name] += 1


def score(path: Path, out: Path, servers: list[EmbeddedTriton], kill_s: float | None) -> int | None:
    """Run the client, killed after so many seconds; return its exit code, None if it was."""
    command = [sys.executable, "-m", "tritonbulk.cli.main", "score", str(path), "--out", str(out)]
    command += ["--model", "slow", "--input-map", "x=x", "--segment-rows", "2048"]
    command += ["--request-timeout", "20"]
    for server in servers:
        command += ["--endpoint", server.grpc]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as client:
        try:
            _, said = client.communicate(timeout=kill_s)
        except subprocess.TimeoutExpired:
            client.kill()
            return None
    if client.returncode not in (0, 1):
        raise SystemExit(f"the client ended with {client.returncode}: {said.decode()[-2000:]}")
    return client.returncode


def soak(folder: Path, seconds: float, seed: int) -> str:
    """Soak for so long and return what happened, in one sentence."""
    rng = random.Random(seed)
    write_echo(folder / "models" / "slow", write_python_entry, pause_s=0.005)
    servers = [EmbeddedTriton(folder / "models", stop_deadline_s=0).start() for _ in range(3)]
    nemesis = Nemesis(servers, rng)
    nemesis.start()
    rounds = kills = rows = failed = 0
    end_s = time.monotonic() + seconds
    try:
        while time.monotonic() < end_s:
            where = rng.sample(range(ROWS), int(ROWS * POISON_SHARE))
            poison = {row: rng.choice(WORDS) for row in where}
            path = write_rows(folder / f"{rounds}.parquet", ROWS, poison)
            out = folder / f"out{rounds}"
            while score(path, out, servers, rng.uniform(8.0, 24.0)) is None:
                kills += 1
            check_output(out, ROWS, poison)
            rounds, rows, failed = rounds + 1, rows + ROWS, failed + len(poison)
            print(f"round {rounds}: {rows:,} rows accounted for", flush=True)
    finally:
        nemesis.stopped.set()
        nemesis.join()
        for server in servers:
            server.stop()
    happened = ", ".join(f"{count} {name}" for name, count in nemesis.counts.items())
    return (
        f"soak of {seconds:.0f} s, seed {seed}: {rounds} jobs, {rows:,} rows, {failed} of them "
        f"poison and failed, all others right; servers: {happened}; the client was killed {kills} "
        "times; lost 0, doubled 0, false convictions 0"
    )


if __name__ == "__main__":
    given_seed = int(os.environ.get("TRITONBULK_SOAK_SEED", "1"))
    with tempfile.TemporaryDirectory(prefix="tritonbulk-soak-") as scratch:
        print(soak(Path(scratch), SECONDS, given_seed))
