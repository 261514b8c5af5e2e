"""What is to be reached, and whether it was. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.figures import Estimate, Run, estimate, fastest, paired, runs_of
from benchmarks.workloads import GRPC, IN_PROCESS, SHM, WORKLOADS

Measure = Callable[[Sequence[Run]], tuple[list[float], str]]
"""Runs → a value a round, and in words what it is compared with."""

Reached = Literal["yes", "at least", "MISS", "reported", "too few rounds", "not measured"]

ROUNDS_MIN = 5
"""Rounds below which nothing is said to be reached or missed."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure.

    Attributes:
        name: in the JSON.
        measure: gives it.
        at_least: what it must be; None: it is only reported.
        aim: what it should be.
        is_cost: whether less is better.
    """

    name: str
    measure: Measure
    at_least: float | None = None
    aim: float | None = None
    is_cost: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a goal; ``found`` is None where nothing was measured."""

    goal: Goal
    found: Estimate | None
    against: str
    reached: Reached


def judge(goal: Goal, runs: Sequence[Run]) -> Outcome:
    """Return whether the runs reach a goal with their median."""
    sample, against = goal.measure(runs)
    if not sample:
        return Outcome(goal, None, against, "not measured")
    found = estimate(sample)
    reached = _reached(goal, found.value) if len(sample) >= ROUNDS_MIN else "too few rounds"
    return Outcome(goal, found, against, reached)


def _reached(goal: Goal, value: float) -> Reached:
    if goal.at_least is None or goal.aim is None:
        return "reported"
    sign = -1 if goal.is_cost else 1
    if sign * value >= sign * goal.aim:
        return "yes"
    return "at least" if sign * value >= sign * goal.at_least else "MISS"


def speed(workload: str, ours: str, *others: str) -> Measure:
    """Our rate ÷ that of the fastest of the others."""

    def measure(runs: Sequence[Run]) -> tuple[list[float], str]:
        best = fastest(runs, workload, others)
        if best is None:
            return [], " or ".join(others)
        its = runs_of(runs, workload, best)
        return paired(runs_of(runs, workload, ours), its, lambda run: run.rate), best

    return measure


def speed_of_ideal(workload: str, ours: str) -> Measure:
    """Our rate ÷ that of accelerators which always have a full batch."""
    ideal_rows_s = WORKLOADS[workload].ideal_rows_s

    def measure(runs: Sequence[Run]) -> tuple[list[float], str]:
        found = [run.rate / ideal_rows_s for run in runs_of(runs, workload, ours).values()]
        return found, f"{ideal_rows_s:,.0f} rows/s"

    return measure


def client_cost(workload: str, ours: str) -> Measure:
    """Client CPU seconds a million rows."""
    return lambda runs: ([run.client_cost for run in runs_of(runs, workload, ours).values()], "")


def peak_mb(workload: str, ours: str) -> Measure:
    """Peak memory of the client, in MB."""
    return lambda runs: ([run.peak_mb for run in runs_of(runs, workload, ours).values()], "")


def peak_growth(large: str, small: str, ours: str) -> Measure:
    """Peak memory with a large file ÷ peak memory with a small one."""
    return lambda runs: (
        paired(runs_of(runs, large, ours), runs_of(runs, small, ours), lambda run: run.peak_mb),
        small,
    )


_ALL_THREADS = IN_PROCESS[1:]

GOALS = (
    Goal("mlp_grpc_vs_naive", speed("mlp", GRPC, "naive"), 2.0, 2.5),
    Goal("mlp_grpc_vs_aio", speed("mlp", GRPC, "careful_aio"), 1.15, 1.4),
    Goal("mlp_grpc_vs_inproc1", speed("mlp", GRPC, "in_process_1"), 0.88, 1.05),
    Goal("mlp_grpc_vs_inproc_all", speed("mlp_2", GRPC, *_ALL_THREADS), 0.72, 0.90),
    Goal("mlp_1_instance_grpc_vs_inproc_all", speed("mlp", GRPC, *_ALL_THREADS)),
    Goal("mlp_client_cpu_s_per_mrow_grpc", client_cost("mlp", GRPC), 0.60, 0.42, is_cost=True),
    Goal("mlp_client_cpu_s_per_mrow_shm", client_cost("mlp", SHM), 0.60, 0.38, is_cost=True),
    Goal(
        "heavy_in_memory_grpc_vs_inproc_all",
        speed("heavy_in_memory", GRPC, *_ALL_THREADS), 0.96, 1.0,
    ),
    # No thread of these waits for another, which is how two instances work, too.
    Goal(
        "heavy_in_memory_grpc_vs_inproc_sessions",
        speed("heavy_in_memory", GRPC, "in_process_sessions"),
    ),
    Goal("heavy_grpc_vs_inproc_all", speed("heavy", GRPC, *_ALL_THREADS)),
    Goal(
        "embedding_in_memory_shm_vs_inproc1",
        speed("embedding_in_memory", SHM, "in_process_1"), 0.87, 1.0,
    ),
    Goal("embedding_shm_vs_inproc1", speed("embedding", SHM, "in_process_1")),
    Goal("image_in_memory_shm_vs_aio", speed("image_in_memory", SHM, "careful_aio"), 3.7, 5.0),
    Goal("image_shm_vs_aio", speed("image", SHM, "careful_aio")),
    Goal("strings_grpc_vs_aio", speed("strings", GRPC, "careful_aio"), 1.3, 1.6),
    Goal("flights_grpc_vs_aio", speed("flights", GRPC, "careful_aio")),
    Goal("accelerator_1_vs_ideal", speed_of_ideal("accelerator_1", GRPC), 0.93, 0.98),
    Goal("accelerator_4_vs_ideal", speed_of_ideal("accelerator_4", GRPC), 0.90, 0.96),
    Goal("accelerator_8_vs_ideal", speed_of_ideal("accelerator_8", GRPC), 0.85, 0.92),
    *(
        Goal(
            f"{workload}_vs_{without}",
            speed(workload, ours, f"tritonbulk_{without}"), 0.95, 0.97,
        )
        for workload, ours in (("durability_flights", GRPC), ("durability_embedding", SHM))
        for without in ("without_sync", "without_checksums", "without_both")
    ),
    Goal(
        "peak_memory_2gb_vs_50mb",
        peak_growth("memory_large", "memory_small", "tritonbulk_cli"), 1.10, 1.02, is_cost=True,
    ),
    Goal("peak_memory_2gb_mb", peak_mb("memory_large", "tritonbulk_cli"), 400, 300, is_cost=True),
)  # fmt: skip
