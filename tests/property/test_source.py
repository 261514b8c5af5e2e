"""However a file is laid out, its segments are the same; a common type holds every value."""

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs, ipc

from tritonbulk.source import delimited, jsonl, open_source
from tritonbulk.source.quotes import rows_end
from tritonbulk.source.reader import InputFile
from tritonbulk.source.unify import common_type

SCHEMA = pa.schema({"n": pa.int64(), "s": pa.string()})
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=9
)
ROWS = st.lists(st.tuples(st.integers(-(2**60), 2**60), TEXT), min_size=1, max_size=40)


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def write(rows, folder, extension, chunk_rows):
    path = Path(folder) / f"rows.{extension}"
    table = pa.table([[n for n, _ in rows], [s for _, s in rows]], schema=SCHEMA)
    match extension:
        case "parquet":
            pq.write_table(table, path, row_group_size=chunk_rows, data_page_size=64)
        case "csv":
            lines = ["n,s", *(f"{n},{quoted(s)}" for n, s in rows)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
        case "jsonl":
            lines = [json.dumps({"n": n, "s": s}) for n, s in rows]
            path.write_text("\n".join(lines), encoding="utf-8")
        case _:
            new = ipc.new_stream if extension == "arrows" else ipc.new_file
            with new(path, SCHEMA) as writer:
                writer.write_table(table, max_chunksize=chunk_rows)
    return str(path)


@settings(deadline=None)
@given(
    rows=ROWS,
    extension=st.sampled_from(["parquet", "csv", "jsonl", "arrow", "arrows"]),
    chunk_rows=st.integers(1, 45),
    block_bytes=st.integers(256, 600),
    segment_rows=st.integers(1, 50),
    limit=st.none() | st.integers(1, 50),
    least=st.none() | st.sampled_from([-(2**58), 0, 2**58]),
)
def test_any_layout_of_a_file_gives_the_same_segments(
    rows, extension, chunk_rows, block_bytes, segment_rows, limit, least
):
    modules = (delimited, jsonl)
    before = [module.BLOCK_BYTES for module in modules]
    for module in modules:
        module.BLOCK_BYTES = block_bytes
    try:
        with tempfile.TemporaryDirectory() as folder:
            # Types come from the first block, where numbers could be text's first letters.
            first = write([(0, "x")], folder, extension, 1)
            first = Path(first).rename(Path(folder) / f"a.{extension}")
            files = [str(first), write(rows, folder, extension, chunk_rows)]
            source = open_source(files, where=None if least is None else f"n >= {least}")
            read = list(source.read(segment_rows, ["n", "s"], None if limit is None else limit + 1))
    finally:
        for module, size in zip(modules, before, strict=True):
            module.BLOCK_BYTES = size
    expected = [{"n": n, "s": s} for n, s in rows[:limit]]
    runs = [expected[at : at + segment_rows] for at in range(0, len(expected), segment_rows)]
    kept = [[row for row in run if least is None or row["n"] >= least] for run in runs]
    assert [batch.to_pylist() for _, batch in read[1:]] == kept
    assert [(s.index, s.file_index, s.row_begin, s.rows, s.rows_filtered) for s, _ in read[1:]] == [
        (1 + index, 1, index * segment_rows, len(passed), len(run) - len(passed))
        for index, (run, passed) in enumerate(zip(runs, kept, strict=True))
    ]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(0, 40),
    extension=st.sampled_from(["parquet", "csv", "jsonl", "arrow", "arrows"]),
    chunk_rows=st.integers(1, 45),
    segment_rows=st.integers(1, 20),
    limit=st.none() | st.integers(1, 70),
    done=st.sets(st.integers(0, 40)),
    least=st.none() | st.integers(0, 40),
)
def test_segments_that_are_done_are_left_out_and_change_no_other(
    rows, extension, chunk_rows, segment_rows, limit, done, least
):
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, count in (("a", 7), ("b", rows), ("c", 3)):
            (Path(folder) / name).mkdir()
            if count or extension not in ("csv", "jsonl"):
                content = [(number, f"{name}{number}") for number in range(count)]
                files.append(write(content, Path(folder) / name, extension, chunk_rows))
        source = open_source(files, where=None if least is None else f"n >= {least}")

        def read(done):
            segments = source.read(segment_rows, ["n", "s"], limit, done)
            return [(segment, batch.to_pylist()) for segment, batch in segments]

        every = read(())
        assert read(done) == [each for each in every if each[0].index not in done]


NUMBERS = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(),
    pa.uint64(), pa.float16(), pa.float32(), pa.float64(),
]  # fmt: skip


