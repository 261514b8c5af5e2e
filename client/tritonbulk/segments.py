"""Segments and batches: how input rows are cut. Pure functions of the input, never of timing.

A segment is a run of rows of one input file and makes one part; a batch is a run of rows of one
segment and makes one request. The same input and options therefore always give the same requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of rows of one input file.

    Attributes:
        index: position in the output, from 0; the part's number.
        file_index: position of the file in the source.
        row_begin: first row, counted from 0 within the file.
        rows: how many rows, at least 1.
    """

    index: int
    file_index: int
    row_begin: int
    rows: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of rows of one segment.

    Attributes:
        segment: index of the segment.
        row_begin: first row, counted from 0 within the segment.
        rows: how many rows, at least 1.
    """

    segment: int
    row_begin: int
    rows: int

    def halves(self) -> tuple[Batch, Batch]:
        """Return the batch cut in two; it must have at least two rows."""
        first = self.rows // 2
        return (
            Batch(self.segment, self.row_begin, first),
            Batch(self.segment, self.row_begin + first, self.rows - first),
        )


def plan_segments(
    file_rows: Sequence[int], segment_rows: int, limit_rows: int | None = None
) -> Iterator[Segment]:
    """Yield the segments of files with ``file_rows`` rows each, in order.

    Every segment of a file has ``segment_rows`` rows but its last; files without rows have none.
    """
    left = sum(file_rows) if limit_rows is None else min(limit_rows, sum(file_rows))
    index = 0
    for file_index, rows in enumerate(file_rows):
        for row_begin in range(0, min(rows, left), segment_rows):
            yield Segment(
                index, file_index, row_begin, min(segment_rows, min(rows, left) - row_begin)
            )
            index += 1
        left -= min(rows, left)


def plan_batches(segment: Segment, batch_rows: int) -> tuple[Batch, ...]:
    """Return the batches of a segment: ``batch_rows`` rows each but the last."""
    return tuple(
        Batch(segment.index, begin, min(batch_rows, segment.rows - begin))
        for begin in range(0, segment.rows, batch_rows)
    )
