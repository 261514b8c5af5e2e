"""Statistics of sweeps: what holds for any numbers."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonbulk.bench.statistics import (
    fit_batches,
    little,
    median_interval,
    paired_ratio,
    steady_rate,
    student_quantile,
    warm_up_windows,
)

RATES = st.lists(st.floats(1.0, 1e7), min_size=1, max_size=20)


@given(RATES, st.integers(0, 9))
def test_a_median_lies_in_its_interval_and_that_within_the_sample(sample, seed):
    found = median_interval(sample, seed)
    assert min(sample) <= found.low <= found.value <= found.high <= max(sample)
    assert found == median_interval(sample, seed)


@given(RATES, st.floats(0.1, 10.0))
def test_an_interval_scales_with_its_sample(sample, factor):
    one, other = median_interval(sample), median_interval([factor * each for each in sample])
    for name in ("low", "value", "high"):
        assert getattr(other, name) == pytest.approx(factor * getattr(one, name))


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    generator = random.Random(1)
    covered = sum(
        not median_interval([generator.gauss(10, 1) for _ in range(15)], seed).excludes(10)
        for seed in range(400)
    )
    assert 0.90 <= covered / 400 <= 0.995


def test_student_quantiles_are_those_of_the_tables():
    tables = {(0.975, 1): 12.7062, (0.975, 4): 2.7764, (0.995, 9): 3.2498, (0.975, 120): 1.9799}
    for (probability, freedom), value in tables.items():
        assert student_quantile(probability, freedom) == pytest.approx(value, abs=1e-4)


PAIRS = st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)), min_size=2, max_size=12)


@given(PAIRS)
def test_a_ratio_the_other_way_round_is_its_inverse(pairs):
    one = paired_ratio(pairs)
    other = paired_ratio([(b, a) for a, b in pairs])
    assert other.value == pytest.approx(1 / one.value)
    if one.low > 1e-100 and one.high < 1e100:
        assert other.low == pytest.approx(1 / one.high)


@given(st.floats(0.5, 2.0), st.floats(1, 1e6), st.integers(2, 9))
def test_a_ratio_without_noise_is_exact(ratio, rate, rounds):
    found = paired_ratio([(ratio * rate * (1 + k), rate * (1 + k)) for k in range(rounds)])
    for each in (found.low, found.value, found.high):
        assert each == pytest.approx(ratio)


def test_ratios_of_few_noisy_pairs_cover_the_truth_as_often_as_they_say():
    generator = random.Random(2)

    def covers() -> bool:
        pairs = [(100 * math.exp(generator.gauss(0, 0.1)), 100.0) for _ in range(3)]
        return not paired_ratio(pairs).excludes(1.0)

    assert 0.92 <= sum(covers() for _ in range(500)) / 500 <= 0.98


def test_one_pair_says_nothing_of_its_spread():
    found = paired_ratio([(3.0, 2.0)])
    assert (found.low, found.high) == (0.0, math.inf)


BASE, SLOPE = st.floats(0.01, 50), st.floats(1e-5, 1.0)


@given(BASE, SLOPE, st.sets(st.integers(1, 8192), min_size=2, max_size=12))
def test_a_line_without_noise_is_found(a, b, sizes):
    fit = fit_batches([(rows, a + b * rows) for rows in sizes])
    scale = a + b * max(sizes)
    assert fit is not None
    for rows in sizes:
        assert fit.batch_ms(rows) == pytest.approx(a + b * rows, rel=1e-6, abs=1e-9 * scale)
    assert fit.r2 == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(BASE, SLOPE, st.integers(0, 99))
def test_disturbances_that_lengthen_some_batches_hardly_move_the_line(a, b, seed):
    generator = np.random.default_rng(seed)
    means = [
        (rows, (a + b * rows) * (1 + (0.5 * generator.exponential() if again % 3 == 0 else 0.0)))
        for rows in (64, 256, 1024, 4096)
        for again in range(6)
    ]
    fit = fit_batches(means)
    assert fit is not None
    assert fit.batch_ms(4096) == pytest.approx(a + b * 4096, rel=0.05)
    assert fit.batch_ms(64) == pytest.approx(a + b * 64, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 9000), st.floats(1e-3, 1e4)), max_size=30))
def test_a_line_is_never_negative_and_takes_two_sizes(means):
    fit = fit_batches(means)
    assert (fit is None) == (len({rows for rows, _ in means}) < 2)
    if fit is not None:
        assert fit.a_ms >= 0
        assert fit.b_ms_per_row >= 0


@given(
    st.integers(1, 4096), st.integers(1, 16), st.floats(0.001, 0.5), st.integers(6, 80),
    st.floats(0, 2),
)  # fmt: skip
def test_a_server_that_executes_batch_after_batch_is_measured_exactly(
    rows, requests, batch_s, batches, late_s
):
    """Each batch answers all of its requests at once, the first one late."""
    answers = [
        (late_s + batch_s * (batch + 1) + 1e-7 * request, (batch * requests + request + 1) * rows)
        for batch in range(batches)
        for request in range(requests)
    ]
    found = steady_rate(answers, drain_rows=rows)
    assert found is not None
    assert found.rows_per_second == pytest.approx(rows * requests / batch_s, rel=1e-4)


def test_a_warm_up_is_found_and_left_out():
    at_s, rows, answers = 0.0, 0, []
    for batch in range(100):
        at_s += 0.5 / (batch + 1) + 0.01  # slow at first
        rows += 10
        answers.append((at_s, rows))
    found = steady_rate(answers)
    assert found is not None
    assert found.is_steady
    assert found.warm_up_s > 1
    assert 10 / 0.03 < found.rows_per_second < 10 / 0.01


@given(st.lists(st.floats(1, 1e6), min_size=2, max_size=12))
def test_a_warm_up_ends_where_two_windows_agree(rates):
    index = warm_up_windows(rates)
    agreeing = [
        number for number, (a, b) in enumerate(pairwise(rates))
        if abs(a - b) <= 0.1 * max(a, b)
    ]  # fmt: skip
    assert index == (agreeing[0] if agreeing else None)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**6)), max_size=30), st.integers(0))
def test_a_rate_is_positive_or_unknown_whatever_the_answers(answers, drain):
    ordered = sorted(zip(sorted(a for a, _ in answers), sorted(b for _, b in answers), strict=True))
    found = steady_rate(ordered, drain)
    if found is not None:
        assert found.rows_per_second >= 0
        assert found.seconds > 0


@given(st.integers(1, 64), st.integers(1, 4096), st.floats(1e-4, 10))
def test_littles_law_gives_the_requests_in_flight(in_flight, batch_rows, round_trip_s):
    rate = in_flight * batch_rows / round_trip_s
    assert little(rate, batch_rows, round_trip_s) == pytest.approx(in_flight)
