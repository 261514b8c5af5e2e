"""Flow: in which order batches go to a scorer at work and come back; how far it reads ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future

import pyarrow as pa

from tritonbulk.errors import InputError
from tritonbulk.scorer.work import Ready, Work
from tritonbulk.segments import Cutter


class Ahead:
    """What was handed over and not taken back, oldest first.

    Args:
        work: scores it.
        ready: what is known of it.
    """

    def __init__(self, work: Work, ready: Ready) -> None:
        self._work = work
        self._ready = ready
        self._bytes = 0
        self._waiting: deque[tuple[Future[pa.RecordBatch], int]] = deque()

    def __len__(self) -> int:
        """Return how many batches there are."""
        return len(self._waiting)

    def put(self, pieces: Sequence[pa.RecordBatch]) -> None:
        """Hand over rows that are scored together."""
        rows = pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
        size = self._ready.size_bytes(rows)
        self._waiting.append((self._work.submit(rows), size))
        self._bytes += size

    @property
    def is_due(self) -> bool:
        """Whether the oldest is to be taken back before more is handed over."""
        return bool(self._waiting) and (
            self._waiting[0][0].done() or self._bytes > self._ready.bytes_max
        )

    def take(self) -> Future[pa.RecordBatch]:
        """Return the oldest."""
        future, size = self._waiting.popleft()
        self._bytes -= size
        return future

    def drop(self) -> None:
        """Give up what nobody waits for."""
        for future, _ in self._waiting:
            future.cancel()


def bare(schema: pa.Schema) -> pa.Schema:
    """Return a schema without metadata, which speaks of the program that made it."""
    return pa.schema([field.remove_metadata() for field in schema])


def conformed(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows with the columns of ``schema``, in its order and types.

    Raises:
        InputError: a column is missing, or its values do not fit; a retry does not help.
    """
    if rows.schema.equals(schema):
        return rows
    columns = []
    for field in schema:
        if rows.schema.get_field_index(field.name) < 0:
            raise InputError(
                f"a batch has no column {field.name!r}, which the first one has; give all batches "
                "the same columns"
            )
        column = rows.column(field.name)
        try:
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"column {field.name!r} of a batch is {column.type}, and that of the first one "
                f"{field.type} ({str(error).splitlines()[0]}); cast it before"
            ) from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def flow(
    work: Work, ready: Ready, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of ``batches`` scored, in order; read ahead only as far as bytes allow."""
    ahead, cutter = Ahead(work, ready), Cutter(ready.segment_rows)
    is_empty = True
    try:
        for batch in batches:
            for pieces in cutter.add(conformed(batch, schema)):
                ahead.put(pieces)
                while ahead.is_due:
                    is_empty = False
                    yield ahead.take().result()
        for pieces in cutter.rest():
            ahead.put(pieces)
        while ahead:
            is_empty = False
            yield ahead.take().result()
        if is_empty:
            yield empty(ready)
    finally:
        ahead.drop()


def empty(ready: Ready) -> pa.RecordBatch:
    """Return no scored rows, with their columns."""
    return pa.RecordBatch.from_pylist([], ready.schema)
