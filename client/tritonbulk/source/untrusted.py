"""Untrusted: files of strangers are read by a process that can do little but read them.

That process (`sandbox`) has bounds for memory and processor time, writes no files, gets none of our
environment and, where the kernel lets it, has no network. Whatever a file does to it, this process
sees one error. Rows come over a pipe as Arrow IPC and are validated in full on this side as well,
since a reader that was taken over may send anything.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

from tritonbulk.errors import InputError, PlatformError, quoting
from tritonbulk.segments import Block
from tritonbulk.source.reader import Description, Glance, InputFile, cause, check_values
from tritonbulk.text import said

MEMORY_BYTES = 2**30
"""Memory that reading may take, beside what the process needs anyway."""

BLOCK_CPU_S = 60
"""Processor time that one block of rows, or the look at one file, may take."""

FRAME_BYTES_MAX = 2 * MEMORY_BYTES
"""Bytes of one block on the pipe."""

_END_S = 10.0
"""How long a process may take to end that says no more."""

DESCRIPTION, BLOCK, END, REFUSED = b"D", b"B", b"E", b"R"
"""Kinds of frames: one byte, eight bytes of length (little-endian), the content."""

_SENTENCE = "; it may be broken or made to harm, so look at where it comes from"


class Untrusted:
    """Reads files in processes apart; has the two functions of a `reader.Reader`.

    Processes are used again, and end with this object.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise PlatformError("--untrusted needs Linux, whose limits of processes it uses")
        self._idle: deque[_Child] = deque()
        weakref.finalize(self, _end_all, self._idle)

    def describe(self, file: InputFile, like: pa.Schema | None) -> Description:
        """See `reader.Reader.describe`."""
        with self._child() as child:
            child.order("describe", file, like=None if like is None else schema_text(like))
            kind, content = child.frame(file)
            if kind != DESCRIPTION:
                raise _nonsense(file)
            return _description(file, content)

    def read(
        self,
        file: InputFile,
        schema: pa.Schema,
        block_rows: int,
        glance: Glance | None = None,  # noqa: ARG002  cannot be handed over, and only spares work
        row_begin: int = 0,
    ) -> Iterator[Block]:
        """See `reader.Reader.read`."""
        with self._child() as child:
            child.order(
                "read",
                file,
                schema=schema_text(schema),
                block_rows=block_rows,
                row_begin=row_begin,
            )
            while (frame := child.frame(file))[0] != END:
                kind, content = frame
                if kind != BLOCK:
                    raise _nonsense(file)
                block = _block(file, schema, content, row_begin)
                row_begin += len(block)
                yield block

    @contextlib.contextmanager
    def _child(self) -> Iterator[_Child]:
        """Give a process; it is used again if its order came to an orderly end."""
        child = self._idle.pop() if self._idle else _Child()
        try:
            yield child
            child.is_free = True
        finally:
            if child.is_free:
                self._idle.append(child)
            else:
                child.kill()


def _end_all(children: deque[_Child]) -> None:
    while children:
        children.pop().kill()


class _Child:
    """One process that reads.

    Attributes:
        is_free: whether it came to an orderly end with its last order.
    """

    def __init__(self) -> None:
        self.is_free = True
        # Nothing of our environment goes over: it may hold secrets.
        variables = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PYTHONUTF8": "1",
            # Memory of other allocators is reserved in gigabytes, which the limit would count.
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "MALLOC_ARENA_MAX": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tritonbulk.source.sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=variables,
            cwd="/",
            start_new_session=True,
        )

    def order(self, what: str, file: InputFile, **more: object) -> None:
        """Ask for something about a file.

        Raises:
            InputError: the file is not local; a retry does not help.
        """
        if not isinstance(file.filesystem, fs.LocalFileSystem):
            raise InputError(
                f"--untrusted reads local files only; copy {file.name} to this machine"
            )
        line = {
            "what": what,
            "name": file.name,
            "path": str(Path(file.path).absolute()),
            "format": file.format,
            "compression": file.compression,
            **more,
        }
        assert self._process.stdin is not None
        self.is_free = False
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # its end is told by the frame that does not come

    def frame(self, file: InputFile) -> tuple[bytes, bytes]:
        """Return kind and content of the next frame.

        Raises:
            InputError: the process refused the file, or ended; a retry does not help.
        """
        stream = self._process.stdout
        assert stream is not None
        head = _exactly(stream, 9)
        size = int.from_bytes(head[1:], "little")
        if len(head) < 9:
            raise InputError(f"reading {file.name} {self._how_it_ended()}{_SENTENCE}")
        if size > FRAME_BYTES_MAX:
            raise _nonsense(file)
        content = _exactly(stream, size)
        if len(content) < size:
            raise InputError(f"reading {file.name} {self._how_it_ended()}{_SENTENCE}")
        if head[:1] == REFUSED:
            # Others' words twice over: the file's, through a process that it may have taken over.
            self.is_free = True
            raise quoting(
                InputError(said(content.decode(errors="replace"))),
                f"{file.name} cannot be read, or not all of its rows; --log-format text says why",
            )
        return head[:1], content

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):  # by what it did not read any more
                stream.close()

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "closed the pipe of the process that reads it"
        if code == -signal.SIGXCPU:
            return f"takes more than {BLOCK_CPU_S} s of processor time for one block"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return (
            f"ended the process that reads it ({how}; it may take {MEMORY_BYTES >> 20} MiB of "
            "memory)"
        )


def _nonsense(file: InputFile) -> InputError:
    return InputError(f"the process that reads {file.name} answered nonsense{_SENTENCE}")


def _description(file: InputFile, content: bytes) -> Description:
    try:
        found = json.loads(content)
        rows = None if found["rows"] is None else int(found["rows"])
        sizes = {str(name): float(size) for name, size in found["value_bytes"].items()}
        return Description(text_schema(found["schema"]), rows, sizes)
    except (ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
        raise _nonsense(file) from None


def _block(file: InputFile, schema: pa.Schema, content: bytes, row_begin: int) -> pa.RecordBatch:
    """Return the rows in a frame, checked as if nobody had done so."""
    try:
        with pa.ipc.open_stream(content) as stream:
            block = stream.read_next_batch()
        check_values(block, row_begin)
    except (pa.ArrowException, OSError, StopIteration) as error:
        what = f"reading {file.name} failed"
        raise quoting(InputError(f"{what}: {cause(error)}{_SENTENCE}"), what + _SENTENCE) from None
    if sorted(block.schema.names) != sorted(schema.names):
        raise _nonsense(file)
    return block


def _exactly(stream: IO[bytes], size: int) -> bytes:
    return stream.read(size) or b""


def schema_text(schema: pa.Schema) -> str:
    """Return a schema as text."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def text_schema(text: Any) -> pa.Schema:
    """Return the schema that `schema_text` wrote."""
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(text, validate=True)))
