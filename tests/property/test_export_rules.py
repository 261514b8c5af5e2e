"""Rules of export that hold for every input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tritonbulk.contract import InputTensor, datatype, row_bytes
from tritonbulk_export.config import default_max_batch_size
from tritonbulk_export.parity.record import rounded_up
from tritonbulk_export.sources.tree_graph import float32_below
from tritonbulk_export.versions import digest_digits, next_version

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
TIMES = st.datetimes(datetime(2024, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))
SHAPES = st.lists(st.integers(-1, 100_000).filter(bool), max_size=3).map(tuple)


@given(st.lists(DIGESTS, min_size=1, max_size=6), TIMES, st.integers(-90, 90))
def test_versions_have_18_digits_grow_and_end_with_the_content(digests, now, step_minutes):
    taken = [1, 7]
    for digest in digests:
        version = next_version(digest, now, taken)
        assert len(str(version)) == 18
        assert version > max(taken)
        assert version % 10**6 == digest_digits(digest)
        assert version < 2**63
        taken.append(version)
        now += timedelta(minutes=step_minutes)


@given(
    st.lists(SHAPES, min_size=1, max_size=4), st.sampled_from(["FP32", "INT64", "BYTES", "BOOL"])
)
def test_the_default_batch_is_a_power_of_two_that_fits_8_mib_or_is_8(shapes, name):
    tensors = [InputTensor(f"x{n}", datatype(name), shape) for n, shape in enumerate(shapes)]
    rows = default_max_batch_size(tensors)
    assert rows.bit_count() == 1
    assert 8 <= rows <= 4096
    assert rows == 8 or rows * row_bytes(tensors) <= 8 << 20
    assert rows == 4096 or 2 * rows * row_bytes(tensors) > 8 << 20


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False))
def test_a_threshold_rounded_down_splits_float32_values_as_the_exact_one_does(threshold, value):
    below = np.float32(float32_below(threshold))
    with np.errstate(over="ignore"):
        above = np.nextafter(below, np.float32(np.inf))
    for tried in (np.float32(value), below, above):
        assert (float(tried) <= threshold) == (tried <= below)


@given(st.floats(1e-30, 1e30))
def test_stored_figures_are_bounds_of_one_digit(value):
    bound = rounded_up(value)
    assert value <= bound * (1 + 1e-12) <= 11 * value
    assert float(f"{bound:.0e}") == bound
