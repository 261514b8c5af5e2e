"""tritonbulk side by side with what people use instead, on the same files and the same server.

    python benchmarks/peers.py            every workload and contender, 7 rounds
    python benchmarks/peers.py --quick    the MLP and the simulated accelerator, 5 rounds

Each round runs every contender once, in shuffled order, each in a process of its own; figures are
medians of the ratios within a round, with 95 % bootstrap intervals. Client CPU is the contender's
own; server CPU is tritonserver's and its stubs'; foreign CPU is all that somebody else used
meanwhile. Every raw figure is kept as JSON Lines. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from workloads import ACCELERATOR_IDEAL_ROWS_S, WORKLOADS, file_of, prepare

from tritonbulk import EmbeddedTriton

HERE = Path(__file__).parent
CONTENDERS = {
    "mlp": ("tritonbulk_grpc", "naive", "careful_aio", "in_process_1", "in_process_all"),
    "heavy": ("tritonbulk_grpc", "naive", "careful_aio", "in_process_all"),
    "embedding": ("tritonbulk_grpc", "naive", "careful_aio", "in_process_1"),
    "accelerator": ("tritonbulk_grpc", "careful_aio"),
}
QUICK = ("mlp", "accelerator")
FOREIGN_CORES_MAX = 0.2
"""Above so many foreign cores a run is marked noisy."""


@dataclass(frozen=True, slots=True)
class Run:
    """One contender's run; CPU in seconds, foreign CPU in cores."""

    workload: str
    contender: str
    round: int
    rows: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    foreign_cores: float

    @property
    def rate(self) -> float:
        """Rows a second, end to end."""
        return self.rows / self.seconds


def main() -> None:
    """Run the benchmark, print the table, keep the figures."""
    given = _arguments()
    names = given.workloads or (QUICK if given.quick else tuple(CONTENDERS))
    rounds = given.rounds or (5 if given.quick else 7)
    rows_max = 1_048_576 if given.quick else 10**9
    folder = given.folder.absolute()
    prepare(list(names), folder, rows_max)
    raw = folder / "runs.jsonl"
    runs: list[Run] = []
    with raw.open("a", encoding="utf-8") as kept:
        for name in names:
            with EmbeddedTriton(folder / "repository", models=[name], stop_deadline_s=0) as server:
                for run in measure(name, rounds, server, folder, rows_max):
                    runs.append(run)
                    kept.write(json.dumps(asdict(run)) + "\n")
                    kept.flush()
    show(runs)
    print(f"raw figures: {raw}")
    print(json.dumps(summary(runs)))


def measure(
    name: str, rounds: int, server: EmbeddedTriton, folder: Path, rows_max: int
) -> list[Run]:
    """Return the runs of one workload: a warm-up that does not count, then the rounds."""
    shuffler = random.Random(0)  # noqa: S311  an order, not a secret
    file = file_of(WORKLOADS[name], folder, rows_max)
    runs: list[Run] = []
    for number in range(-1, rounds):
        for contender in shuffler.sample(CONTENDERS[name], len(CONTENDERS[name])):
            run = run_once(name, contender, number, server, folder, file)
            print(f"{name} round {number} {contender}: {run.rate:,.0f} rows/s", file=sys.stderr)
            if number >= 0:
                runs.append(run)
    return runs


def run_once(
    name: str, contender: str, number: int, server: EmbeddedTriton, folder: Path, file: Path
) -> Run:
    """Run one contender in a process of its own."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable, str(HERE / "contenders.py"), contender, "--workload", name,
        "--file", str(file), "--repository", str(folder / "repository"),
        "--endpoint", server.grpc, "--out", str(out),
    ]  # fmt: skip
    began_s, busy, ours = time.monotonic(), busy_seconds(), server_cpu(server.pid)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{contender} failed on {name}:\n{done.stderr}")
    figures = json.loads(done.stdout.splitlines()[-1])
    spent = server_cpu(server.pid) - ours
    # The contender's start-up is its own CPU too, but stands outside its figures; wait4 has it all.
    foreign = busy_seconds() - busy - spent - figures["cpu_seconds_whole"]
    return Run(
        name, contender, number, figures["rows"], figures["seconds"], figures["cpu_seconds"],
        spent, max(foreign, 0.0) / (time.monotonic() - began_s),
    )  # fmt: skip


def busy_seconds() -> float:
    """Return the CPU seconds that all processes of this machine have used."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, fields)
    return (user + nice + system + irq + softirq) / 100


