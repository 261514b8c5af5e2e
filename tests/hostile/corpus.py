"""Files that mean harm, made on the spot: case N of a seed is always the same bytes."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

ROWS = 200
ODD_NAMES = [
    "../../etc/passwd", "new\nline", "nul\0byte", "", " ", "a" * 70_000, "\x1b[31mred", "'; drop",
    "=cmd|' /C calc'!A0", "_tritonbulk_status", "x", "\u202eright-to-left", "é" * 300, ".", "..",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        kind: what is wrong with it.
        extension: of its name, which tells the format.
        data: its bytes.
    """

    kind: str
    extension: str
    data: bytes


def hostile_files(count: int, seed: int) -> Iterator[Case]:
    """Yield ``count`` cases, each kind again and again with other dice."""
    usual = [kind for kind in _KINDS if "bomb" not in kind]
    bombs = [kind for kind in _KINDS if "bomb" in kind]
    for number in range(count):
        # Bombs take seconds each: one in every round of the others is enough.
        cycle, at = divmod(number, len(usual) + 1)
        kind = usual[at] if at < len(usual) else bombs[cycle % len(bombs)]
        extension, make = _KINDS[kind]
        yield Case(kind, extension, make(random.Random(f"{seed}/{number}")))


def honest_files() -> Iterator[Case]:
    """Yield one file of each format with nothing wrong, which must be read."""
    yield Case("honest", "parquet", _parquet(_table()))
    yield Case("honest", "arrow", _arrow(_table(), ipc.new_file))
    yield Case("honest", "arrows", _arrow(_table(), ipc.new_stream))
    yield Case("honest", "csv", b"x,w\n" + b"1.5,a\n" * ROWS)
    yield Case("honest", "jsonl", b'{"x": 1.5, "w": "a"}\n' * ROWS)


def _table(names: tuple[str, ...] = ("x", "words", "lists")) -> pa.Table:
    columns = [
        pa.array(np.arange(ROWS, dtype=np.float32)),
        pa.array([f"word {row % 7}" for row in range(ROWS)]),
        pa.array([[row, row + 1] for row in range(ROWS)]),
    ]
    return pa.Table.from_arrays(columns[: len(names)], names=list(names))


def _parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _arrow(table: pa.Table, new: Callable[..., ipc.RecordBatchStreamWriter], **options) -> bytes:
    sink = io.BytesIO()
    with new(sink, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _honest(dice: random.Random, extension: str) -> bytes:
    if extension == "parquet":
        codec = dice.choice(["none", "snappy", "zstd", "gzip"])
        return _parquet(
            _table(),
            compression=codec,
            row_group_size=dice.choice([10, 50, 200]),
            write_page_checksum=dice.random() < 0.2,
            use_dictionary=dice.random() < 0.5,
        )
    new = ipc.new_file if extension == "arrow" else ipc.new_stream
    return _arrow(_table(), new, compression=dice.choice([None, "zstd", "lz4"]))


def _truncated(extension: str) -> Callable[[random.Random], bytes]:
    def make(dice: random.Random) -> bytes:
        data = _honest(dice, extension)
        return data[: dice.randrange(len(data))]

    return make


def _flipped(extension: str, where: str) -> Callable[[random.Random], bytes]:
    def make(dice: random.Random) -> bytes:
        data = bytearray(_honest(dice, extension))
        begin = max(len(data) - 600, 0) if where == "end" else 0
        for _ in range(dice.choice([1, 1, 2, 5, 20])):
            data[dice.randrange(begin, len(data))] ^= 1 << dice.randrange(8)
        return bytes(data)

    return make


def _spliced(extension: str) -> Callable[[random.Random], bytes]:
    def make(dice: random.Random) -> bytes:
        data = _honest(dice, extension)
        begin, end = sorted(dice.randrange(len(data)) for _ in range(2))
        return dice.choice([data[:begin] + data[end:], data[:end] + data[begin:], data[begin:]])

    return make


def _offsets(dice: random.Random) -> bytes:
    """Text whose offsets point elsewhere; Arrow writes them as they are."""
    offsets = np.arange(ROWS + 1, dtype=np.int32)
    offsets[dice.randrange(1, ROWS + 1)] = dice.choice([-1, -(2**31), 2**31 - 1, 10**6, 10**9])
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"x" * ROWS)]
    words = pa.Array.from_buffers(pa.string(), ROWS, buffers)
    table = pa.table({"x": np.zeros(ROWS, np.float32), "words": words})
    return _arrow(table, dice.choice([ipc.new_file, ipc.new_stream]))


