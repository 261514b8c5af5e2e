"""Arrow IPC: files (Feather 2) and streams, told apart by their first bytes.

A record batch is read whole, so memory is bounded by the largest one in the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import ipc

from tritonbulk.errors import InputError
from tritonbulk.segments import Block
from tritonbulk.source.columns import fixed_bytes, measure
from tritonbulk.source.reader import (
    Description,
    Glance,
    InputFile,
    checked,
    opening,
    reading,
    skip,
)

_FILE_MAGIC = b"ARROW1"
_FEATHER_1_MAGIC = b"FEA1"


def describe(file: InputFile, like: pa.Schema | None) -> Description:  # noqa: ARG001
    """See `tritonbulk.source.reader.Reader.describe`."""
    with _opened(file) as opened, opening(file):
        schema = opened.schema
        is_file = isinstance(opened, ipc.RecordBatchFileReader)
        rows = opened.count_rows() if is_file else None
        sizes: dict[str, float] = {}
        if any(fixed_bytes(field.type) is None for field in schema):
            first = next(checked(_batches(opened)), None)
            sizes = {} if first is None else measure(first)
    return Description(schema.remove_metadata(), rows, sizes)


def read(
    file: InputFile,
    schema: pa.Schema,
    block_rows: int,  # noqa: ARG001
    glance: Glance | None = None,  # noqa: ARG001
    row_begin: int = 0,
) -> Iterator[Block]:
    """See `tritonbulk.source.reader.Reader.read`."""
    with _opened(file) as whole:
        positions = sorted(whole.schema.get_field_index(name) for name in schema.names)
    if -1 in positions:
        raise InputError(
            f"{file.name} has lost a column since the run began; do not change inputs while they "
            "are scored"
        )
    with _opened(file, positions) as opened, reading(file):
        yield from skip(checked(_batches(opened)), row_begin)


def _batches(
    opened: ipc.RecordBatchReader | ipc.RecordBatchFileReader,
) -> Iterator[pa.RecordBatch]:
    if isinstance(opened, ipc.RecordBatchFileReader):
        return (opened.get_batch(index) for index in range(opened.num_record_batches))
    return iter(opened)


@contextlib.contextmanager
def _opened(
    file: InputFile, positions: list[int] | None = None
) -> Iterator[ipc.RecordBatchReader | ipc.RecordBatchFileReader]:
    options = ipc.IpcReadOptions(included_fields=positions, use_threads=False)
    with contextlib.ExitStack() as stack:
        with opening(file):
            with file.open_stream() as stream:
                head = stream.read(8)
            _refuse_unreadable(file, head)
            if head.startswith(_FILE_MAGIC):
                handle = stack.enter_context(file.filesystem.open_input_file(file.path))
                opened = stack.enter_context(ipc.open_file(handle, options=options))
            else:
                handle = stack.enter_context(file.open_stream())
                opened = stack.enter_context(ipc.open_stream(handle, options=options))
        yield opened


def _refuse_unreadable(file: InputFile, head: bytes) -> None:
    if head.startswith(_FEATHER_1_MAGIC):
        raise InputError(f"input file {file.name} is Feather version 1; write it as version 2")
    if head.startswith(_FILE_MAGIC) and file.compression is not None:
        raise InputError(
            f"input file {file.name} is an Arrow file inside {file.compression}, which can only be "
            "read from the front; decompress it, or write an Arrow stream"
        )
