"""CSV: one header line, comma-separated, UTF-8; quoted values may hold line ends.

Types are inferred from the first block of the first file that has rows and hold for all.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv as pacsv

from tritonbulk.errors import InputError
from tritonbulk.source.columns import measure
from tritonbulk.source.reader import Description, InputFile, opening, printable, reading

BLOCK_BYTES = 4 * 2**20
"""Bytes parsed at a time, and so the longest row; the first block decides the types."""


def describe(file: InputFile, like: pa.Schema | None) -> Description:
    """See `tritonbulk.source.reader.Reader.describe`."""
    if like is not None:
        kinds = dict(zip(like.names, like.types, strict=True))
        names = _header(file)
        return Description(pa.schema([(name, kinds.get(name, pa.null())) for name in names]), None)
    with opening(file), file.open_stream() as stream:
        blocks = pacsv.open_csv(
            stream,
            read_options=_read_options(),
            parse_options=_parse_options(),
            convert_options=pacsv.ConvertOptions(),
        )
        first = next(iter(blocks), None)
    for field in blocks.schema:
        if pa.types.is_binary(field.type):
            raise InputError(
                f"column {field.name!r} in {file.name} is not UTF-8; convert the file, for example "
                "with iconv"
            )
    if first is None or not len(first):
        return Description(blocks.schema, 0)
    return Description(blocks.schema, None, measure(first))


def read(file: InputFile, schema: pa.Schema, block_rows: int) -> Iterator[pa.RecordBatch]:  # noqa: ARG001
    """See `tritonbulk.source.reader.Reader.read`."""
    convert = pacsv.ConvertOptions(include_columns=schema.names, column_types=schema)
    try:
        with reading(file), file.open_stream() as stream:
            yield from pacsv.open_csv(
                stream,
                read_options=_read_options(),
                parse_options=_parse_options(),
                convert_options=convert,
            )
    except InputError as error:
        raise InputError(_with_column_name(str(error), file)) from error


def _read_options() -> pacsv.ReadOptions:
    # Arrow tells the row of a bad value only where one thread parses.
    return pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)


def _parse_options() -> pacsv.ParseOptions:
    return pacsv.ParseOptions(newlines_in_values=True)


def _header(file: InputFile) -> list[str]:
    """Return the names in the first line."""
    with opening(file), file.open_stream() as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        try:
            names = next(csv.reader(text), None)
        except csv.Error as error:
            raise pa.ArrowInvalid(str(error)) from error
        if not names:
            raise pa.ArrowInvalid("Empty CSV file")
        return names


def _with_column_name(text: str, file: InputFile) -> str:
    """Return an error's text with the column's name where Arrow gives its position."""
    found = re.search(r"In CSV column #(\d+): Row #(\d+): CSV conversion error", text)
    if found is None:
        return text
    name = _header(file)[int(found[1])]
    replaced = f"column {printable(name)!r}, row {found[2]} (with the header): value does not fit"
    return text[: found.start()] + replaced + text[found.end() :]
