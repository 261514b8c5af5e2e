"""Sandbox: the process that reads files of strangers for `untrusted`; its limits come first.

Orders come as JSON lines on stdin, frames go to stdout. It knows no secret, opens what it is told
to read, and ends with its stdin.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys

_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000  # sched.h: CLONE_NEWNET, CLONE_NEWUSER
_NO_NEW_PRIVILEGES = 38  # prctl.h
_FILES_MAX = 64


def _leave_network() -> None:
    """Give up the network for good, if the kernel lets us; no thread may run yet."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.unshare(_NEW_NETWORK) != 0:
        libc.unshare(_NEW_NETWORK | _NEW_USER)


if __name__ == "__main__":
    _leave_network()

# After the network is gone, since it must be before any thread.
import json  # noqa: E402
from typing import IO, Any  # noqa: E402

import pyarrow as pa  # noqa: E402
from pyarrow import fs  # noqa: E402

from tritonbulk.errors import TritonbulkError  # noqa: E402
from tritonbulk.segments import Gap  # noqa: E402
from tritonbulk.source.formats import READERS  # noqa: E402
from tritonbulk.source.reader import InputFile, cause  # noqa: E402
from tritonbulk.source.untrusted import (  # noqa: E402
    BLOCK,
    BLOCK_CPU_S,
    DESCRIPTION,
    END,
    MEMORY_BYTES,
    REFUSED,
    schema_text,
    text_schema,
)


def main() -> None:
    """Carry out orders until there are no more."""
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no frame
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    _limit()
    for line in sys.stdin.buffer:
        order = json.loads(line)
        try:
            with contextlib.suppress(BrokenPipeError):
                _carry_out(order, frames)
        except TritonbulkError as error:
            _send(frames, REFUSED, str(error).encode())
        except (MemoryError, RecursionError, OverflowError, pa.ArrowException, ValueError) as error:
            text = f"reading {order['name']} failed ({cause(error)}); mend the file"
            _send(frames, REFUSED, text.encode())


def _carry_out(order: dict[str, Any], frames: IO[bytes]) -> None:
    _allow_cpu()
    file = InputFile(
        order["name"],
        fs.LocalFileSystem(),
        order["path"],
        order["format"],
        order["compression"],
        is_untrusted=True,
    )
    reader = READERS[file.format]
    if order["what"] == "describe":
        like = None if order["like"] is None else text_schema(order["like"])
        found = reader.describe(file, like)
        plain = {
            "schema": schema_text(found.schema),
            "rows": found.rows,
            "value_bytes": dict(found.value_bytes),
        }
        _send(frames, DESCRIPTION, json.dumps(plain).encode())
        return
    schema = text_schema(order["schema"])
    for block in reader.read(file, schema, order["block_rows"], None, order["row_begin"]):
        assert not isinstance(block, Gap), "without a glance every row is read"
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, block.schema) as writer:
            writer.write_batch(block)
        _send(frames, BLOCK, sink.getvalue())
        _allow_cpu()
    _send(frames, END, b"")


def _send(frames: IO[bytes], kind: bytes, content: bytes | pa.Buffer) -> None:
    frames.write(kind + len(content).to_bytes(8, "little"))
    frames.write(content)
    frames.flush()


def _limit() -> None:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - before any limit
        used = int(statm.read().split()[0]) * resource.getpagesize()
    for which, most in (
        (resource.RLIMIT_AS, used + MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _FILES_MAX),
    ):
        resource.setrlimit(which, (most, most))


def _allow_cpu() -> None:
    """Give the next block its processor time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    by_s = int(usage.ru_utime + usage.ru_stime) + 1 + BLOCK_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (by_s, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
