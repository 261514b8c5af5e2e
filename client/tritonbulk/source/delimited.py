"""CSV: one header line, comma-separated, UTF-8; quoted values may hold line ends.

Types are inferred from the first block of the first file that has rows and hold for all. Blocks of
whole rows are cut here, not by Arrow: see `quotes`.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv

from tritonbulk.source.columns import measure
from tritonbulk.source.quotes import rows_end
from tritonbulk.source.reader import Description, Glance, InputFile, Told, opening, reading, skip

BLOCK_BYTES = 2**20
"""Bytes of the longest row, and read at a time; the first block decides the types."""

_LINE_ENDS = b"\r\n"
"""All that makes no row: Arrow passes over empty lines, and blanks are a value of one column."""

_TOO_LONG = f"a row is longer than {BLOCK_BYTES >> 20} MiB, or a quote is never closed"


def describe(file: InputFile, like: pa.Schema | None) -> Description:
    """See `tritonbulk.source.reader.Reader.describe`."""
    if like is not None:
        kinds = dict(zip(like.names, like.types, strict=True))
        with opening(file), file.open_stream() as stream:
            names = _names(stream)
        return Description(pa.schema([(name, kinds.get(name, pa.null())) for name in names]), None)
    with opening(file), file.open_stream() as stream:
        blocks = _Blocks(stream)
        first = next(blocks.read(pacsv.ConvertOptions()))
        # Arrow takes a column that is not UTF-8 for bytes. As text its bad values are found, and
        # named by row, once they are read: a column that nobody wants is not. Asked for inside,
        # since this is where a name that is not UTF-8 is found out.
        schema = pa.schema(
            [
                (name, pa.string() if pa.types.is_binary(kind) else kind)
                for name, kind in zip(first.schema.names, first.schema.types, strict=True)
            ]
        )
    if not len(first):
        return Description(schema, 0)
    return Description(schema, None, measure(first))


def read(
    file: InputFile,
    schema: pa.Schema,
    block_rows: int,  # noqa: ARG001
    glance: Glance | None = None,  # noqa: ARG001
    row_begin: int = 0,
) -> Iterator[pa.RecordBatch]:
    """See `tritonbulk.source.reader.Reader.read`."""
    convert = pacsv.ConvertOptions(include_columns=schema.names, column_types=schema)
    with reading(file), file.open_stream() as stream:
        yield from skip(_Blocks(stream).read(convert), row_begin)


class _Blocks:
    """A stream of rows, parsed in blocks of whole ones.

    Args:
        stream: a file's bytes, decompressed.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._names: list[str] = []
        self._rows = 0

    def read(self, convert: pacsv.ConvertOptions) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order; only the first block may have none, and there is always one.

        Raises:
            pa.ArrowInvalid: names the row and, where it can, the column.
        """
        rest = self._stream.read(BLOCK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip(_LINE_ENDS)
        while True:
            piece = self._stream.read(BLOCK_BYTES)
            end, is_quoted = rows_end(rest)
            if len(rest) - end > BLOCK_BYTES:
                raise Told(_TOO_LONG)
            if not piece:
                break
            if not self._names and not rows_end(rest[:end].rstrip(_LINE_ENDS))[0]:
                end = 0  # the header alone tells no types
            if rest[:end].strip(_LINE_ENDS):
                yield self._parse(rest[:end], convert)
            rest = rest[end:] + piece
        if is_quoted:
            if rest[:end].strip(_LINE_ENDS):
                self._parse(rest[:end], convert)
            raise Told(
                f"a quote in row {self._rows + 1} (the header is row 1) is never closed, so that "
                "all that follows is taken for its value"
            )
        if rest.strip(_LINE_ENDS) or not self._names:
            yield self._parse(rest, convert)

    def _parse(self, block: bytes, convert: pacsv.ConvertOptions) -> pa.RecordBatch:
        is_first = not self._names
        if is_first:
            self._names = _names(io.BytesIO(block))
        try:
            table = pacsv.read_csv(
                pa.BufferReader(block),
                # Arrow tells the row of a bad value only where one thread parses.
                pacsv.ReadOptions(
                    use_threads=False,
                    block_size=len(block) + 1,
                    column_names=None if is_first else self._names,
                ),
                pacsv.ParseOptions(newlines_in_values=b'"' in block),
                convert,
            )
        except pa.ArrowInvalid as error:
            raise self._named(error) from error
        self._rows += len(table) + is_first
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)

    def _named(self, error: pa.ArrowInvalid) -> pa.ArrowInvalid:
        """Say what an error means: rows of the file for those of the block, columns by name."""
        text = str(error)
        if found := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", text):
            row, expected, got = map(int, found.groups())
            return Told(
                f"row {self._rows + row} (the header is row 1) has {got} values where the header "
                f"has {expected}"
            )
        if found := re.search(r"In CSV column #(\d+): Row #(\d+): CSV conversion error", text):
            column, row = map(int, found.groups())
            where = f"column {self._names[column]!r}, row {self._rows + row} (the header is row 1)"
            return Told(f"{where}: no value", text[found.end() :])
        return error


def _names(stream: IO[bytes]) -> list[str]:
    """Return the names in the first line that is not empty."""
    # More than the first line is decoded, and what follows may be no text.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="backslashreplace", newline="")
    try:
        names = next(filter(None, csv.reader(text)), None)
    except csv.Error as error:
        raise pa.ArrowInvalid(str(error)) from error
    if not names:
        raise Told("Empty CSV file")
    return names
