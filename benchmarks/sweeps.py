"""What can be promised of ``bench``: figures for ``docs/bench.md``, on a quiet machine.

::

    python -m benchmarks.sweeps optimum         # 10 searches (30 min)
    python -m benchmarks.sweeps optimum --hog   # 10 beside a CPU hog (30 min)
    python -m benchmarks.sweeps overhead        # bench ÷ score on the same settings (5 min)
    python -m benchmarks.sweeps same            # the same twice, and 10 % slower (15 min)
    python -m benchmarks.sweeps perf_analyzer   # beside NVIDIA's load generator (5 min)

``--small`` only shows that it runs. Every figure is printed as one JSON object a line, and added to
``--out``.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import click
import pyarrow.parquet as pq

from benchmarks.entries import make_entry
from benchmarks.files import make_file
from benchmarks.perf_analyzer import fetch
from benchmarks.workloads import WORKLOADS
from examples.accelerator.data import make_rows
from tritonbulk.bench import configuration
from tritonbulk.bench.compare import compare
from tritonbulk.bench.figures import read_trials
from tritonbulk.bench.setting import Variant
from tritonbulk.bench.statistics import paired_ratio
from tritonbulk.bench.trial import Trial
from tritonbulk.environment import environment
from tritonbulk.server.embedded import EmbeddedTriton

ACCELERATOR = Path(__file__).parents[1] / "examples" / "accelerator" / "model_repository"
REPEATS = 5
"""Rounds of each of two sweeps that are compared."""

DRAWS = 200
"""Pairs of such sweeps that are drawn from the recorded rounds."""


@dataclass(frozen=True, slots=True)
class Known:
    """The accelerator's curve, as its configuration has it."""

    base_ms: float
    row_ms: float
    concurrency: int
    memory_rows: int
    max_batch_size: int

    @property
    def best_rows_s(self) -> float:
        """Rows a second of as many instances as it has room for, always with the largest batch."""
        rows = min(self.memory_rows, self.max_batch_size)
        return self.concurrency * rows / (self.base_ms + self.row_ms * rows) * 1e3


