"""Runs → samples, medians and intervals. Pure.

A sample has one value a round: what disturbs the machine for a while then hits both sides of a
ratio. Intervals are 95 % bootstrap intervals of the median.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Run:
    """One contender's run.

    Attributes:
        workload: its name.
        contender: its name.
        round: from 0.
        rows: scored.
        seconds: that took.
        cpu_seconds: of the contender's process over that time.
        server_cpu_seconds: of tritonserver and its stubs over the contender's whole life.
        foreign_cores: processors that everybody else used meanwhile.
        peak_mb: most memory of the contender's process, whole life.
    """

    workload: str
    contender: str
    round: int
    rows: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    foreign_cores: float
    peak_mb: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    @property
    def client_cost(self) -> float:
        """CPU seconds of the client a million rows."""
        return self.cpu_seconds / self.rows * 1e6

    @property
    def server_cost(self) -> float:
        """CPU seconds of the server a million rows."""
        return self.server_cpu_seconds / self.rows * 1e6


@dataclass(frozen=True, slots=True)
class Estimate:
    """The median of a sample and its interval."""

    value: float
    low: float
    high: float


def estimate(sample: Sequence[float]) -> Estimate:
    """Return median and interval of a sample, which is not empty; always the same ones."""
    shuffler = random.Random(1)  # noqa: S311  resampling, not a secret
    draws = sorted(median(shuffler.choices(sample, k=len(sample))) for _ in range(DRAWS))
    return Estimate(median(sample), draws[round(0.025 * DRAWS)], draws[round(0.975 * DRAWS) - 1])


def latest(runs: Sequence[Run]) -> list[Run]:
    """Return the runs, of those repeated under one workload, contender and round the last."""
    return list({(run.workload, run.contender, run.round): run for run in runs}.values())


def runs_of(runs: Sequence[Run], workload: str, contender: str) -> dict[int, Run]:
    """Return one contender's runs of a workload, by round."""
    return {r.round: r for r in runs if (r.workload, r.contender) == (workload, contender)}


def paired(
    one: dict[int, Run], other: dict[int, Run], figure: Callable[[Run], float]
) -> list[float]:
    """Return the ratio of a figure in each round that has both."""
    return [figure(one[n]) / figure(other[n]) for n in sorted(one.keys() & other.keys())]


def fastest(runs: Sequence[Run], workload: str, contenders: Sequence[str]) -> str | None:
    """Return which contender has the highest median rate; None if none of them was measured."""
    rates = {
        name: median(run.rate for run in its.values())
        for name in contenders
        if (its := runs_of(runs, workload, name))
    }
    return max(rates, key=rates.__getitem__, default=None)
