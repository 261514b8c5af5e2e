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

    Attributes:
        is_unused: whether nothing was ever handed over.
    """

    def __init__(self, work: Work, ready: Ready) -> None:
        self._work = work
        self._ready = ready
        self._cutter = Cutter(ready.segment_rows)
        self._caller = object()
        self._bytes = 0
        self._waiting: deque[tuple[Future[pa.RecordBatch], int]] = deque()
        self.is_unused = True

    def add(self, rows: pa.RecordBatch) -> Iterator[Future[pa.RecordBatch]]:
        """Hand over rows; yield what is to be waited for before more is handed over."""
        for pieces in self._cutter.add(rows):
            self._put(pieces)
            yield from self._due()
        yield from self._due()

    def rest(self) -> Iterator[Future[pa.RecordBatch]]:
        """Hand over what is left of the rows; yield all that is to be waited for."""
        for pieces in self._cutter.rest():
            self._put(pieces)
        while self._waiting:
            yield self._take()

    def put(self, rows: Iterable[pa.RecordBatch]) -> None:
        """Hand over rows, however many, of which nothing is waited for before all are."""
        for each in rows:
            for pieces in self._cutter.add(each):
                self._put(pieces)

    def drop(self) -> None:
        """Give up what nobody waits for."""
        for future, _ in self._waiting:
            future.cancel()

    def _put(self, pieces: Sequence[pa.RecordBatch]) -> None:
        rows = pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
        size = self._ready.size_bytes(rows)
        self._waiting.append((self._work.submit(rows, self._caller), size))
        self._bytes += size
        self.is_unused = False

    def _due(self) -> Iterator[Future[pa.RecordBatch]]:
        while self._waiting and (self._waiting[0][0].done() or self._bytes > self._ready.bytes_max):
            yield self._take()

    def _take(self) -> Future[pa.RecordBatch]:
        future, size = self._waiting.popleft()
        self._bytes -= size
        return future


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
    ahead = Ahead(work, ready)
    try:
        for batch in batches:
            for future in ahead.add(conformed(batch, schema)):
                yield future.result()
        for future in ahead.rest():
            yield future.result()
        if ahead.is_unused:
            yield empty(ready)
    finally:
        ahead.drop()


def empty(ready: Ready) -> pa.RecordBatch:
    """Return no scored rows, with their columns."""
    return pa.RecordBatch.from_pylist([], ready.schema)