def _indices(dice: random.Random) -> bytes:
    """A dictionary's indices beyond it."""
    indices = np.zeros(ROWS, np.int32)
    indices[dice.randrange(ROWS)] = dice.choice([-1, 5, 2**31 - 1])
    index = pa.Array.from_buffers(pa.int32(), ROWS, [None, pa.py_buffer(indices.tobytes())])
    words = pa.DictionaryArray.from_arrays(index, pa.array(["a", "b"]), safe=False)
    return _arrow(pa.table({"x": np.zeros(ROWS, np.float32), "words": words}), ipc.new_file)


def _zeros(megabytes: int) -> pa.Table:
    """One row, one value of so many zeros."""
    return pa.table({"x": np.zeros(1, np.float32), "b": pa.array([bytes(megabytes << 20)])})


def _zstd_bomb(dice: random.Random) -> bytes:
    return _parquet(_zeros(dice.choice([8, 24])), compression="zstd", use_dictionary=False)


def _many_zeros(dice: random.Random) -> bytes:
    """Many columns that together are large, though none is."""
    zeros = pa.array([bytes(1 << 18)] * 40)  # 10 MiB, one memory for all columns
    columns = {f"b{at}": zeros for at in range(dice.choice([5, 10]))}
    table = pa.table({"x": np.zeros(40, np.float32), **columns})
    return _parquet(table, compression="zstd", use_dictionary=dice.random() < 0.5)


def _dictionary_bomb(dice: random.Random) -> bytes:
    """One long text, and a row group of references to it."""
    long = pa.array(["x" * (1 << 20)])
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), long)
    table = pa.table({"x": np.zeros(20_000, np.float32), "words": words})
    # Without Arrow's schema it is read as 20 GB of text.
    return _parquet(table, compression=dice.choice(["zstd", "snappy"]), store_schema=False)


def _arrow_bomb(dice: random.Random) -> bytes:
    return _arrow(_zeros(dice.choice([8, 24])), ipc.new_file, compression="zstd")


def _nested(dice: random.Random) -> pa.Table:
    depth = dice.choice([20, 60, 63])
    value = pa.array([1] * 3)
    for _ in range(depth):
        value = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), value)
    return pa.table({"x": np.zeros(3, np.float32), "deep": value})


def _many_groups(dice: random.Random) -> bytes:
    rows = dice.choice([2_000, 5_000])
    table = pa.table({"x": np.zeros(rows, np.float32)})
    return _parquet(table, row_group_size=1, write_statistics=False)


def _footer(dice: random.Random) -> bytes:
    """A footer that says another length of itself."""
    data = _honest(dice, "parquet")
    length = dice.choice([0, 1, 2**31 - 1, 2**32 - 1, len(data), len(data) - 8, 100])
    return data[:-8] + length.to_bytes(4, "little") + b"PAR1"


def _named(extension: str) -> Callable[[random.Random], bytes]:
    def make(dice: random.Random) -> bytes:
        names = ("x", dice.choice(ODD_NAMES), dice.choice(ODD_NAMES))
        if extension == "parquet":
            return _parquet(_table(names))
        if extension == "arrow":
            return _arrow(_table(names), ipc.new_file)
        if extension == "csv":
            quoted = ",".join('"' + name.replace('"', '""') + '"' for name in names)
            return quoted.encode() + b"\n" + b"1,2,3\n" * 5
        return json.dumps(dict.fromkeys(names, 1)).encode() + b"\n"

    return make


