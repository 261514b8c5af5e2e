"""Figures of parity hold for every comparison, however it is cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tritonbulk_export.parity.figures import STEPS_A_DOUBLING, Figures, Quantiles
from tritonbulk_export.parity.ranking import auc, ranks, spearman

ERRORS = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-30, 1e30), st.just(np.inf)), min_size=1, max_size=200
)
VALUES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.integers(1, 3)),
    elements=st.floats(-100, 100, width=32),
)


@given(ERRORS, st.floats(0.01, 1.0))
def test_a_quantile_is_an_upper_bound_within_one_bin(errors, share):
    quantiles = Quantiles()
    quantiles.add(np.array(errors))
    needed = sorted(errors)[int(np.ceil(share * len(errors))) - 1]
    bound = quantiles.bound(share)
    assert bound >= needed * (1 - 1e-9)
    assert bound <= needed * 2 ** (1 / STEPS_A_DOUBLING) * (1 + 1e-9)


@given(VALUES, st.data())
def test_chunks_do_not_change_the_figures(reference, data):
    noise = data.draw(
        arrays.arrays(np.float32, reference.shape, elements=st.floats(-1, 1, width=32))
    )
    cut = data.draw(st.integers(0, len(reference)))
    found = reference + noise
    allowed = np.full(reference.shape, 0.5)
    whole, parts = Figures(1e-5), Figures(1e-5)
    whole.add_numbers(found, reference, allowed)
    for part in (slice(0, cut), slice(cut, None)):
        parts.add_numbers(found[part], reference[part], allowed[part])
    left, right = whole.done(), parts.done()
    assert left.max_abs == right.max_abs
    assert left.exceeding == right.exceeding
    assert left.p999_abs == right.p999_abs
    assert left.mean_abs == pytest.approx(right.mean_abs)
    assert left.cosine == pytest.approx(right.cosine)
    off = np.abs(found.astype(np.float64) - reference.astype(np.float64))
    assert left.max_abs == off.max()
    assert left.mean_abs == pytest.approx(off.mean())
    assert left.exceeding == (off > 0.5).mean()
    assert left.mean_abs <= left.max_abs * (1 + 1e-12)
    assert left.p999_abs <= left.max_abs


@given(VALUES, st.floats(1.5, 10))
def test_the_cosine_sees_a_turn_and_not_a_scale(reference, factor):
    assume(np.abs(reference).max() > 1e-3)
    figures = Figures(1e-5)
    figures.add_numbers(reference.astype(np.float64) * factor, reference, np.zeros(reference.shape))
    assert figures.done().cosine == pytest.approx(1.0)
    turned = Figures(1e-5)
    turned.add_numbers(-reference, reference, np.zeros(reference.shape))
    assert turned.done().cosine == pytest.approx(-1.0)


@given(VALUES, st.data())
def test_a_nan_on_one_side_is_counted_wherever_it_is(reference, data):
    found = reference.copy()
    spot = data.draw(st.integers(0, reference.size - 1))
    found.ravel()[spot] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    figures = Figures(1e-5)
    figures.add_numbers(found, reference, np.full(reference.shape, 1e9))
    assert figures.done().nan_differs == 1
    assert figures.done().exceeding == 1 / reference.size
    same = Figures(1e-5)
    same.add_numbers(found, found.copy(), np.zeros(reference.shape))
    assert (same.done().nan_differs, same.done().max_abs) == (0, 0.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    scores = np.array([float(score) for score, _ in rows])
    positives = np.array([positive for _, positive in rows])
    pairs = [(p, n) for p in scores[positives] for n in scores[~positives]]
    expected = np.mean([(p > n) + (p == n) / 2 for p, n in pairs]) if pairs else 0.5
    assert auc(scores, positives) == pytest.approx(expected)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_ranks_sum_to_that_of_different_values_and_ties_share(values):
    found = ranks(np.array(values, dtype=np.float64))
    assert found.sum() == pytest.approx(len(values) * (len(values) + 1) / 2)
    for value in set(values):
        assert len({r for r, v in zip(found, values, strict=True) if v == value}) == 1


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30, unique=True))
def test_spearman_is_one_for_any_growing_function(values):
    numbers = np.array(values)
    assume(len(set(np.exp(numbers))) == len(values))
    assert spearman(numbers, np.exp(numbers)) == pytest.approx(1.0)
    assert spearman(numbers, -np.exp(numbers)) == pytest.approx(-1.0)