def known(config: Path) -> Known:
    """Return the curve that a ``config.pbtxt`` of the accelerator describes."""
    parsed = configuration.parse_text(config.read_text(), str(config))
    values = {key: float(value.string_value) for key, value in parsed.parameters.items()}
    return Known(
        values["base_ms"],
        values["row_ms"],
        int(values["concurrency"]),
        int(values["memory_mb"] * 1e3 // values["row_kb"]),
        parsed.max_batch_size,
    )


def bench(folder: Path, out: str, *given: str) -> dict[str, Any]:
    """Run ``tritonbulk bench`` in a folder and return its figures."""
    command = [sys.executable, "-m", "tritonbulk.cli.main", "bench", *given, "--out", out]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return json.loads((folder / out).read_text())


def accelerator(folder: Path, repository: Path = ACCELERATOR) -> list[str]:
    """Return the arguments of a sweep of the accelerator; its rows are written if need be."""
    if not (folder / "rows.parquet").exists():
        pq.write_table(make_rows(262_144), folder / "rows.parquet")
    return ["rows.parquet", "--model", "accelerator", "--input-map", "x=x*",
            "--repository", str(repository)]  # fmt: skip


@contextlib.contextmanager
def hog(*, is_there: bool) -> Iterator[None]:
    """Keep one processor busy meanwhile."""
    if not is_there:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def optimum(folder: Path, *, is_small: bool, is_hogged: bool) -> Iterator[dict[str, Any]]:
    """Search, set what is recommended, measure that by itself: what share of the optimum is it?"""
    curve = known(ACCELERATOR / "accelerator" / "config.pbtxt")
    for seed in range(1 if is_small else 10):
        with hog(is_there=is_hogged):
            budget = "20s" if is_small else "2m"
            found = bench(
                folder, "optimum.json", *accelerator(folder), "--budget", budget,
                "--seed", str(seed),
            )  # fmt: skip
            verdict = found["verdict"]
            deployed = folder / f"deployed-{seed}"
            deploy(deployed, verdict, found["configured"])
            again = bench(
                folder, "again.json", *accelerator(folder, deployed),
                "--batch-rows", str(verdict["batch_rows"]),
                "--in-flight", str(verdict["in_flight"]),
                "--trial-seconds", "1" if is_small else "4", "--repeats", "3",
            )  # fmt: skip
        rate = again["verdict"]["rows_per_second"]
        yield {
            "seed": seed,
            "share_of_optimum": rate / curve.best_rows_s,
            "a_off_ms": verdict["fit"]["a_ms"] - curve.base_ms,
            "b_off_share": verdict["fit"]["b_ms_per_row"] / curve.row_ms - 1,
            "r2": verdict["fit"]["r2"],
            **{name: verdict[name] for name in (
                "batch_rows", "in_flight", "instances", "queue_delay_us", "max_batch_size",
                "bound_by",
            )},
            "trials": len(found["trials"]),
        }  # fmt: skip


def deploy(repository: Path, verdict: dict[str, Any], configured: dict[str, Any]) -> None:
    """Copy the accelerator and set its server to a verdict."""
    shutil.copytree(ACCELERATOR, repository)
    path = repository / "accelerator" / "config.pbtxt"
    config = configuration.parse_text(path.read_text(), str(path))
    wanted = Variant(**{name: verdict[name] for name in configured})
    edited = configuration.with_variant(config, wanted, Variant(**configured))
    path.write_text(configuration.to_text(edited))


def overhead(folder: Path, *, is_small: bool, **_given: bool) -> Iterator[dict[str, Any]]:
    """Measure the same setting by ``score`` and by ``bench``, in turn."""
    workload = WORKLOADS["mlp"]
    make_entry("mlp", folder / "models")
    file = make_file(workload, 262_144 if is_small else 8_388_608, folder)
    rates: list[tuple[float, float]] = []
    with EmbeddedTriton(folder / "models", models=["mlp"]) as server:
        shared = [str(file), "--model", "mlp", "--input-map", "x=f*", "--keep", "id",
                  "--endpoint", server.grpc]  # fmt: skip
        for number in range(2 if is_small else 7):
            out = folder / f"scored-{number}"
            command = [sys.executable, "-m", "tritonbulk.cli.main", "score", *shared,
                       "--batch-rows", "4096", "--max-in-flight", "4", "--out", str(out),
                       "--json"]  # fmt: skip
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            shutil.rmtree(out)
            found = bench(
                folder, "overhead.json", *shared, "--batch-rows", "4096", "--in-flight", "4",
                "--trial-seconds", "1" if is_small else "10", "--repeats", "1",
            )  # fmt: skip
            scored = json.loads(done.stdout.splitlines()[-1])["rows_per_second"]
            rates.append((found["verdict"]["rows_per_second"], scored))
    yield {
        "bench_rows_s": median(ours for ours, _ in rates),
        "score_rows_s": median(theirs for _, theirs in rates),
        "bench_of_score": asdict(paired_ratio(rates)),
    }


def same(folder: Path, *, is_small: bool, **_given: bool) -> Iterator[dict[str, Any]]:
    """Record many rounds of an accelerator and of a slower one; draw sweeps of them."""
    slowed = folder / "slowed"
    shutil.copytree(ACCELERATOR, slowed)
    path = slowed / "accelerator" / "config.pbtxt"
    config = configuration.parse_text(path.read_text(), str(path))
    for name in ("base_ms", "row_ms"):
        value = float(config.parameters[name].string_value) / 0.9
        config.parameters[name].string_value = f"{value:.9f}"
    path.write_text(configuration.to_text(config))
    repeats, trial_s = (2 * REPEATS, "0.4") if is_small else (40, "1")
    grid = ("--batch-rows", "64,256,900", "--in-flight", "2,4", "--trial-seconds", trial_s,
            "--repeats", str(repeats))  # fmt: skip
    recorded = {}
    for name, repository in (("first", ACCELERATOR), ("slower", slowed)):
        bench(folder, f"{name}.json", *accelerator(folder, repository), *grid)
        recorded[name] = read_trials(folder / f"{name}.json")
    generator = random.Random(0)  # noqa: S311 - a draw, not a secret
    said = {"same": 0, "slower": 0}
    for _ in range(DRAWS):
        first, second = drawn(recorded["first"], 2, generator)
        said["same"] += compare(first, second)[0].change == "no change"
        (slower,) = drawn(recorded["slower"], 1, generator)
        said["slower"] += compare(first, slower)[0].change == "slower"
    yield {
        "draws": DRAWS,
        "rounds_recorded": len({trial.round for trial in recorded["first"]}),
        "rounds_a_sweep": REPEATS,
        "same_said_no_change": said["same"] / DRAWS,
        "slower_found": said["slower"] / DRAWS,
    }


def drawn(trials: tuple[Trial, ...], sweeps: int, generator: random.Random) -> list[list[Trial]]:
    """Return sweeps of `REPEATS` rounds each, drawn without putting back."""
    rounds = sorted({trial.round for trial in trials})
    chosen = generator.sample(rounds, sweeps * REPEATS)
    parts = [chosen[begin : begin + REPEATS] for begin in range(0, len(chosen), REPEATS)]
    return [[trial for trial in trials if trial.round in part] for part in parts]


def perf_analyzer(folder: Path, *, is_small: bool, **_given: bool) -> Iterator[dict[str, Any]]:
    """Measure large requests with ours and with NVIDIA's tool, in turn; nothing is written."""
    command, why_not = fetch(Path("~/.cache/tritonbulk/perf_analyzer").expanduser())
    if not command:
        sys.exit(f"perf_analyzer cannot be fetched: {why_not}")
    make_entry("mlp", folder / "models")
    file = make_file(WORKLOADS["mlp"], 262_144, folder)
    rows = "1024" if is_small else "1024,2048,4096"
    found = bench(
        folder, "peer.json", str(file), "--model", "mlp", "--input-map", "x=f*", "--no-write",
        "--repository", "models", "--batch-rows", rows, "--in-flight", "4",
        "--trial-seconds", "1" if is_small else "3", "--repeats", "1" if is_small else "3",
        "--perf-analyzer", command,
    )  # fmt: skip
    for each in found["perf_analyzer"]:
        setting = each["setting"]
        yield {
            "batch_rows": setting["batch_rows"],
            "in_flight": setting["in_flight"],
            "ours_rows_s": median(each["ours"]),
            "theirs_rows_s": median(each["theirs"]),
            "ours_of_theirs": each["ratio"],
        }


Measure: TypeAlias = Callable[..., Iterator[dict[str, Any]]]
MEASURES: dict[str, Measure] = {
    each.__name__: each for each in (optimum, overhead, same, perf_analyzer)
}


@click.command()
@click.argument("measures", nargs=-1, required=True, type=click.Choice(list(MEASURES)))
@click.option("--small", is_flag=True, help="Only show that it runs.")
@click.option("--hog", "is_hogged", is_flag=True, help="Keep one processor busy meanwhile.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("sweeps.jsonl"))
def main(measures: tuple[str, ...], small: bool, is_hogged: bool, out: Path) -> None:
    """Measure what can be promised of bench."""
    with out.open("a") as file:
        for name in measures:
            with tempfile.TemporaryDirectory(prefix="sweeps-") as folder:
                measured = MEASURES[name](Path(folder), is_small=small, is_hogged=is_hogged)
                for figures in measured:
                    line = {"measure": name, "small": small, "hog": is_hogged, **figures}
                    file.write(json.dumps({**line, "machine": environment()}) + "\n")
                    file.flush()
                    click.echo(json.dumps(line))


if __name__ == "__main__":
    main()
