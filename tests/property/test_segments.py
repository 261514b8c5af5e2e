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
from tritonbulk.segments import Batch, Gap, Segment, cut, head, plan_batches

BLOCKS = st.lists(st.integers(0, 50), max_size=12)


def blocks_of(sizes):
    """Blocks of these sizes whose rows are numbered through."""
    begin = 0
    for size in sizes:
        yield pa.record_batch({"row": pa.array(range(begin, begin + size), pa.int64())})
        begin += size


def rows_of(blocks):
    return [block.column("row").to_pylist() for block in blocks]


def all_rows(blocks):
    return [row for rows in rows_of(blocks) for row in rows]


@given(BLOCKS, st.integers(1, 70))
def test_a_cut_depends_on_rows_alone_not_on_blocks(sizes, segment_rows):
    rows = list(range(sum(sizes)))
    expected = [rows[at : at + segment_rows] for at in range(0, len(rows), segment_rows)]
    runs = [all_rows(pieces) for pieces in cut(blocks_of(sizes), segment_rows)]
    assert runs == expected


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=12), st.integers(1, 70))
def test_rows_that_were_not_read_count_like_others(layout, segment_rows):
    sizes = [size for size, _ in layout]
    blocks = [
        block if is_read else Gap(len(block))
        for block, (_, is_read) in zip(blocks_of(sizes), layout, strict=True)
    ]
    read = all_rows(block for block in blocks if not isinstance(block, Gap))
    runs = list(cut(blocks, segment_rows))
    lengths = [sum(map(len, pieces)) for pieces in runs]
    assert lengths[:-1] == [segment_rows] * len(lengths[:-1])
    assert sum(lengths) == sum(sizes)
    kept = [piece for pieces in runs for piece in pieces if not isinstance(piece, Gap)]
    assert all_rows(kept) == read


@given(BLOCKS, st.integers(1, 400))
def test_the_head_is_the_first_rows(sizes, limit):
    assert all_rows(head(blocks_of(sizes), limit)) == list(range(min(limit, sum(sizes))))


def test_the_head_takes_no_block_that_it_does_not_need():
    blocks = blocks_of([5, 5, 5])
    assert rows_of(head(blocks, 10)) == [list(range(5)), list(range(5, 10))]
    assert len(next(blocks)) == 5


def test_a_run_within_one_block_is_a_view_of_it():
    (block,) = blocks_of([10])
    address = block.column("row").buffers()[1].address
    runs = list(cut([block], 4))
    assert [run[0].column("row").buffers()[1].address for run in runs] == [address] * 3


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
