"""Compare: whether one sweep is faster than another, by the ratios of their rounds. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from tritonbulk.bench.setting import Setting
from tritonbulk.bench.statistics import Interval, paired_ratio
from tritonbulk.bench.trial import Trial

Change = Literal["faster", "slower", "no change"]

THRESHOLD = 0.05
"""Smallest effect that counts as a change, unless told otherwise."""

QUIET_PAIRS_MIN = 3
"""Pairs without noise that are enough to leave the noisy ones out."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much faster the second of two sweeps is.

    Attributes:
        setting: compared; None for all that both have.
        ratio: rate of the second ÷ that of the first.
        pairs: rounds, or trials, that were compared.
        change: whether that is a change.
    """

    setting: Setting | None
    ratio: Interval
    pairs: int
    change: Change


def compare(
    first: Sequence[Trial], second: Sequence[Trial], threshold: float = THRESHOLD
) -> tuple[Difference, list[Difference]]:
    """Return the difference over all settings, and of each that both sweeps have.

    Trials of one setting are paired in the order in which they ran, and the ratios of one such
    round make one value (their geometric mean), because what disturbs a machine lasts longer than a
    trial. It is a change if the interval excludes 1 and the ratio is off by more than
    ``threshold``; those of single settings hold together.

    Raises:
        ValueError: no setting was measured by both.
    """
    ours, theirs = _by_setting(first), _by_setting(second)
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise ValueError("no setting was measured by both")
    pairs = {setting: _quiet(ours[setting], theirs[setting]) for setting in common}
    rounds = max(map(len, pairs.values()))
    by_round = [
        (1.0, math.exp(fmean(_logs(pairs, number))))
        for number in range(rounds)
        if _logs(pairs, number)
    ]
    single = [_difference(setting, pairs[setting], threshold, len(common)) for setting in common]
    return _difference(None, by_round, threshold, 1), single


def _logs(pairs: Mapping[Setting, Sequence[tuple[float, float]]], number: int) -> list[float]:
    return [math.log(found[number][1] / found[number][0])
            for found in pairs.values() if number < len(found)]  # fmt: skip


def _difference(
    setting: Setting | None,
    pairs: Sequence[tuple[float, float]],
    threshold: float,
    comparisons: int,
) -> Difference:
    ratio = paired_ratio([(second, first) for first, second in pairs], comparisons)
    change: Change = "no change"
    if ratio.excludes(1.0) and abs(ratio.value - 1) > threshold:
        change = "faster" if ratio.value > 1 else "slower"
    return Difference(setting, ratio, len(pairs), change)


def _by_setting(trials: Sequence[Trial]) -> dict[Setting, list[Trial]]:
    found: dict[Setting, list[Trial]] = {}
    for trial in trials:
        if trial.rows_per_second > 0:
            found.setdefault(trial.setting, []).append(trial)
    return found


def _quiet(first: Sequence[Trial], second: Sequence[Trial]) -> list[tuple[float, float]]:
    """Return the pairs of rates; without those that others disturbed, if enough are left."""
    pairs = list(zip(first, second, strict=False))
    quiet = [
        pair for pair in pairs if not any(t.noise is not None and t.noise.is_noisy for t in pair)
    ]
    kept = quiet if len(quiet) >= QUIET_PAIRS_MIN else pairs
    return [(a.rows_per_second, b.rows_per_second) for a, b in kept]
