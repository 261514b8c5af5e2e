"""Statistics: intervals, ratios, warm-up, rates, the cost of a batch. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, stdev

import numpy as np

CONFIDENCE = 0.95
"""Of every interval here."""

RESAMPLES = 1000
"""Of a bootstrap: more moves the ends of an interval by less than they are worth."""

WARM_UP_TOLERANCE = 0.10
"""Two windows in a row whose rates differ by no more than this end the warm-up."""

WINDOWS = 10
"""Into which the answers of a trial are cut to find its warm-up."""

LOW_SHARE = 0.1
"""Share of the trials that may have shorter batches than those that count for their cost."""

LITTLE_TOLERANCE = 0.05
"""Most by which Little's law may be off before a measurement is doubted."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval in which the truth lies with `CONFIDENCE`.

    Attributes:
        low: lower end.
        value: the estimate.
        high: upper end.
    """

    low: float
    value: float
    high: float

    def excludes(self, value: float) -> bool:
        """Return whether ``value`` lies outside."""
        return not self.low <= value <= self.high


def median_interval(sample: Sequence[float], seed: int = 0) -> Interval:
    """Return the median with its percentile bootstrap interval (Efron 1979).

    Of up to two values the interval is their span, which says little: look at how many there are.

    Args:
        sample: at least one value.
        seed: of the resampling.
    """
    if len(sample) <= 2:
        return Interval(min(sample), median(sample), max(sample))
    values = np.asarray(sample, dtype=np.float64)
    chosen = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    medians = np.median(values[chosen], axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return Interval(float(low), float(median(sample)), float(high))


def paired_ratio(pairs: Sequence[tuple[float, float]], comparisons: int = 1) -> Interval:
    """Return how much larger the first of each pair is: their geometric mean ratio.

    The interval is Student's of the logarithms, which holds for few pairs, where a bootstrap's is
    too narrow. Of one pair it is without end.

    Args:
        pairs: at least one, of positive values that were measured side by side.
        comparisons: how many intervals are made in one go, all of which shall hold together
            (Bonferroni).
    """
    logs = [math.log(first / second) for first, second in pairs]
    centre = fmean(logs)
    if len(logs) < 2:
        return Interval(0.0, math.exp(centre), math.inf)
    tail = (1 - CONFIDENCE) / 2 / comparisons
    half = student_quantile(1 - tail, len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    return Interval(math.exp(centre - half), math.exp(centre), math.exp(centre + half))


def student_quantile(probability: float, freedom: int) -> float:
    """Return the value below which Student's t stays with ``probability`` (0.5 to below 1).

    Args:
        probability: of a smaller value.
        freedom: degrees of freedom, at least 1.
    """
    low, high = 0.0, 1.0
    while _student_below(high, freedom) < probability and high < 2.0**60:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if _student_below(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return high


def _student_below(value: float, freedom: int) -> float:
    """Return P(t < value); Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(value / math.sqrt(freedom))
    cosine_2 = math.cos(angle) ** 2
    term = math.sin(angle) * (math.cos(angle) if freedom % 2 else 1.0)
    total = term if freedom > 1 else 0.0
    for k in range(2 + freedom % 2, freedom - 1, 2):
        term *= cosine_2 * (k - 1) / k
        total += term
    within = (angle + total) * 2 / math.pi if freedom % 2 else total
    return 0.5 + within / 2


@dataclass(frozen=True, slots=True)
class SteadyRate:
    """The rate of a trial between its warm-up and its draining.

    Attributes:
        rows_per_second: over that span.
        warm_up_s: how long the warm-up took, from the beginning of the trial.
        seconds: length of the span.
        is_steady: whether the warm-up was seen to end; if not, the span is the second half.
    """

    rows_per_second: float
    warm_up_s: float
    seconds: float
    is_steady: bool