def server_cpu(pid: int) -> float:
    """Return the CPU seconds of tritonserver and its stubs so far (run time by the scheduler)."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = [pid, *(child for child, parent in parents.items() if parent == pid)]
    total_ns = 0
    for each in family:
        for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
            total_ns += int(task.read_text().split()[0])
    return total_ns / 1e9


def paired(runs: Sequence[Run], one: str, other: str) -> tuple[float, float, float]:
    """Return the median over rounds of one rate ÷ the other, and its 95 % interval."""
    rates = {(run.contender, run.round): run.rate for run in runs}
    rounds = sorted({run.round for run in runs})
    ratios = [rates[one, number] / rates[other, number] for number in rounds]
    shuffler = random.Random(1)  # noqa: S311  resampling, not a secret
    draws = sorted(median(shuffler.choices(ratios, k=len(ratios))) for _ in range(2000))
    return median(ratios), draws[50], draws[1949]


def show(runs: Sequence[Run]) -> None:
    """Print a table a workload."""
    for name in dict.fromkeys(run.workload for run in runs):
        ours = [run for run in runs if run.workload == name]
        table = Table(title=f"{name}: {ours[0].rows:,} rows, Parquet to Parquet")
        for heading in (
            "contender", "rows/s", "tritonbulk ÷ it (95 %)", "client CPU-s/Mrow",
            "server CPU-s/Mrow", "noisy runs",
        ):  # fmt: skip
            table.add_column(heading, justify="right", no_wrap=True)
        for contender in dict.fromkeys(run.contender for run in ours):
            its = [run for run in ours if run.contender == contender]
            ratio, low, high = paired(ours, "tritonbulk_grpc", contender)
            noisy = sum(run.foreign_cores > FOREIGN_CORES_MAX for run in its)
            table.add_row(
                contender,
                f"{median(run.rate for run in its):,.0f}",
                f"{ratio:.2f} ({low:.2f} … {high:.2f})",
                f"{median(run.cpu_seconds / run.rows for run in its) * 1e6:.2f}",
                f"{median(run.server_cpu_seconds / run.rows for run in its) * 1e6:.2f}",
                f"{noisy} of {len(its)}",
            )
        Console(width=130).print(table)


def summary(runs: Sequence[Run]) -> dict[str, float]:
    """Return the figures that stand for the whole, by name."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(run.workload for run in runs):
        its = [run for run in runs if run.workload == name]
        ours = [run for run in its if run.contender == "tritonbulk_grpc"]
        for contender, short in (
            ("naive", "naive"), ("careful_aio", "aio"), ("in_process_1", "inproc1"),
            ("in_process_all", "inproc_all"),
        ):  # fmt: skip
            if any(run.contender == contender for run in its):
                found[f"{name}_grpc_vs_{short}"] = round(
                    paired(its, "tritonbulk_grpc", contender)[0], 3
                )
        cpu = median(run.cpu_seconds / run.rows for run in ours) * 1e6
        found[f"{name}_client_cpu_s_per_mrow_grpc"] = round(cpu, 3)
        if name == "accelerator":
            rate = median(run.rate for run in ours)
            found["accelerator_1_vs_ideal"] = round(rate / ACCELERATOR_IDEAL_ROWS_S, 3)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a subset, under five minutes")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--workloads", nargs="+", choices=CONTENDERS)
    parser.add_argument("--folder", type=Path, default=Path("bench-peers"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
