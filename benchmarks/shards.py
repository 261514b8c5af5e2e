"""Shards of one job on several simulated accelerators, against what these could do at best.

``python -m benchmarks.shards [--shards 8] [--accelerators 4] [--seconds 60] [--rounds 3]``

Each accelerator is an embedded Triton with the model of `examples/accelerator`, whose batches take
time and no processor. Every shard is a process of its own that is given all of them, as behind a
headless service. Processes import what they need, wait for each other, and are then timed from the
common start to the last one's end. Ideal is every accelerator executing full batches without a
pause: it is computed, not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from examples.accelerator.data import make_rows
from tritonbulk.environment import environment
from tritonbulk.server.embedded import EmbeddedTriton

MODEL = Path("examples/accelerator/model_repository/accelerator")
BASE_MS, ROW_MS, BATCH_ROWS = 8.0, 0.2, 1024
SEGMENT_ROWS = 16 * BATCH_ROWS
SHARD_S_MAX = 3_600

SHARD = """
import sys
import tritonbulk.api, tritonbulk.cli.main, tritonbulk.cli.score
print("ready", flush=True)
sys.stdin.readline()
tritonbulk.cli.main.main()
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One job of shards.

    Attributes:
        ideal_s: seconds that the accelerators need for the rows, at best.
        scoring_s: from the common start of all shards to the end of the last process.
        import_s: that interpreters and imports took before it.
        commit_s: that ``tritonbulk commit`` took, its interpreter included.
        cpu_s: processor time of the shards.
    """

    ideal_s: float
    scoring_s: float
    import_s: float
    commit_s: float
    cpu_s: float

    @property
    def efficiency(self) -> float:
        """Share of the ideal rate that was reached; interpreters and imports left out."""
        return self.ideal_s / self.scoring_s


def rows_for(shards: int, accelerators: int, seconds: float) -> int:
    """Return rows that keep the accelerators busy for about so long: equal shares of segments."""
    wanted = accelerators * seconds * 1000 / (BASE_MS + ROW_MS * BATCH_ROWS) * BATCH_ROWS
    share = shards * SEGMENT_ROWS
    return max(round(wanted / share), 1) * share


def write_repository(folder: Path) -> None:
    """Write an entry of the accelerator that executes one full batch at a time."""
    (folder / "accelerator" / "1").mkdir(parents=True)
    (folder / "accelerator" / "1" / "model.py").write_text((MODEL / "1" / "model.py").read_text())
    config = (MODEL / "config.pbtxt").read_text()
    for old, new in (
        ("max_batch_size: 4096", f"max_batch_size: {BATCH_ROWS}"),
        (
            '"row_ms" value { string_value: "0.05" }',
            f'"row_ms" value {{ string_value: "{ROW_MS}" }}',
        ),
        ('"concurrency" value { string_value: "2" }', '"concurrency" value { string_value: "1" }'),
    ):
        if old not in config:
            raise SystemExit(f"{MODEL}/config.pbtxt has no {old}; this script goes with it")
        config = config.replace(old, new)
    (folder / "accelerator" / "config.pbtxt").write_text(config)


def run_round(data: Path, addresses: Sequence[str], shards: int, ideal_s: float) -> Round:
    """Score all rows by so many processes, commit the job and check its rows."""
    with tempfile.TemporaryDirectory(dir=data.parent) as folder:
        out = str(Path(folder) / "out")
        words = [
            sys.executable, "-c", SHARD, "score", str(data), "--model", "accelerator",
            "--input-map", "x=x*", "--out", out, "--segment-rows", str(SEGMENT_ROWS), "--json",
            *(word for each in addresses for word in ("--endpoint", each)),
        ]  # fmt: skip
        began_s = time.perf_counter()
        processes = [
            subprocess.Popen(
                [*words, "--shard", f"{index}/{shards}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )
            for index in range(shards)
        ]  # fmt: skip
        for each in processes:
            assert each.stdout is not None, "it is a pipe"
            each.stdout.readline()
        import_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        for each in processes:
            assert each.stdin is not None, "it is a pipe"
            each.stdin.write("go\n")
            each.stdin.flush()
        said = [each.communicate(timeout=SHARD_S_MAX)[0] for each in processes]
        scoring_s = time.perf_counter() - began_s
        if codes := [each.returncode for each in processes if each.returncode]:
            raise SystemExit(f"shards ended with {codes}")
        results = [json.loads(each.splitlines()[-1]) for each in said]
        began_s = time.perf_counter()
        commit = [sys.executable, "-m", "tritonbulk", "commit", out, "--json"]
        done = subprocess.run(commit, check=True, capture_output=True, text=True)
        commit_s = time.perf_counter() - began_s
        rows = json.loads(done.stdout.splitlines()[-1])["rows"]
        if rows != pq.read_metadata(data).num_rows:
            raise SystemExit(f"{rows} rows were committed")
    return Round(
        ideal_s,
        scoring_s,
        import_s,
        commit_s,
        sum(each["cpu_seconds_client"] for each in results),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--accelerators", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = rows_for(given.shards, given.accelerators, given.seconds)
    ideal_s = rows / BATCH_ROWS * (BASE_MS + ROW_MS * BATCH_ROWS) / 1000 / given.accelerators
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as servers:
        data = Path(folder) / "rows.parquet"
        pq.write_table(make_rows(rows), data)
        write_repository(Path(folder) / "models")
        addresses = [
            servers.enter_context(EmbeddedTriton(Path(folder) / "models", stop_deadline_s=0)).grpc
            for _ in range(given.accelerators)
        ]
        rounds = []
        for _ in range(given.rounds):
            rounds.append(run_round(data, addresses, given.shards, ideal_s))
            print(_line(rounds[-1]), flush=True)
    print(
        f"{given.shards} shards, {given.accelerators} accelerators, {rows:,} rows: median "
        f"{median(each.efficiency for each in rounds):.3f} of ideal"
    )
    if given.json is not None:
        plain = {
            "environment": environment(),
            "shards": given.shards,
            "accelerators": given.accelerators,
            "rows": rows,
            "rounds": [{**asdict(each), "efficiency": each.efficiency} for each in rounds],
        }
        given.json.write_text(json.dumps(plain, indent=1) + "\n")


def _line(done: Round) -> str:
    cores = os.cpu_count() or 1
    return (
        f"{done.efficiency:.3f} of ideal ({done.ideal_s:.1f} s): scoring {done.scoring_s:.1f} s, "
        f"imports {done.import_s:.1f} s before, commit {done.commit_s:.1f} s, "
        f"{done.cpu_s:.1f} CPU-seconds of shards on {cores} cores"
    )


if __name__ == "__main__":
    main()