def extremes(kind):
    """Return the values of a type that are hardest to hold."""
    if pa.types.is_floating(kind):
        return {16: [65504.0, 6e-8], 32: [3.4e38, 1e-45], 64: [1.7e308, 5e-324]}[kind.bit_width]
    signed = pa.types.is_signed_integer(kind)
    bits = kind.bit_width - signed
    return [2**bits - 1, 2**bits - 2, -(2**bits) if signed else 0]


@given(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_a_common_type_holds_every_value_of_both_exactly(one, other):
    common = common_type(one, other)
    assert common == common_type(other, one)
    if common is None:
        return
    for kind in (one, other):
        values = pa.array(extremes(kind), kind)
        assert values.cast(common).cast(kind).equals(values)


def test_what_has_no_safe_common_type_has_none():
    assert common_type(pa.int64(), pa.float64()) is None
    assert common_type(pa.uint64(), pa.int64()) is None
    assert common_type(pa.string(), pa.int64()) is None
    assert common_type(pa.bool_(), pa.int8()) is None
    assert common_type(pa.timestamp("s"), pa.timestamp("us")) is None
    assert common_type(pa.list_(pa.float32(), 3), pa.list_(pa.float32(), 4)) is None
    text = pa.dictionary(pa.int8(), pa.string())
    assert common_type(text, pa.string()) == pa.string()
    assert common_type(pa.string(), pa.large_string()) == pa.large_string()
    assert common_type(pa.null(), pa.string()) == pa.string()
    items = pa.list_(pa.field("element", pa.int32()))
    assert common_type(items, pa.list_(pa.int64())) == pa.list_(pa.int64())


def arrow_rows(data):
    """Return the text of each row as Arrow tells them apart: of a width that none has."""
    rows = []

    def take(row):
        rows.append(row.text)
        return "skip"

    pacsv.read_csv(
        pa.BufferReader(data),
        pacsv.ReadOptions(column_names=[str(number) for number in range(40)], use_threads=False),
        pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=take),
    )
    return rows


@given(text=st.text('a",\r\n', min_size=1, max_size=30))
@settings(max_examples=500, deadline=None)
def test_rows_of_csv_end_where_arrow_ends_them(text):
    data = text.encode()
    end, is_quoted = rows_end(data)
    assert is_quoted == (arrow_rows(data + b"\nlast\n")[-1] != "last")
    if data[:end].strip() and data[end:].strip():
        assert arrow_rows(data) == arrow_rows(data[:end]) + arrow_rows(data[end:])


ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n\n"])
VALUES = st.sampled_from(["x", " ", "  ", "\t", '""', '" "', '"\n"', '"\r\n"', '","', 'x"'])


def csv_rows(text, names, block_bytes):
    """Return the rows of a file as they are read in blocks of so many bytes."""
    schema = pa.schema([(name, pa.string()) for name in names])
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "rows.csv"
        path.write_text(text, newline="")
        patch.setattr(delimited, "BLOCK_BYTES", block_bytes)
        file = InputFile("rows.csv", fs.LocalFileSystem(), str(path), "csv")
        return pa.Table.from_batches(delimited.read(file, schema, 1), schema).to_pydict()


@given(
    rows=st.lists(st.tuples(VALUES, VALUES, ENDS), max_size=30),
    names=st.sampled_from([["a"], ["a", "b"]]),
    before=st.sampled_from(["", "\n", "\r\n"]),
    end=ENDS,
    has_last_end=st.booleans(),
    block_bytes=st.integers(12, 60),
)
@settings(max_examples=300, deadline=None)
def test_csv_has_the_rows_that_arrow_finds_in_it(
    rows, names, before, end, has_last_end, block_bytes
):
    lines = [",".join(row[: len(names)]) + row[2] for row in rows]
    text = before + ",".join(names) + end + "".join(lines)
    text = text if has_last_end or not rows else text.rstrip("\r\n")
    whole = pacsv.read_csv(
        pa.BufferReader(text.encode()),
        pacsv.ReadOptions(use_threads=False),
        pacsv.ParseOptions(newlines_in_values=True),
        pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )
    assert csv_rows(text, names, block_bytes) == whole.to_pydict()


def test_blank_values_of_one_column_are_rows():
    rows = 2 * delimited.BLOCK_BYTES
    text = "a\n" + "x\n" * (rows // 4) + " \n" * rows + "y\n"
    assert len(csv_rows(text, ["a"], delimited.BLOCK_BYTES)["a"]) == rows // 4 + rows + 1
    assert csv_rows("a\n" + "1234567\n" * 8 + " \n", ["a"], 33)["a"] == ["1234567"] * 8 + [" "]
