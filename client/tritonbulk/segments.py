"""Segments and batches: how input rows are cut. Pure functions of the input, never of timing.

A segment is a run of rows of one input file and makes one part; a batch is a run of rows of one
segment and makes one request. The same input and options therefore always give the same requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of rows of one input file.

    Attributes:
        index: position in the output, from 0; the part's number.
        file_index: position of the file in the source.
        row_begin: first row, counted from 0 within the file, filter or not.
        rows: how many rows are to be scored; 0 if a filter removed all.
        rows_filtered: how many more rows of the file it stands for, removed by the filter.
    """

    index: int
    file_index: int
    row_begin: int
    rows: int
    rows_filtered: int = 0

    @property
    def row_end(self) -> int:
        """The row after its last, counted as ``row_begin`` is."""
        return self.row_begin + self.rows + self.rows_filtered


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


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of rows that no filter keeps and that were therefore not read; counts like a block."""

    rows: int

    def __len__(self) -> int:
        """Return how many rows it stands for."""
        return self.rows

    def slice(self, begin: int, rows: int | None = None) -> Gap:
        """Return a part of it, as `pa.RecordBatch.slice` does."""
        left = self.rows - begin
        return Gap(left if rows is None else min(rows, left))


Block: TypeAlias = pa.RecordBatch | Gap
_Rows = TypeVar("_Rows", pa.RecordBatch, Gap, Block)


def head(blocks: Iterable[_Rows], rows: int | None) -> Iterator[_Rows]:
    """Yield the first ``rows`` rows of ``blocks``, of which no more are taken than that needs.

    None stands for all rows.
    """
    if rows is None:
        yield from blocks
        return
    for block in blocks:
        yield block.slice(0, rows)
        rows -= min(len(block), rows)
        if not rows:
            return


class Cutter:
    """Cuts rows into runs of ``segment_rows``, however they come; a run is its pieces in order.

    A piece is a view of one block. How the rows are spread over blocks changes nothing but the
    pieces.
    """

    def __init__(self, segment_rows: int) -> None:
        self._segment_rows = segment_rows
        self._ready: list[Block] = []
        self._have = 0

    def add(self, block: Block) -> Iterator[list[Block]]:
        """Take on the next rows; yield every run that they complete."""
        taken = 0
        while self._have + len(block) - taken >= self._segment_rows:
            self._ready.append(block.slice(taken, self._segment_rows - self._have))
            taken += self._segment_rows - self._have
            yield self._ready
            self._ready, self._have = [], 0
        if taken < len(block):
            self._ready.append(block.slice(taken))
            self._have += len(block) - taken

    def rest(self) -> Iterator[list[Block]]:
        """Yield the last run, as long as what is left, if anything is."""
        if self._ready:
            yield self._ready


def cut(blocks: Iterable[Block], segment_rows: int) -> Iterator[list[Block]]:
    """Yield the rows of a file as runs of ``segment_rows``; see `Cutter`."""
    cutter = Cutter(segment_rows)
    for block in blocks:
        yield from cutter.add(block)
    yield from cutter.rest()


def plan_batches(segment: Segment, batch_rows: int) -> tuple[Batch, ...]:
    """Return the batches of a segment: ``batch_rows`` rows each but the last."""
    return tuple(
        Batch(segment.index, begin, min(batch_rows, segment.rows - begin))
        for begin in range(0, segment.rows, batch_rows)
    )
