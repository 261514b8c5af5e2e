"""Reader: what every format offers, and the sentences for files that cannot be read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
from pyarrow import fs

from tritonbulk.errors import InputError, SourceError, quoting
from tritonbulk.options import Format
from tritonbulk.segments import Block, Gap
from tritonbulk.text import printable

_TITLES: Mapping[Format, str] = {
    "parquet": "Parquet",
    "csv": "CSV",
    "jsonl": "JSON Lines",
    "arrow": "Arrow IPC",
}

_CAUSE_CHARACTERS_MAX = 300


class Told(pa.ArrowInvalid):
    """What is wrong with a file in our words, in which no value stands, and Arrow's after them.

    Args:
        words: ours.
        quoted: Arrow's, which may quote a value.
    """

    def __init__(self, words: str, quoted: str = "") -> None:
        super().__init__(words + quoted)
        self.words = words


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of a source.

    Attributes:
        name: what errors call it; printable, without credentials.
        filesystem: where it is.
        path: on that file system.
        format: how its rows are written.
        compression: of the whole file, by pyarrow's name; None if it has none of its own.
        keys: partition keys and values that its folders stand for; None is a null.
        is_untrusted: whether what it declares is held against limits before it is believed.
    """

    name: str
    filesystem: fs.FileSystem
    path: str
    format: Format
    compression: str | None = None
    keys: tuple[tuple[str, str | None], ...] = ()
    is_untrusted: bool = False

    def open_stream(self) -> pa.NativeFile:
        """Return the file's bytes from the front, decompressed."""
        return self.filesystem.open_input_stream(self.path, compression=self.compression)


@dataclass(frozen=True, slots=True)
class Description:
    """What can be said of a file without reading it through.

    Attributes:
        schema: of its own columns, without partition keys.
        rows: how many it has; None where only reading all of it would tell.
        value_bytes: mean bytes a value of columns without a fixed width, as far as known.
    """

    schema: pa.Schema
    rows: int | None
    value_bytes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Glance:
    """A look at few columns that tells whether the others are worth reading.

    Attributes:
        columns: to look at, of the file's own; none where partition keys tell.
        finds: whether any row of a block of these columns passes the filter.
        rows_max: rows of the file that are wanted; no look goes further; None for all.
    """

    columns: tuple[str, ...]
    finds: Callable[[pa.RecordBatch], bool]
    rows_max: int | None = None


class Reader(Protocol):
    """One format; its module is the object."""

    def describe(self, file: InputFile, like: pa.Schema | None) -> Description:
        """Return what is known of ``file``.

        Args:
            file: to look at.
            like: schema of an earlier file of the source, whose types hold for a format that
                has none of its own; None if there is none.

        Raises:
            InputError: it cannot be read as this format; a retry does not help.
        """

    def read(
        self,
        file: InputFile,
        schema: pa.Schema,
        block_rows: int,
        glance: Glance | None = None,
        row_begin: int = 0,
    ) -> Iterator[Block]:
        """Yield the rows in order, in blocks of the columns that ``schema`` names, in any order.

        Args:
            file: to read.
            schema: the columns, with their types where the format has none of its own.
            block_rows: rows a block, where the format lets them be chosen.
            glance: where it finds nothing, a format that can leave out rows yields a gap instead.
            row_begin: rows before it are left out, unread where the format allows.

        Raises:
            InputError: the file is not what it claims to be; a retry does not help.
            SourceError: reading failed; a retry may help.
        """


def skip(blocks: Iterable[Block], rows: int) -> Iterator[Block]:
    """Yield ``blocks`` without their first ``rows`` rows."""
    for block in blocks:
        if rows < len(block):
            yield block.slice(rows)
        rows -= min(len(block), rows)


@contextlib.contextmanager
def opening(file: InputFile) -> Iterator[None]:
    """Turn what goes wrong while a file is opened into an InputError that names it."""
    try:
        yield
    except PermissionError as error:
        raise InputError(
            f"input file {file.name} may not be read; ask its owner for permission"
        ) from error
    except MemoryError:
        raise _too_large(file) from None
    except (OSError, pa.ArrowException, UnicodeError) as error:
        what = f"input file {file.name} cannot be read as {_TITLES[file.format]}"
        do = "convert it, check that it is complete, or name its format with --format"
        told = InputError(f"{what} ({cause(error)}); {do}")
        if isinstance(error, OSError):
            raise told from error
        raise quoting(told, f"{what}{_logged(error, ' (', ')')}; {do}") from error


@contextlib.contextmanager
def reading(file: InputFile) -> Iterator[None]:
    """Turn what goes wrong while rows are read into an error that names the file."""
    try:
        yield
    except MemoryError:
        raise _too_large(file) from None
    except (pa.ArrowException, UnicodeError) as error:
        what = f"reading {file.name} failed"
        raise quoting(
            InputError(f"{what}: {cause(error)}; mend the file"),
            f"{what}{_logged(error, ': ')}; mend the file",
        ) from error
    except OSError as error:
        raise SourceError(
            f"reading {file.name} failed: {cause(error)}; check that it is complete, then run again"
        ) from error


def _logged(error: BaseException, before: str, after: str = "") -> str:
    """Return what a log may say of a cause; nothing of Arrow's words, which may quote values."""
    return f"{before}{printable(error.words)}{after}" if isinstance(error, Told) else ""


def _too_large(file: InputFile) -> InputError:
    return InputError(
        f"reading {file.name} takes more memory than it may; lower --segment-rows, or look at "
        "where it comes from: a small file can be made to unfold into a huge one"
    )


def checked(blocks: Iterable[Block], row_begin: int = 0) -> Iterator[Block]:
    """Yield the blocks of a file, each checked: Arrow takes offsets and text in files on trust.

    Args:
        blocks: in order.
        row_begin: the first row of the first block, counted from 0 in the file.

    Raises:
        pa.ArrowInvalid: names column and rows.
    """
    for block in blocks:
        if not isinstance(block, Gap):
            check_values(block, row_begin)
        yield block
        row_begin += len(block)


def check_values(rows: pa.RecordBatch | pa.Table, row_begin: int) -> None:
    """Check offsets and text of rows that begin at row ``row_begin`` of their file.

    Raises:
        pa.ArrowInvalid: names column and rows.
    """
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(
                f"column {name!r}, rows {row_begin} to {row_begin + len(rows) - 1} (from 0): "
                f"{cause(error)}"
            ) from error


def cause(error: BaseException) -> str:
    """Return the first line of an error's text, fit for a terminal whatever the file holds."""
    text = str(error).strip() or type(error).__name__
    return printable(text.splitlines()[0])[:_CAUSE_CHARACTERS_MAX].rstrip(".")
