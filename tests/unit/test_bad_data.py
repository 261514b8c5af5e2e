"""Bad data stop a run in one sentence with file, rows and column, whatever the format."""

import asyncio
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from tritonbulk.assembly import make_limits, make_pipeline, naming
from tritonbulk.contract import InputTensor, OutputTensor, datatype
from tritonbulk.driver import drive
from tritonbulk.errors import TritonbulkError, UsageError
from tritonbulk.jobrun import part_writer, scratch_job
from tritonbulk.options import ScoreOptions
from tritonbulk.plan import make_plan
from tritonbulk.source import open_source
from tritonbulk.testing import ScriptedTransport
from tritonbulk.transport import ServedModel

ROWS = 20
BAD_ROW = 13
FORMATS = ["parquet", "arrow", "arrows", "jsonl", "csv"]


async def confirm(_):
    return frozenset()


def score(path, kind, shape):
    """Score column ``a`` in batches of 8 rows and return what stands in the output."""
    options = ScoreOptions(
        inputs=(str(path),), model="m", out=path.parent / "out", input_map={"x": ("a",)}
    )
    outputs = (OutputTensor("y", datatype("INT32"), (1,)),)
    model = ServedModel("m", "1", 8, (InputTensor("x", datatype(kind), shape),), outputs, None)
    server = ScriptedTransport(lambda inputs: {"y": np.zeros((len(inputs["x"]), 1), np.int32)})
    source = open_source(options.inputs)
    plan = make_plan(options, model, source.schema, None, source.name)
    segments = source.read(10, plan.columns)
    write = part_writer(scratch_job(options.out), plan.keep)
    pipeline = make_pipeline(naming(source), segments, model, plan, write, confirm)
    limits = make_limits(options, source.rows, plan.request_bytes)
    return asyncio.run(drive(pipeline, limits, [server], lambda *_: None, lambda: None)).rows_ok


def write(path, good, bad, kind):
    """Write rows of ``good`` values with a ``bad`` one at `BAD_ROW`."""
    values = [good] * BAD_ROW + [bad] + [good] * (ROWS - BAD_ROW - 1)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"a": value, "b": 0}) + "\n" for value in values))
    elif path.suffix == ".csv":
        path.write_text("a,b\n" + "".join(f"{'' if v is None else v},0\n" for v in values))
    else:
        table = pa.table({"a": pa.array(values, kind), "b": [0] * ROWS})
        if path.suffix == ".parquet":
            pq.write_table(table, path)
            return
        new = ipc.new_stream if path.suffix == ".arrows" else ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table)


BAD_VALUES = [
    ("a float that overflows", 1.5, 1e300, pa.float64(), "FP32", (1,), "at row 3, which overflows"),
    ("a float beyond half", 1.5, 7e4, pa.float64(), "FP16", (1,), "at row 3, which overflows"),
    ("a float beyond BF16", 1.5, 3.4e38, pa.float64(), "BF16", (1,), "at row 3, which overflows"),
    ("a fraction for an integer", 1.0, 1.5, pa.float64(), "INT32", (1,), "1.5"),
    ("an integer that overflows", 1, 300, pa.int64(), "INT8", (1,), "300 not in range"),
    ("a negative for unsigned", 1, -1, pa.int64(), "UINT64", (1,), "-1 not in range"),
    ("an integer no float holds", 1, 2**24 + 1, pa.int64(), "FP32", (1,), "16777217"),
    ("an integer no half holds", 1, 2049, pa.int64(), "FP16", (1,), "2049 would be rounded"),
    ("an integer beyond half", 1, 70000, pa.int64(), "FP16", (1,), "70000 would be rounded"),
    ("an integer no BF16 holds", 1, 257, pa.int64(), "BF16", (1,), "257 would be rounded"),
    ("no truth value", 1, 2, pa.int64(), "BOOL", (1,), "holds 2 at row 3"),
    ("a null", 1, None, pa.int64(), "INT64", (1,), "a null at row 3"),
    ("a null beside fractions", 1.5, None, pa.float64(), "FP32", (1,), "a null at row 3"),
    ("a null for text", "x", None, pa.string(), "BYTES", (1,), "a null at row 3"),
    ("a ragged list", [1, 2], [1], pa.list_(pa.int64()), "INT64", (2,), r"first at row 3"),
    ("a ragged list, free", [1, 2], [1], pa.list_(pa.int64()), "INT64", (-1,), r"first at row 3"),
    ("a null list", [1, 2], None, pa.list_(pa.int64()), "INT64", (2,), "null list at row 3"),
    ("a null in a list", [1, 2], [1, None], pa.list_(pa.int64()), "INT64", (2,), "3, element 1"),
    ("an overflow in a list", [1.0], [1e300], pa.list_(pa.float64()), "FP32", (1,), "at row 3,"),
]  # fmt: skip


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize(
    ("good", "bad", "kind", "wire", "shape", "message"),
    [each[1:] for each in BAD_VALUES],
    ids=[each[0] for each in BAD_VALUES],
)
def test_a_bad_value_is_named_by_file_rows_and_column(
    extension, good, bad, kind, wire, shape, message, tmp_path
):
    if extension == "csv" and (isinstance(good, list) or (good, bad) == ("x", None)):
        pytest.skip("CSV holds no lists, and an empty text is no null")
    path = tmp_path / f"in.{extension}"
    write(path, good, bad, kind)
    with pytest.raises(TritonbulkError, match=message) as caught:
        score(path, wire, shape)
    text = str(caught.value)
    assert str(path) in text
    assert "counted from row 10 (8 rows)" in text
    assert "column 'a'" in text
    assert text.isprintable()
    write(path, good, good, kind)
    (tmp_path / "out").rename(tmp_path / "first")
    assert score(path, wire, shape) == ROWS


@pytest.mark.parametrize("extension", FORMATS)
def test_text_that_is_no_utf_8_is_named_by_file_rows_and_column(extension, tmp_path):
    path = tmp_path / f"in.{extension}"
    write(path, "good", "evil", pa.string())
    data = path.read_bytes()
    assert b"evil" in data
    path.write_bytes(data.replace(b"evil", b"ev\xffl"))
    with pytest.raises(UsageError, match=r"(?i)utf-?8") as caught:
        score(path, "BYTES", (1,))
    text = str(caught.value)
    assert str(path) in text
    assert "'a'" in text
    assert extension == "csv" or "rows" in text


@pytest.mark.parametrize("extension", FORMATS)
def test_a_column_of_another_kind_is_refused_before_the_first_row(extension, tmp_path):
    path = tmp_path / f"in.{extension}"
    write(path, "x", "y", pa.string())
    with pytest.raises(UsageError, match=r"column 'a' in .*in\..* is string, but tensor 'x'"):
        score(path, "FP32", (1,))
    assert not (tmp_path / "out").exists()
