"""CSV: one header line, comma-separated, UTF-8; quoted values may hold line ends.

Types are inferred from the first block of the first file that has rows and hold for all.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv as pacsv

from tritonbulk.source.columns import measure
from tritonbulk.source.reader import Description, Glance, InputFile, opening, reading, skip

BLOCK_BYTES = 2**20
"""Bytes parsed at a time, and so the longest row; the first block decides the types. Arrow reads up
to 32 blocks ahead."""

_TOO_LONG = f"a row is longer than {BLOCK_BYTES >> 20} MiB, or a quote is never closed"


def describe(file: InputFile, like: pa.Schema | None) -> Description:
    """See `tritonbulk.source.reader.Reader.describe`."""
    if like is not None:
        kinds = dict(zip(like.names, like.types, strict=True))
        names = _header(file)
        return Description(pa.schema([(name, kinds.get(name, pa.null())) for name in names]), None)
    with opening(file), _named(file), file.open_stream() as stream:
        blocks = pacsv.open_csv(
            stream,
            read_options=_read_options(),
            parse_options=_parse_options(),
            convert_options=pacsv.ConvertOptions(),
        )
        first = next(iter(blocks), None)
        # Asked for inside, since this is where a name that is not UTF-8 is found out.
        names = blocks.schema.names
    # Arrow takes a column that is not UTF-8 for bytes. As text its bad values are found, and named
    # by row, once they are read: a column that nobody wants is not.
    schema = pa.schema(
        [
            (name, pa.string() if pa.types.is_binary(kind) else kind)
            for name, kind in zip(names, blocks.schema.types, strict=True)
        ]
    )
    if first is None or not len(first):
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
    with reading(file), _named(file), file.open_stream() as stream:
        blocks = pacsv.open_csv(
            stream,
            read_options=_read_options(),
            parse_options=_parse_options(),
            convert_options=convert,
        )
        yield from skip(blocks, row_begin)


def _read_options() -> pacsv.ReadOptions:
    # Arrow tells the row of a bad value only where one thread parses.
    return pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)


def _parse_options() -> pacsv.ParseOptions:
    return pacsv.ParseOptions(newlines_in_values=True)


def _header(file: InputFile) -> list[str]:
    """Return the names in the first line."""
    with opening(file), file.open_stream() as stream:
        # More than the first line is decoded, and what follows may be no text.
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="backslashreplace", newline="")
        try:
            names = next(csv.reader(text), None)
        except csv.Error as error:
            raise pa.ArrowInvalid(str(error)) from error
        if not names:
            raise pa.ArrowInvalid("Empty CSV file")
        return names


@contextlib.contextmanager
def _named(file: InputFile) -> Iterator[None]:
    """Say what Arrow's errors mean: the column's name for its position, a long row for a block."""
    try:
        yield
    except pa.ArrowInvalid as error:
        text = str(error)
        if "straddling object" in text:
            raise pa.ArrowInvalid(_TOO_LONG) from error
        found = re.search(r"In CSV column #(\d+): Row #(\d+): CSV conversion error", text)
        if found is None:
            raise
        name = _header(file)[int(found[1])]
        where = f"column {name!r}, row {found[2]} (the header is row 1): no value"
        raise pa.ArrowInvalid(where + text[found.end() :]) from error
