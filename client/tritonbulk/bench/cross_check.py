"""Cross-check: NVIDIA's perf_analyzer on the same points, beside ours.

It is given rows of the user's file, since its own are random bytes; it neither reads nor writes
files, so it is compared with what a trial reaches with ``no_write`` as well as without.
"""

from __future__ import annotations

import asyncio
import csv
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tritonbulk.bench.result import Checked, Sweep
from tritonbulk.bench.runner import Runner
from tritonbulk.bench.search import Step
from tritonbulk.bench.setting import Setting
from tritonbulk.bench.statistics import paired_ratio
from tritonbulk.contract import gather
from tritonbulk.errors import PlatformError
from tritonbulk.plan import Plan, make_plan

ROUNDS = 3
POINTS_MAX = 3
RUN_S = 180.0
"""How long one run of the tool may take."""

ROWS_MAX = 1024
"""Rows that it is given; it takes them over and over."""


def points_of(sweep: Sweep) -> list[Setting]:
    """Return the points to check: the recommended one, and the fastest with the server as it is."""
    if sweep.verdict is None:
        return []
    best: dict[Setting, float] = {}
    for trial in sweep.trials:
        if trial.is_sound and trial.setting.variant == sweep.space.base:
            rate = best.get(trial.setting, 0.0)
            best[trial.setting] = max(rate, trial.rows_per_second)
    fastest = sorted(best, key=lambda setting: -best[setting])
    return list(dict.fromkeys([sweep.verdict.setting, *fastest]))[:POINTS_MAX]


async def cross_check(
    runner: Runner, points: Sequence[Setting], command: Path, say: Callable[[str], None]
) -> list[Checked]:
    """Measure points with both, in turn, and return what came of it.

    Args:
        runner: measures ours.
        points: what to measure.
        command: perf_analyzer.
        say: told one sentence at a time.

    Raises:
        PlatformError: it cannot be run, or refuses; a retry does not help.
        TritonbulkError: the servers are gone.
    """
    if not os.access(command, os.X_OK):
        raise PlatformError(f"{command} is no command that can be run; give perf_analyzer's path")
    if runner.options.access.uses_tls or runner.options.access.headers:
        raise PlatformError("--perf-analyzer reaches servers without TLS and headers only")
    rates: dict[Setting, list[tuple[float, float]]] = {point: [] for point in points}
    data = await asyncio.to_thread(_write_rows, runner)
    for number in range(ROUNDS):
        for point in points:
            trial = await runner.run(Step(point, "beside perf_analyzer"), number)
            theirs = await _measure(runner, point, command, data)
            if trial.rows_per_second > 0 and theirs > 0:
                rates[point].append((trial.rows_per_second, theirs))
            say(
                f"{point.describe()}: ours {trial.rows_per_second:,.0f}, perf_analyzer "
                f"{theirs:,.0f} rows/s"
            )
    return [
        Checked(
            point,
            tuple(ours for ours, _ in pairs),
            tuple(theirs for _, theirs in pairs),
            paired_ratio(pairs),
        )
        for point, pairs in rates.items()
        if pairs
    ]


async def _measure(runner: Runner, point: Setting, command: Path, data: Path) -> float:
    report = runner.folder / "perf_analyzer.csv"
    report.unlink(missing_ok=True)
    arguments = [
        "-m", runner.model.name, "-x", runner.model.version, "-i", "grpc",
        "-u", runner.servers.addresses[0], "-b", str(point.batch_rows),
        "--concurrency-range", str(point.in_flight), "--input-data", str(data),
        "-p", str(max(int(runner.bench.trial_length_s * 1000), 500)), "-r", "3",
        # However far apart its windows are: unsteadiness is for the rounds to show.
        "-s", "999", "-f", str(report),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        str(command),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(RUN_S):
            said, _ = await process.communicate()
    except TimeoutError:
        raise PlatformError(f"{command} did not end within {RUN_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        with report.open(newline="") as file:
            (figures,) = csv.DictReader(file)
        return float(figures["Inferences/Second"])
    except (OSError, ValueError, LookupError) as error:
        last = " ".join(said.decode("utf-8", "replace").split())[-300:]
        raise PlatformError(f"{command} gave no figures: {last or error}") from error


def _write_rows(runner: Runner) -> Path:
    """Write rows of the user's file in the form that perf_analyzer reads."""
    options = replace(runner.options, batch_rows=1)
    plan = make_plan(
        options, runner.model, runner.sliced.schema, runner.contract, runner.sliced.name
    )
    _, rows = next(iter(runner.sliced.read(ROWS_MAX, plan.fed)))
    path = runner.folder / "perf_analyzer.json"
    path.write_text(json.dumps({"data": rows_as_plain(plan, rows)}), encoding="utf-8")
    return path


def rows_as_plain(plan: Plan, rows: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as perf_analyzer takes them; what JSON cannot hold (NaN, ∞) becomes 0."""
    tensors = {tensor.name: gather(rows, tensor) for tensor in plan.inputs}
    return [
        {
            name: {"content": [_plain(v) for v in values[at].reshape(-1).tolist()],
                   "shape": list(values.shape[1:])}
            for name, values in tensors.items()
        }
        for at in range(len(rows))
    ]  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return 0.0 if isinstance(value, float) and not math.isfinite(value) else value