_CSV = [
    b'x,y\n1,"never closed\n' + b"2,b\n" * 1000,
    b"x,y\n1,\0\0\0\n" * 50,
    b"\xef\xbb\xbfx,y\n1,2\n",
    b"\xff\xfex\0,\0y\0\n\0",
    b"x,y\n" + b"1," + b"y" * (3 << 20) + b"\n",
    b"x,y\n1\n1,2,3,4\n",
    b"x\n" * 3 + b"\xff\xff\n",
    b"," * 10_000 + b"\n" + b"," * 10_000,
    b"x,y\r1,2\r\r\n\n\r",
    b"x,x\n1,2\n",
    b'x,y\n1,"a""b""\n',
    b"",
    b"\n",
    b"x,y",
    b"x,y\n" + b"9" * 400 + b",1e999999\n",
    b"x,y\n" + b"-" * 100_000,
]  # fmt: skip
_JSONL = [
    b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    b'{"x":' * 100_000 + b"1" + b"}" * 100_000 + b"\n",
    b'{"x":' + b"[" * 100_000,
    b'{"x": "' + b"[" * 100_000 + b'"}\n',
    b'{"x": 1, "x": 2}\n',
    b'{"x": 1e999999}\n{"x": -' + b"9" * 5_000 + b"}\n",
    b'{"x": "\\ud800"}\n{"x": "\\udfff\\ud800"}\n',
    b'{"x": "\xff\xfe"}\n',
    b"\xef\xbb\xbf" + b'{"x": 1}\n',
    b'{"x": "\0"}\n\0\0\n',
    b'{"x": "' + b"y" * (5 << 20) + b'"}\n',
    b"[1]\n2\nnull\n",
    b'{"x": tru}\n{"x": NaN}\n',
    b'{"x": 1}{"x": 2}\n',
    b'{"x": [1, "a", {}]}\n{"x": {"y": 1}}\n',
    b"{" + b",".join(b'"c%d": 1' % at for at in range(20_000)) + b"}\n",
    b"",
    b"\n\n",
]  # fmt: skip


def _one_of(texts: list[bytes]) -> Callable[[random.Random], bytes]:
    def make(dice: random.Random) -> bytes:
        text = dice.choice(texts)
        if dice.random() < 0.5 or not text:
            return text
        data = bytearray(text)
        for _ in range(dice.choice([1, 3])):
            at = dice.randrange(min(len(data), 300))
            data[at : at + dice.choice([0, 1])] = bytes([dice.choice(b'\0"\n,{}[]:\\\xff9-')])
        return bytes(data)

    return make


def _noise(dice: random.Random) -> bytes:
    return dice.randbytes(dice.choice([1, 7, 8, 9, 100, 5_000]))


_KINDS: dict[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "Parquet, truncated": ("parquet", _truncated("parquet")),
    "Parquet, bits flipped": ("parquet", _flipped("parquet", "anywhere")),
    "Parquet, footer's bits flipped": ("parquet", _flipped("parquet", "end")),
    "Parquet, spliced": ("parquet", _spliced("parquet")),
    "Parquet, another footer length": ("parquet", _footer),
    "Parquet, zstd bomb": ("parquet", _zstd_bomb),
    "Parquet, bomb of many columns": ("parquet", _many_zeros),
    "Parquet, dictionary bomb": ("parquet", _dictionary_bomb),
    "Parquet, a row group a row": ("parquet", _many_groups),
    "Parquet, odd names": ("parquet", _named("parquet")),
    "Parquet, noise": ("parquet", _noise),
    "Parquet, nested": ("parquet", lambda dice: _parquet(_nested(dice))),
    "Arrow, nested": ("arrow", lambda dice: _arrow(_nested(dice), ipc.new_file)),
    "Arrow, truncated": ("arrow", _truncated("arrow")),
    "Arrow, bits flipped": ("arrow", _flipped("arrow", "anywhere")),
    "Arrow, footer's bits flipped": ("arrow", _flipped("arrow", "end")),
    "Arrow, spliced": ("arrow", _spliced("arrow")),
    "Arrow stream, truncated": ("arrows", _truncated("arrows")),
    "Arrow stream, bits flipped": ("arrows", _flipped("arrows", "anywhere")),
    "Arrow, offsets": ("arrow", _offsets),
    "Arrow, indices": ("arrow", _indices),
    "Arrow, zstd bomb": ("arrow", _arrow_bomb),
    "Arrow, odd names": ("arrow", _named("arrow")),
    "CSV, horrors": ("csv", _one_of(_CSV)),
    "CSV, odd names": ("csv", _named("csv")),
    "CSV, noise": ("csv", _noise),
    "JSON Lines, horrors": ("jsonl", _one_of(_JSONL)),
    "JSON Lines, odd names": ("jsonl", _named("jsonl")),
    "JSON Lines, noise": ("jsonl", _noise),
}
