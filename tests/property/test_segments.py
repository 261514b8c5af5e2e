"""Segments and batches cover the input exactly once, in order."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tritonbulk.dispatch.limits import (
    SEGMENT_BYTES_MAX,
    SEGMENTS_BYTES_MAX,
    SEGMENTS_OPEN_MAX,
    may_open,
    segment_rows_auto,
)
from tritonbulk.options import SEGMENT_ROWS
from tritonbulk.segments import Batch, Segment, cut, head, plan_batches

BLOCKS = st.lists(st.integers(0, 50), max_size=12)


def blocks_of(sizes):
    """Blocks of these sizes whose rows are numbered through."""
    begin = 0
    for size in sizes:
        yield pa.record_batch({"row": pa.array(range(begin, begin + size), pa.int64())})
        begin += size


def rows_of(runs):
    return [run.column("row").to_pylist() for run in runs]


@given(BLOCKS, st.integers(1, 70))
def test_a_cut_depends_on_rows_alone_not_on_blocks(sizes, segment_rows):
    rows = list(range(sum(sizes)))
    expected = [rows[at : at + segment_rows] for at in range(0, len(rows), segment_rows)]
    assert rows_of(cut(blocks_of(sizes), segment_rows)) == expected


@given(BLOCKS, st.integers(1, 400))
def test_the_head_is_the_first_rows(sizes, limit):
    rows = [row for run in rows_of(head(blocks_of(sizes), limit)) for row in run]
    assert rows == list(range(min(limit, sum(sizes))))


def test_the_head_takes_no_block_that_it_does_not_need():
    blocks = blocks_of([5, 5, 5])
    assert rows_of(head(blocks, 10)) == [list(range(5)), list(range(5, 10))]
    assert len(next(blocks)) == 5


def test_a_run_within_one_block_is_a_view_of_it():
    (block,) = blocks_of([10])
    address = block.column("row").buffers()[1].address
    assert [run.column("row").buffers()[1].address for run in cut([block], 4)] == [address] * 3


@given(st.integers(1, 10**9))
def test_segments_of_wide_rows_are_short_but_never_empty(row_bytes):
    rows = segment_rows_auto(row_bytes)
    assert 1 <= rows <= SEGMENT_ROWS
    assert rows == 1 or rows * row_bytes <= SEGMENT_BYTES_MAX
    assert rows == SEGMENT_ROWS or 2 * rows * row_bytes > SEGMENT_BYTES_MAX
    assert rows & (rows - 1) == 0


@given(st.lists(st.integers(0, 2 * SEGMENT_BYTES_MAX), max_size=6))
def test_what_is_open_stays_within_its_bounds_and_never_stops(sizes):
    opened = []
    for size in sizes:
        if may_open(opened, SEGMENTS_BYTES_MAX, is_hungry=False):
            opened.append(size)
        assert len(opened) <= SEGMENTS_OPEN_MAX
    assert may_open([], SEGMENTS_BYTES_MAX, is_hungry=False)
    for is_hungry in (False, True):
        assert not may_open([SEGMENTS_BYTES_MAX // 2 + 1], SEGMENTS_BYTES_MAX, is_hungry=is_hungry)
    assert may_open([1] * SEGMENTS_OPEN_MAX, SEGMENTS_BYTES_MAX, is_hungry=True)
    assert not may_open([1] * SEGMENTS_OPEN_MAX, SEGMENTS_BYTES_MAX, is_hungry=False)


@given(st.integers(1, 300), st.integers(1, 80))
def test_batches_cover_a_segment_once_in_order(rows, batch_rows):
    batches = plan_batches(Segment(3, 0, 50, rows), batch_rows)
    assert [row for b in batches for row in range(b.row_begin, b.row_begin + b.rows)] == list(
        range(rows)
    )
    assert all(b.segment == 3 and b.rows <= batch_rows for b in batches)


@given(st.integers(2, 500), st.integers(0, 9))
def test_halves_are_the_batch_cut_in_two(rows, begin):
    first, second = Batch(1, begin, rows).halves()
    assert first.row_begin == begin
    assert second.row_begin == begin + first.rows
    assert first.rows + second.rows == rows
    assert min(first.rows, second.rows) >= 1
