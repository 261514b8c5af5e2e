"""tritonbulk side by side with what people use instead, on the same files and the same servers.

    python -m benchmarks.peers                         every workload, 7 rounds
    python -m benchmarks.peers --quick                 the MLP and one simulated accelerator
    python -m benchmarks.peers --workloads heavy image --continue
    python -m benchmarks.peers --show                  the tables of what was measured before

Each round runs every contender once, in shuffled order, each in a process of its own. A first round
does not count: it warms the servers, and its outputs must agree. Every finished run is kept at once
as a line of JSON; the last line printed is one JSON object with the goals' medians.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import machine, perf_analyzer, tables
from benchmarks.agreement import disagreement
from benchmarks.entries import make_entry
from benchmarks.figures import Run, latest
from benchmarks.files import make_file
from benchmarks.goals import GOALS, judge
from benchmarks.task import Task
from benchmarks.workloads import (
    QUICK,
    QUICK_SCALE,
    WORKLOADS,
    Workload,
    scaled_rows,
)
from tritonbulk import EmbeddedTriton

PROJECT = Path(__file__).parents[1]
RUN_S = 600
"""Seconds after which a contender is given up."""

WARM_UP = -1


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is asked for.

    Attributes:
        workloads: by name.
        rounds: that count.
        scale: of the full run's rows.
        quick: whether only those take part that `QUICK` names.
        folder: for everything that is made.
        raw: file of the finished runs.
        perf_analyzer: path of its command; "" where it cannot be had.
    """

    workloads: tuple[str, ...]
    rounds: int
    scale: float
    quick: bool
    folder: Path
    raw: Path
    perf_analyzer: str = ""

    @property
    def repository(self) -> Path:
        """The model repository."""
        return self.folder / "repository"

    def contenders_of(self, workload: Workload) -> list[str]:
        """Return who takes part here: those asked for whose tools are there."""
        missing = set()
        if find_spec("pandas") is None:
            missing.add("naive")  # `main` says so
        if not self.perf_analyzer:
            missing.add("perf_analyzer")
        asked = QUICK.get(workload.name) if self.quick else None
        return [name for name in asked or workload.contenders if name not in missing]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, or what is missing of it, and print the tables."""
    given = _parser().parse_args(arguments)
    campaign = _campaign(given)
    if not given.show:
        if find_spec("pandas") is None:
            print("naive is not measured: pandas is missing; make bench-venv", file=sys.stderr)
        if not given.go_on:
            _put_aside(campaign.raw)
        campaign = _with_perf_analyzer(campaign)
        measure(campaign, read_runs(campaign.raw))
    runs = [run for run in read_runs(campaign.raw) if run.workload in campaign.workloads]
    if not runs:
        sys.exit(f"{campaign.raw} has no runs of these workloads; measure them first")
    report(runs, campaign)


def measure(campaign: Campaign, done: Sequence[Run]) -> None:
    """Run all rounds that are not done yet, and append every run to the raw file."""
    campaign.repository.mkdir(parents=True, exist_ok=True)
    card = campaign.raw.with_name("machine.json")
    if not done or not card.exists():
        card.write_text(json.dumps(machine.card(), indent=1))
    cut_unfinished_line(campaign.raw)
    finished = {(run.workload, run.contender, run.round) for run in done}
    with campaign.raw.open("a", encoding="utf-8") as raw:
        for name in campaign.workloads:
            workload = WORKLOADS[name]
            contenders = campaign.contenders_of(workload)
            rounds = [
                number
                for number in range(campaign.rounds)
                if not finished.issuperset((name, contender, number) for contender in contenders)
            ]
            if not rounds:
                continue
            for run in measure_workload(workload, contenders, rounds, campaign):
                raw.write(json.dumps(asdict(run)) + "\n")
                raw.flush()


def measure_workload(
    workload: Workload, contenders: Sequence[str], rounds: Sequence[int], campaign: Campaign
) -> Iterator[Run]:
    """Yield the runs of one workload as they finish; the warm-up comes first and is not yielded."""
    shuffler = random.Random(rounds[0])  # noqa: S311  an order, not a secret
    with serve(workload, campaign) as (task, pids):
        for number in (WARM_UP, *rounds):
            for contender in shuffler.sample(contenders, len(contenders)):
                turn = replace(task, contender=contender)
                run = run_once(turn, number, pids)
                print(
                    f"{workload.name} round {number} {contender}: {run.rate:,.0f} rows/s",
                    file=sys.stderr,
                )
                if number != WARM_UP:
                    yield run
                elif not workload.in_memory:
                    _agree(turn)


@contextmanager
def serve(workload: Workload, campaign: Campaign) -> Iterator[tuple[Task, list[int]]]:
    """Give a task that lacks but its contender, and the process ids of the servers that it names.

    Model and file are made if they are not there; the contenders' outputs go at the end.
    """
    make_entry(workload.entry, campaign.repository)
    rows = scaled_rows(workload, campaign.scale)
    file = make_file(workload, rows, campaign.folder)
    with ExitStack() as stack:
        outputs = stack.enter_context(TemporaryDirectory(prefix="out-", dir=campaign.folder))
        servers = [
            stack.enter_context(
                EmbeddedTriton(campaign.repository, models=[workload.entry], stop_deadline_s=0)
            )
            for _ in range(workload.servers)
        ]
        task = Task(
            contender="",
            workload_name=workload.name,
            rows=rows,
            file=str(file),
            repository=str(campaign.repository),
            endpoints=tuple(server.grpc for server in servers),
            out=str(Path(outputs, "out")),
            shared_memory_prefix=servers[0].shared_memory_prefix,
            admin_headers=dict(servers[0].admin_headers),
            perf_analyzer=campaign.perf_analyzer,
        )
        yield task, [server.pid for server in servers]


def run_once(task: Task, number: int, pids: Sequence[int]) -> Run:
    """Run one contender in a process of its own."""
    shutil.rmtree(task.out, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.contenders"]
    began_s, busy_s = time.monotonic(), machine.busy_seconds()
    served_s = machine.server_cpu_seconds(pids)
    try:
        done = subprocess.run(
            command, input=task.to_json(), capture_output=True, text=True, cwd=PROJECT,
            timeout=RUN_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        sys.exit(f"{task.contender} took more than {RUN_S} s on {task.workload_name}")
    if done.returncode:
        sys.exit(f"{task.contender} failed on {task.workload_name}:\n{done.stderr}")
    figures = json.loads(done.stdout.splitlines()[-1])
    server_s = machine.server_cpu_seconds(pids) - served_s
    # The contender's start-up is its own CPU too, though it stands outside its figures.
    foreign_s = machine.busy_seconds() - busy_s - server_s - figures.pop("cpu_seconds_whole")
    return Run(
        workload=task.workload_name,
        contender=task.contender,
        round=number,
        server_cpu_seconds=server_s,
        foreign_cores=max(foreign_s, 0.0) / (time.monotonic() - began_s),
        **figures,
    )


def report(runs: Sequence[Run], campaign: Campaign) -> None:
    """Print the tables, write ``results.json``, and print the goals' medians as the last line."""
    outcomes = [judge(goal, runs) for goal in GOALS]
    entries = tables.figures(runs)
    tables.print_figures(entries)
    tables.print_goals(outcomes)
    results = {
        "machine": json.loads(campaign.raw.with_name("machine.json").read_text()),
        "figures": entries,
        "goals": [tables.outcome_entry(outcome) for outcome in outcomes],
    }
    path = campaign.raw.with_name("results.json")
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"every run: {campaign.raw}; results: {path}")
    print(json.dumps({o.goal.name: round(o.found.value, 3) for o in outcomes if o.found}))


