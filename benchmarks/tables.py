"""What was measured, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Estimate, Run, estimate, paired, runs_of
from benchmarks.goals import Outcome
from benchmarks.workloads import WORKLOADS

FOREIGN_CORES_MAX = 0.2
"""Above so many foreign cores a run is called noisy."""


def figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return one entry for each workload and contender: medians, and its rate beside the reference.

    ``speed_vs_reference`` is the paired ratio of the reference's rate to the contender's.
    """
    entries = []
    for name in dict.fromkeys(run.workload for run in runs):
        reference = WORKLOADS[name].reference
        ours = runs_of(runs, name, reference)
        for contender in WORKLOADS[name].contenders:
            its = runs_of(runs, name, contender)
            if not its:
                continue
            ratios = paired(ours, its, lambda run: run.rate)
            entries.append(
                {
                    "workload": name,
                    "contender": contender,
                    "rounds": len(its),
                    "rows": median(run.rows for run in its.values()),
                    "rows_per_second": median(run.rate for run in its.values()),
                    "reference": reference,
                    "reference_speed_ratio": asdict(estimate(ratios)) if ratios else None,
                    "client_cpu_s_per_mrow": median(run.client_cost for run in its.values()),
                    "server_cpu_s_per_mrow": median(run.server_cost for run in its.values()),
                    "peak_mb": median(run.peak_mb for run in its.values()),
                    "noisy_rounds": sum(r.foreign_cores > FOREIGN_CORES_MAX for r in its.values()),
                }
            )
    return entries


def outcome_entry(outcome: Outcome) -> dict[str, Any]:
    """Return a goal and what became of it."""
    return {
        "name": outcome.goal.name,
        "at_least": outcome.goal.at_least,
        "aim": outcome.goal.aim,
        "less_is_better": outcome.goal.is_cost,
        "against": outcome.against,
        "measured": asdict(outcome.found) if outcome.found else None,
        "reached": outcome.reached,
    }


def print_figures(entries: Sequence[dict[str, Any]]) -> None:
    """Print a table for each workload."""
    for name in dict.fromkeys(entry["workload"] for entry in entries):
        its = [entry for entry in entries if entry["workload"] == name]
        ends = "server only, from memory" if WORKLOADS[name].in_memory else "Parquet to Parquet"
        table = Table(title=f"{name}: {its[0]['rows']:,.0f} rows, {ends}")
        for heading in (
            "contender", "rows/s", f"{its[0]['reference']} ÷ it (95 %)", "client CPU-s/Mrow",
            "server CPU-s/Mrow", "peak MB", "noisy rounds",
        ):  # fmt: skip
            table.add_column(heading, justify="right", no_wrap=True)
        for entry in its:
            ratio = entry["reference_speed_ratio"]
            table.add_row(
                entry["contender"],
                f"{entry['rows_per_second']:,.0f}",
                _shown(Estimate(**ratio)) if ratio else "–",
                f"{entry['client_cpu_s_per_mrow']:.2f}",
                f"{entry['server_cpu_s_per_mrow']:.2f}",
                f"{entry['peak_mb']:.0f}",
                f"{entry['noisy_rounds']} of {entry['rounds']}",
            )
        Console(width=140).print(table)


def print_goals(outcomes: Sequence[Outcome]) -> None:
    """Print what was reached, and which goals these runs say nothing about."""
    table = Table(title="goals (medians; of a cost less is better)")
    for heading in ("goal", "at least", "aim", "measured (95 %)", "against", "reached"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in outcomes:
        goal = outcome.goal
        if outcome.found is not None:
            table.add_row(
                goal.name + (" (cost)" if goal.is_cost else ""),
                "–" if goal.at_least is None else f"{goal.at_least:g}",
                "–" if goal.aim is None else f"{goal.aim:g}",
                _shown(outcome.found),
                outcome.against,
                outcome.reached,
            )
    Console(width=140).print(table)
    if missing := [outcome.goal.name for outcome in outcomes if outcome.found is None]:
        print(f"not measured: {', '.join(missing)}")


def _shown(found: Estimate) -> str:
    return f"{found.value:.3g} ({found.low:.3g} … {found.high:.3g})"