def steady_rate(answers: Sequence[tuple[float, int]], drain_rows: int = 0) -> SteadyRate | None:
    """Return the steady rate of a trial; None if it had too few answers to tell.

    Answers come in bursts (a batch that joins several requests answers them together), so a span
    begins and ends at the last answer of a burst: then it holds whole bursts with the pauses before
    them, and a server that executes one batch after another is measured exactly.

    Args:
        answers: (seconds since the trial began, rows answered by then), in order.
        drain_rows: the last so many rows belong to the draining, when no more requests follow.
    """
    until_rows = answers[-1][1] - drain_rows if answers else 0
    ends = _burst_ends([answer for answer in answers if answer[1] <= until_rows])
    if len(ends) < 2:
        return None
    marks = _marks(ends)
    rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(marks)]
    begin = warm_up_windows(rates)
    first = marks[len(marks) // 2 if begin is None else begin]
    last = ends[-1]
    if first[0] >= last[0]:
        first = marks[0]
    seconds = last[0] - first[0]
    return SteadyRate((last[1] - first[1]) / seconds, first[0], seconds, begin is not None)


def _burst_ends(answers: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return the answers after which a pause follows that is longer than the mean one."""
    if len(answers) < 2:
        return []
    mean_s = (answers[-1][0] - answers[0][0]) / (len(answers) - 1)
    return [a for a, b in pairwise(answers) if b[0] - a[0] > mean_s / 2 and b[0] > a[0]]


def _marks(ends: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return up to `WINDOWS` + 1 of the bursts' ends, evenly by their number."""
    last = len(ends) - 1
    windows = min(WINDOWS, last)
    return [ends[last * each // windows] for each in range(windows + 1)]


def warm_up_windows(rates: Sequence[float]) -> int | None:
    """Return how many windows a warm-up took: the first that the next one no longer leaves.

    None if no two in a row are within `WARM_UP_TOLERANCE` of each other: it never became steady.
    """
    for index, (rate, following) in enumerate(pairwise(rates)):
        if abs(following - rate) <= WARM_UP_TOLERANCE * max(rate, following):
            return index
    return None


def little(rows_per_second: float, batch_rows: float, round_trip_s: float) -> float:
    """Return the requests in flight by Little's law: those a second × the seconds of each.

    Measured otherwise they must be the same within `LITTLE_TOLERANCE`; fewer than were allowed
    means that the client did not keep up.
    """
    return rows_per_second / batch_rows * round_trip_s


@dataclass(frozen=True, slots=True)
class Fit:
    """What executing a batch takes: ``a_ms + b_ms_per_row · rows`` milliseconds.

    Attributes:
        a_ms: whatever its size.
        b_ms_per_row: more for every row.
        r2: share of the variance between sizes that this explains (1: all).
        sizes: how many different sizes it rests on.
    """

    a_ms: float
    b_ms_per_row: float
    r2: float
    sizes: int

    def batch_ms(self, rows: float) -> float:
        """Return the milliseconds of a batch."""
        return self.a_ms + self.b_ms_per_row * rows

    def rows_per_second(self, rows: float) -> float:
        """Return the rate of one instance that executes batches of ``rows`` without a pause."""
        return rows / self.batch_ms(rows) * 1e3 if self.batch_ms(rows) > 0 else math.inf


def fit_batches(means: Sequence[tuple[int, float]]) -> Fit | None:
    """Return the line through what batches took; None if they had fewer than two sizes.

    What disturbs a batch makes it longer, never shorter. So each size counts with the low end of
    its means (`LOW_SHARE`), one a trial, rather than with all of them. Errors count by their share
    of the time, so that small batches decide the base as much as large ones decide the slope.
    Neither number is negative.

    Args:
        means: (rows of a batch, mean milliseconds of those in one trial).
    """
    sizes = sorted({rows for rows, _ in means})
    if len(sizes) < 2:
        return None
    rows = np.array(sizes, dtype=np.float64)
    took = np.array(
        [np.quantile([ms for n, ms in means if n == size], LOW_SHARE) for size in sizes]
    )
    weights = 1 / np.maximum(took, 1e-9) ** 2
    mean_rows, mean_ms = np.average(rows, weights=weights), np.average(took, weights=weights)
    spread = np.average((rows - mean_rows) ** 2, weights=weights)
    slope = max(np.average((rows - mean_rows) * (took - mean_ms), weights=weights) / spread, 0.0)
    base = mean_ms - slope * mean_rows
    if base < 0:
        base, slope = (
            0.0,
            np.average(took * rows, weights=weights) / np.average(rows**2, weights=weights),
        )
    residual = float(((took - base - slope * rows) ** 2).sum())
    total = float(((took - took.mean()) ** 2).sum())
    r2 = 1 - residual / total if total > 0 else 0.0
    return Fit(float(base), float(slope), r2, len(sizes))