def read_runs(raw: Path) -> list[Run]:
    """Return the finished runs that are kept; none if there is no file."""
    if not raw.exists():
        return []
    lines = raw.read_text(encoding="utf-8").splitlines(keepends=True)
    # A line without an end is a run whose writing was interrupted.
    return latest([Run(**json.loads(line)) for line in lines if line.endswith("\n")])


def cut_unfinished_line(raw: Path) -> None:
    """Remove what an interruption left behind the last whole line, so that more can be appended."""
    if raw.exists():
        written = raw.read_bytes()
        os.truncate(raw, written.rfind(b"\n") + 1)


def _agree(task: Task) -> None:
    """Keep the first output of a workload; every other one must have the same rows and values."""
    first = Path(task.out).with_name("first")
    if not first.exists():
        Path(task.out).rename(first)
    elif problem := disagreement(task, first):
        sys.exit(f"{task.contender} and another disagree on {task.workload_name}: {problem}")


def _put_aside(raw: Path) -> None:
    raw.parent.mkdir(parents=True, exist_ok=True)
    if raw.exists():
        number = sum(1 for _ in raw.parent.glob("runs*.jsonl"))
        raw.rename(raw.with_name(f"runs-{number:03d}.jsonl"))


def _with_perf_analyzer(campaign: Campaign) -> Campaign:
    if not any("perf_analyzer" in WORKLOADS[name].contenders for name in campaign.workloads):
        return campaign
    command, problem = perf_analyzer.fetch(campaign.folder / "perf_analyzer")
    if problem:
        print(f"perf_analyzer is not measured: {problem}", file=sys.stderr)
    return replace(campaign, perf_analyzer=command)


def _campaign(given: argparse.Namespace) -> Campaign:
    folder: Path = given.folder.absolute()
    kind = "quick" if given.quick else "full"
    if given.scale:
        kind += f"-{given.scale:g}"  # runs of other sizes are not to be mixed
    return Campaign(
        workloads=tuple(given.workloads or (QUICK if given.quick else WORKLOADS)),
        rounds=given.rounds or (5 if given.quick else 7),
        scale=given.scale or (QUICK_SCALE if given.quick else 1.0),
        quick=given.quick,
        folder=folder,
        raw=folder / kind / "runs.jsonl",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a subset, under five minutes")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, help="these only")
    parser.add_argument("--rounds", type=int, help="that count (default: 7, quick: 5)")
    parser.add_argument("--scale", type=float, help="of the rows (default: 1, quick: 0.5)")
    parser.add_argument(
        "--continue", dest="go_on", action="store_true",
        help="keep the finished runs and measure what is missing; else they are put aside",
    )  # fmt: skip
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--folder", type=Path, default=Path("bench-peers"))
    return parser


if __name__ == "__main__":
    main()
