"""JSON Lines: one object a line, UTF-8, parsed in blocks of whole lines.

Types are inferred from the first block of the first file that has rows and hold for all; a field
that is absent is null, one that first appears later is ignored. Blocks are cut here, not by Arrow:
a line may be as long as `LINE_BYTES_MAX`, errors can tell the row, and Arrow's parser, which
recurses, never sees nesting that would overflow its stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.json as pajson

from tritonbulk.errors import InputError, quoting
from tritonbulk.source.columns import measure
from tritonbulk.source.reader import (
    Description,
    Glance,
    InputFile,
    cause,
    check_values,
    opening,
    reading,
    skip,
)

BLOCK_BYTES = 4 * 2**20
"""Bytes parsed at a time; a longer line makes a block of its own."""

LINE_BYTES_MAX = 128 * 2**20
"""Bytes of the longest line that is read."""

DEPTH_MAX = 500
"""Levels of nesting that are read; Arrow 26 overflows an 8 MiB stack between 10,000 and 20,000."""

_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_TEXT = re.compile(rb'"[^"]*"')
_BRACKET = re.compile(rb"[\[\]{}]")


def describe(file: InputFile, like: pa.Schema | None) -> Description:
    """See `tritonbulk.source.reader.Reader.describe`."""
    with opening(file), file.open_stream() as stream:
        if like is not None:
            stream.read(1)
            return Description(like, None)
        block = next(_blocks(file, stream), None)
        if block is None:
            raise InputError(
                f"input file {file.name} is empty, so nothing tells its columns; leave it out"
            )
        rows = _parse(file, block, None, 0)
    return Description(rows.schema, None, measure(rows))


def read(
    file: InputFile,
    schema: pa.Schema,
    block_rows: int,  # noqa: ARG001
    glance: Glance | None = None,  # noqa: ARG001
    row_begin: int = 0,
) -> Iterator[pa.RecordBatch]:
    """See `tritonbulk.source.reader.Reader.read`."""
    with reading(file), file.open_stream() as stream:
        yield from skip(_rows(file, stream, schema), row_begin)


def _rows(file: InputFile, stream: pa.NativeFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    row_begin = 0
    for block in _blocks(file, stream):
        rows = _parse(file, block, schema, row_begin)
        yield rows
        row_begin += len(rows)


def _blocks(file: InputFile, stream: pa.NativeFile) -> Iterator[bytes]:
    """Yield the file's bytes in runs of whole lines; blank ones are left out."""
    pieces: list[bytes] = []
    size = 0
    while piece := stream.read(BLOCK_BYTES):
        end = piece.rfind(b"\n") + 1
        if end:
            block = b"".join([*pieces, piece[:end]])
            if block.strip():
                yield block
            pieces, size = [], 0
        pieces.append(piece[end:])
        size += len(piece) - end
        if size > LINE_BYTES_MAX:
            raise InputError(
                f"{file.name} has a line of more than {LINE_BYTES_MAX >> 20} MiB; is it JSON "
                "Lines, one object a line?"
            )
    last = b"".join(pieces)
    if last.strip():
        yield last


def _parse(
    file: InputFile, block: bytes, schema: pa.Schema | None, row_begin: int
) -> pa.RecordBatch:
    """Return the rows of a block, with inferred types if ``schema`` is None.

    Raises:
        InputError: names the file and, as far as Arrow tells, the row (from 0).
    """
    _refuse_deep_nesting(file, block)
    parse = pajson.ParseOptions(
        explicit_schema=schema,
        newlines_in_values=False,
        unexpected_field_behavior="infer" if schema is None else "ignore",
    )
    options = pajson.ReadOptions(use_threads=False, block_size=len(block) + 1)
    try:
        table = pajson.read_json(pa.BufferReader(block), options, parse)
        check_values(table, row_begin)  # the parser takes any bytes for text
    except pa.ArrowException as error:
        what = re.sub(r" in row (\d+)$", "", cause(error))
        found = re.search(r"in row (\d+)$", cause(error))
        at = f"at row {row_begin + int(found[1])}" if found else f"after row {row_begin}"
        if "(from 0)" not in what:
            what = f"{at} (from 0): {what}"
        raise quoting(
            InputError(f"{file.name}, {what}; mend the file"),
            f"{file.name} cannot be parsed {at} (from 0); mend the file",
        ) from error
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def _refuse_deep_nesting(file: InputFile, block: bytes) -> None:
    for line in block.split(b"\n"):
        if len(line) > DEPTH_MAX and line.count(b"[") + line.count(b"{") > DEPTH_MAX:
            depth = 0
            bare = _TEXT.sub(b"", _ESCAPED.sub(b"", line))
            for bracket in _BRACKET.findall(bare):
                depth += 1 if bracket in b"[{" else -1
                if depth > DEPTH_MAX:
                    raise InputError(
                        f"{file.name} has a line nested more than {DEPTH_MAX} levels deep; "
                        "flatten it"
                    )
