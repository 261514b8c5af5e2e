"""Segments and batches cover the input exactly once, in order."""

from hypothesis import given
from hypothesis import strategies as st

from tritonbulk.segments import Batch, Segment, plan_batches, plan_segments

FILES = st.lists(st.integers(0, 200), max_size=6)


@given(FILES, st.integers(1, 70))
def test_segments_cover_every_row_once_in_order(file_rows, segment_rows):
    segments = list(plan_segments(file_rows, segment_rows))
    covered = [(s.file_index, s.row_begin + row) for s in segments for row in range(s.rows)]
    assert covered == [(file, row) for file, rows in enumerate(file_rows) for row in range(rows)]
    assert [s.index for s in segments] == list(range(len(segments)))
    assert all(1 <= s.rows <= segment_rows for s in segments)


@given(FILES, st.integers(1, 70), st.integers(1, 400))
def test_a_limit_keeps_the_first_rows(file_rows, segment_rows, limit):
    segments = list(plan_segments(file_rows, segment_rows, limit))
    assert sum(s.rows for s in segments) == min(limit, sum(file_rows))
    whole = list(plan_segments(file_rows, segment_rows))
    assert segments[:-1] == whole[: len(segments) - 1]
    if segments:
        last, same = segments[-1], whole[len(segments) - 1]
        assert (last.file_index, last.row_begin) == (same.file_index, same.row_begin)


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
