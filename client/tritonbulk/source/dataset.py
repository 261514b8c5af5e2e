"""The data set: files of one schema, read as one sequence of segments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.errors import InputError, SourceError
from tritonbulk.options import Format
from tritonbulk.segments import Block, Gap, Segment, cut, head
from tritonbulk.source.columns import matching, row_bytes
from tritonbulk.source.formats import READERS
from tritonbulk.source.locate import locate
from tritonbulk.source.partitions import key_schema, key_value
from tritonbulk.source.reader import Description, Glance, InputFile, reading
from tritonbulk.source.unify import check_names, unify
from tritonbulk.source.untrusted import Untrusted
from tritonbulk.source.where import Filter, make_filter


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows of a file, from ``begin`` to before ``end``; None is the file's end."""

    begin: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Source:
    """Input files with one common schema.

    Attributes:
        files: in output order.
        schema: the columns that are offered, partition keys last.
        file_rows: rows of each file; None where only reading tells (CSV, JSON Lines, streams).
        filter: which rows are wanted; None for all.
        read_schema: ``schema`` and what the filter looks at besides.
        value_bytes: mean bytes a value of columns without a fixed width, as far as known.
        untrusted: what reads the files of strangers; None reads them here.
    """

    files: tuple[InputFile, ...]
    schema: pa.Schema
    file_rows: tuple[int | None, ...]
    filter: Filter | None
    read_schema: pa.Schema
    value_bytes: Mapping[str, float]
    untrusted: Untrusted | None = None

    @property
    def name(self) -> str:
        """What errors call the whole."""
        others = len(self.files) - 1
        return self.files[0].name + (f" (and {others} more)" if others else "")

    @property
    def rows(self) -> int | None:
        """Rows in all files, before the filter; None if a file does not tell."""
        known = [rows for rows in self.file_rows if rows is not None]
        return sum(known) if len(known) == len(self.file_rows) else None

    def row_bytes(self, columns: Sequence[str]) -> int:
        """Return the bytes in memory of one row of ``columns`` and what the filter looks at."""
        return row_bytes(self._wanted(columns), self.value_bytes)

    def read(
        self,
        segment_rows: int,
        columns: Sequence[str],
        limit_rows: int | None = None,
        done: Container[int] = (),
        passing: Callable[[], None] = lambda: None,
        ended: Callable[[int, int], None] = lambda *_: None,
    ) -> Iterator[tuple[Segment, pa.RecordBatch]]:
        """Yield every segment with those of its rows that the filter keeps, in order.

        Args:
            segment_rows: unfiltered rows of every segment of a file but its last.
            columns: what the rows hold.
            limit_rows: read only the first so many rows, unfiltered; None reads all.
            done: numbers of segments that are left out. Where the rows of a file are known, what
                stands before its first and after its last missing segment is not read.
            passing: called for each segment that was read only to be left out; may raise.
            ended: called with a file's position and how many of its rows count, once nothing of it
                is left to read, also if nothing was, and before anything of the next one is given
                out; may raise.

        Raises:
            InputError: a file is not what it claims to be; a retry does not help.
            SourceError: reading failed, or a file has changed since it was opened.
        """
        first, left = 0, limit_rows
        for file_index, file in enumerate(self.files):
            run = self._missing(file_index, segment_rows, left, first, done)
            row_begin = run.begin
            index = first + row_begin // segment_rows
            with reading(file):
                blocks = self._blocks(file_index, columns, segment_rows, run)
                for pieces in cut(blocks, segment_rows):
                    rows = sum(map(len, pieces))
                    if index in done:
                        passing()
                    else:
                        kept = self._kept(pieces, columns)
                        removed = rows - len(kept)
                        yield Segment(index, file_index, row_begin, len(kept), removed), kept
                    index += 1
                    row_begin += rows
            row_end = self._check_rows(file_index, row_begin, run, left)
            ended(file_index, row_end)
            first += -(-row_end // segment_rows)
            left = None if left is None else left - row_end
            if left == 0:
                return

    def _missing(
        self,
        file_index: int,
        segment_rows: int,
        limit_rows: int | None,
        first: int,
        done: Container[int],
    ) -> _Run:
        """Return the rows from the first to the last segment of a file that is not done.

        Args:
            file_index: of the file.
            segment_rows: rows of a segment.
            limit_rows: only the first so many rows count; None for all.
            first: number of the file's first segment.
            done: numbers of segments that are left out.
        """
        rows = self.file_rows[file_index]
        if rows is None:
            return _Run(0, limit_rows)
        counted = rows if limit_rows is None else min(rows, limit_rows)
        begins = range(0, counted, segment_rows)
        missing = [begin for index, begin in enumerate(begins, first) if index not in done]
        if not missing and counted:
            return _Run(counted, counted)
        begin, end = (missing[0], min(missing[-1] + segment_rows, counted)) if missing else (0, 0)
        # To its end a file is read without a bound: that it has grown shows only so.
        return _Run(begin, None if end == rows else end)

    def _wanted(self, columns: Sequence[str]) -> pa.Schema:
        """Return the fields of ``columns`` and of the filter's."""
        looked_at = () if self.filter is None else self.filter.columns
        names = dict.fromkeys((*columns, *looked_at))
        return pa.schema([self.read_schema.field(name) for name in names])

    def _blocks(
        self, file_index: int, columns: Sequence[str], block_rows: int, run: _Run
    ) -> Iterator[Block]:
        """Yield a run of rows of a file in blocks of the common types."""
        if run.end == run.begin:
            return
        file, wanted = self.files[file_index], self._wanted(columns)
        keys = dict(file.keys)
        own = [field for field in wanted if field.name not in keys]
        # Where keys are all that is wanted, some column must tell how many rows there are.
        own = own or [field for field in self.read_schema if field.name not in keys][:1]
        rows = None if run.end is None else run.end - run.begin
        block_rows = block_rows if rows is None else min(block_rows, rows)
        glance = self._glance(keys, len(own), rows)
        reader = self.untrusted or READERS[file.format]
        blocks = reader.read(file, pa.schema(own), block_rows, glance, run.begin)
        for block in head(blocks, rows):
            yield block if isinstance(block, Gap) else _conformed(block, wanted, keys)

    def _glance(
        self, keys: Mapping[str, str | None], columns: int, rows_max: int | None
    ) -> Glance | None:
        """Return the look that spares reading, None if it would read all of the ``columns``."""
        if self.filter is None:
            return None
        expression = self.filter.expression
        looked_at = pa.schema([self.read_schema.field(name) for name in self.filter.columns])
        own = tuple(name for name in looked_at.names if name not in keys)
        if len(own) == columns:
            return None
        return Glance(
            own,
            lambda block: len(_conformed(block, looked_at, keys).filter(expression)) > 0,
            rows_max,
        )

    def _kept(self, pieces: Sequence[Block], columns: Sequence[str]) -> pa.RecordBatch:
        """Return the rows of a segment's pieces that the filter keeps, as one batch."""
        batches = [piece for piece in pieces if not isinstance(piece, Gap)]
        if self.filter is not None:
            expression = self.filter.expression
            batches = [rows.filter(expression).select(list(columns)) for rows in batches]
        if not batches:
            return pa.RecordBatch.from_pylist([], pa.schema(map(self.read_schema.field, columns)))
        return batches[0] if len(batches) == 1 else pa.concat_batches(batches)

    def _check_rows(self, file_index: int, row_end: int, run: _Run, limit_rows: int | None) -> int:
        """Return how many rows of a file count, checked against what it had when the run began.

        Args:
            file_index: of the file.
            row_end: where reading ended.
            run: the rows that were asked for.
            limit_rows: only the first so many rows count; None for all.
        """
        expected = self.file_rows[file_index]
        if expected is None:
            return row_end
        wanted = expected if run.end is None else run.end
        if row_end != wanted:
            raise SourceError(
                f"{self.files[file_index].name} ends at row {row_end}, but had "
                f"{'more' if row_end < wanted else 'fewer'} rows when the run began; do not change "
                "inputs while they are scored"
            )
        return expected if limit_rows is None else min(expected, limit_rows)


def open_source(
    inputs: Sequence[str],
    input_format: Format | None = None,
    columns: Sequence[str] | None = None,
    where: str | pc.Expression | None = None,
    leave_out: Sequence[str | Path] = (),
    *,
    is_untrusted: bool = False,
) -> Source:
    """Return the source made of ``inputs``: files, folders, patterns or URIs of these.

    Args:
        inputs: in output order.
        input_format: of all files; None tells it by their extensions.
        columns: names or patterns to restrict the source to; None offers all.
        where: keeps the rows where it is true: a filter's text, or a pyarrow expression.
        leave_out: what is written; see `locate`.
        is_untrusted: read the files in a process with limits; see `source.untrusted`.

    Raises:
        InputError: a file is missing, unreadable or of a schema that does not fit; no retry.
        OptionError: the filter is not understood; a retry does not help.
        PlatformError: a URI needs a package that is not installed.
    """
    files = locate(inputs, input_format, leave_out)
    untrusted = Untrusted() if is_untrusted else None
    described = _describe(files, untrusted)
    keys = key_schema([(file.name, file.keys) for file in files])
    typical = next((each for each in described if each.rows != 0), described[0])
    whole = pa.schema([*typical.schema, *keys])
    offered = whole.names if columns is None else matching(columns, whole.names, "--columns")
    looked_at = () if where is None else make_filter(where, whole).columns
    # Without a choice every column of every file counts, so that none is lost unnoticed.
    names = None if columns is None else {*offered, *looked_at}
    common = _restricted(described[0].schema, names)
    value_bytes: dict[str, float] = {}
    for file, each in zip(files, described, strict=True):
        common = unify(common, files[0].name, _restricted(each.schema, names), file.name)
        for name, size in each.value_bytes.items():
            value_bytes[name] = max(size, value_bytes.get(name, 0.0))
    common = pa.schema([*common, *_restricted(keys, names)])
    return Source(
        files=files,
        schema=pa.schema([common.field(name) for name in offered]),
        file_rows=tuple(each.rows for each in described),
        filter=None if where is None else make_filter(where, common),
        read_schema=common,
        value_bytes=value_bytes,
        untrusted=untrusted,
    )


def _describe(files: Sequence[InputFile], untrusted: Untrusted | None) -> list[Description]:
    """Return a description of every file, its names checked."""
    found: list[Description] = []
    like: pa.Schema | None = None
    for file in files:
        each = (untrusted or READERS[file.format]).describe(file, like)
        check_names(each.schema, file.name)
        for key, _ in file.keys:
            if key in each.schema.names:
                raise InputError(
                    f"{file.name} has column {key!r} and stands in a folder {key}=…; rename one"
                )
        if found and each.schema.equals(found[-1].schema):
            # Thousands of files share one schema object.
            each = replace(each, schema=found[-1].schema)
        found.append(each)
        if like is None and each.rows != 0:
            like = each.schema
    return found


def _restricted(schema: pa.Schema, names: Collection[str] | None) -> pa.Schema:
    return pa.schema([field for field in schema if names is None or field.name in names])


def _conformed(
    block: pa.RecordBatch, wanted: pa.Schema, keys: Mapping[str, str | None]
) -> pa.RecordBatch:
    """Return a block with exactly the fields of ``wanted``, partition keys among them."""
    columns = []
    for field in wanted:
        if field.name in keys:
            column = pa.repeat(key_value(keys[field.name], field.type), len(block))
        else:
            column = block.column(field.name)
            if not column.type.equals(field.type):
                column = column.cast(field.type)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=wanted)
