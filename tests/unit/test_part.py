"""Part: what stands in its file, and that the same rows always make the same bytes."""

import io
import itertools
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonbulk.codec import Predictions
from tritonbulk.codec.response import Texts
from tritonbulk.contract import OutputTensor, datatype
from tritonbulk.errors import OptionError
from tritonbulk.part import check_writable, encode_part, output_schema, part_table, scored_rows


class Form(NamedTuple):
    out_format: str
    vectors: str


FORMS = [Form(name, vectors) for name in ("parquet", "arrow") for vectors in ("list", "binary")]


def outputs(dtype="FP32"):
    return [
        OutputTensor("score", datatype(dtype), (1,)),
        OutputTensor("embedding", datatype(dtype), (4,)),
        OutputTensor("map", datatype(dtype), (2, 3)),
        OutputTensor("flags", datatype("BOOL"), (2,)),
        OutputTensor("words", datatype("BYTES"), (2,)),
    ]


def scored(rows, dtype="FP32", failed=None):
    """Return predictions of which those of row ``failed`` are missing."""
    tensors = outputs(dtype)
    done = Predictions(rows, tensors, [tensor.name for tensor in tensors])

    def put(begin, end):
        answers = [
            np.arange(begin * size, end * size).astype(tensor.datatype.numpy).reshape(-1, *shape)
            for tensor in tensors[:-1]
            for shape, size in [(tensor.shape, int(np.prod(tensor.shape)))]
        ]
        words = pa.array([b"a word"] * (2 * (end - begin)), pa.large_binary())
        done.put(begin, [*answers, Texts((end - begin, 2), words)])

    if failed is None:
        put(0, rows)
    else:
        put(0, failed)
        done.fail(failed, 1, 13, "no")
        put(failed + 1, rows)
    return done


def kept(rows):
    columns = {
        "id": pa.array(range(rows), pa.int64()),
        "carrier": pa.array([f"carrier {row % 3}" for row in range(rows)], pa.string()),
        "name": pa.array([f"row {row}" for row in range(rows)], pa.string()),
        "tags": pa.array([["x", str(row)] for row in range(rows)], pa.list_(pa.string())),
    }
    return pa.record_batch(columns)


def encoded(table, form, names=("id", "carrier", "name", "tags")):
    file = io.BytesIO()
    encode_part(table, file, form.out_format, names)
    return file.getvalue()


def part(form, rows=50, dtype="FP32", failed=None):
    done = scored_rows(kept(rows), scored(rows, dtype, failed), form.vectors)
    return part_table(done, {"key": "value"})


def read(data, form, folder):
    path = folder / f"part.{form.out_format}"
    path.write_bytes(data)
    return ds.dataset(path, format=form.out_format).to_table()


def footer(data, form):
    if form.out_format == "arrow":
        return pa.ipc.open_file(data).schema.metadata
    return pq.read_metadata(pa.BufferReader(data)).metadata


def numbers(column, dtype):
    """Return the numbers of a column of vectors in either form, one behind the other."""
    field, values = column
    if pa.types.is_fixed_size_binary(field.type):
        return np.frombuffer(b"".join(values), field.metadata[b"tritonbulk.dtype"].decode())
    return np.array(values, dtype).reshape(-1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["INT8", "UINT16", "INT64", "FP16", "FP32", "FP64"])
def test_every_form_gives_back_every_value_and_null(form, dtype, tmp_path):
    data = encoded(part(form, dtype=dtype, failed=20), form)
    table = read(data, form, tmp_path)
    names = [tensor.name for tensor in outputs()]
    schema = output_schema(kept(1).schema, outputs(dtype), names, form.vectors)
    assert table.schema == schema
    assert footer(data, form)[b"key"] == b"value"
    assert [table[name].null_count for name in names] == [1] * 5
    assert table.select(names).slice(20, 1).to_pylist() == [dict.fromkeys(names)]
    numpy = datatype(dtype).numpy
    for name, size in (("embedding", 4), ("map", 6)):
        found = numbers((table.schema.field(name), table[name].slice(21).to_pylist()), numpy)
        assert (found == np.arange(21 * size, 50 * size).astype(numpy)).all()
    assert table["flags"][1].as_py() == [True, True], "bits stay a list"
    assert table["words"][1].as_py() == ["a word", "a word"]


def test_a_parquet_file_holds_its_metadata_once():
    form = Form("parquet", "list")
    data = encoded(part(form), form)
    # In the schema they would be a copy that is not sealed, and the one that readers show.
    assert pq.read_schema(pa.BufferReader(data)).metadata is None
    assert footer(data, form)[b"key"] == b"value"


def test_a_packed_vector_says_what_it_is():
    schema = part(Form("parquet", "binary"), dtype="FP16").schema
    assert schema.field("map").type == pa.binary(2 * 3 * 2)
    assert schema.field("map").metadata == {
        b"tritonbulk.dtype": b"float16",
        b"tritonbulk.shape": b"2,3",
    }


@pytest.mark.parametrize("form", FORMS)
def test_a_part_without_rows_has_all_columns(form, tmp_path):
    table = read(encoded(part(form, rows=0), form), form, tmp_path)
    assert table.num_rows == 0
    assert table.schema == part(form, rows=3).schema.remove_metadata()


def test_pages_are_cut_alike_however_many_chunks_there_are():
    form = Form("parquet", "list")
    whole = pa.table({"id": np.arange(300_000)})
    pieces = pa.concat_tables([whole.slice(0, 777), whole.slice(777)])
    assert encoded(pieces, form, ["id"]) == encoded(whole, form, ["id"])


@pytest.mark.parametrize("form", FORMS[:2])
def test_dictionaries_statistics_and_compression_stand_where_they_serve(form):
    group = pq.read_metadata(io.BytesIO(encoded(part(form, rows=3000), form))).row_group(0)
    columns = {
        column.path_in_schema.partition(".")[0]: column
        for column in map(group.column, range(group.num_columns))
    }
    with_dictionary = [name for name, each in columns.items() if each.has_dictionary_page]
    assert with_dictionary == ["carrier"], "texts that repeat, and no prediction"
    plain = {name for name, each in columns.items() if each.compression == "UNCOMPRESSED"}
    assert {"embedding", "map"} <= plain <= {"embedding", "map", "flags", "words"}
    assert all(columns[name].statistics is None for name in plain)
    assert all(columns[name].statistics.has_min_max for name in ("id", "score"))


@pytest.mark.parametrize("form", FORMS)
@given(cuts=st.lists(st.integers(0, 40), max_size=4), begin=st.integers(0, 20))
def test_how_rows_lie_in_memory_changes_no_byte(form, cuts, begin):
    whole = part(form, rows=60, failed=30)
    view = whole.slice(begin, 40)
    fresh = pa.Table.from_pylist(view.to_pylist(), schema=view.schema)
    edges = [0, *sorted(cuts), 40]
    pieces = [view.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    assert encoded(view, form) == encoded(fresh, form) == encoded(pa.concat_tables(pieces), form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "kind",
    [pa.int64(), pa.bool_(), pa.float16(), pa.string(), pa.large_binary(), pa.binary(3),
     pa.timestamp("us"), pa.decimal128(9, 2)],
    ids=str,
)  # fmt: skip
def test_what_lies_under_a_null_changes_no_byte(form, kind):
    size = 16 if pa.types.is_decimal(kind) else 8
    values = [pa.py_buffer(bytes([1]) * 4 * size), pa.py_buffer(bytes([2]) * 4 * size)]
    if kind in (pa.string(), pa.large_binary()):
        offsets = np.array([0, 1, 2, 3, 4], np.int32 if kind == pa.string() else np.int64)
        data = [[pa.py_buffer(offsets), pa.py_buffer(text)] for text in (b"aaaa", b"bbbb")]
    else:
        data = [[value] for value in values]
    no_value = pa.py_buffer(b"\0")
    one, other = (pa.Array.from_buffers(kind, 4, [no_value, *buffers]) for buffers in data)
    assert one.null_count == other.null_count == 4
    files = io.BytesIO(), io.BytesIO()
    for array, file in zip((one, other), files, strict=True):
        encode_part(pa.table({"k": array}), file, form.out_format, kept=["k"])
    assert files[0].getvalue() == files[1].getvalue()


def test_a_column_that_the_format_cannot_hold_is_refused_before_the_first_row():
    kept = [pa.field("k", pa.month_day_nano_interval())]
    with pytest.raises(OptionError, match=r"'k' .*cannot be written as parquet.*--keep"):
        check_writable(pa.schema(kept), "parquet")
    check_writable(pa.schema(kept), "arrow")


def test_a_kept_column_is_not_taken_for_a_leaf_of_a_vector():
    table = pa.table(
        {
            "y": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
            "y.z": pa.array(["a"]),
            "l": pa.array([[1]], pa.list_(pa.int8())),
        }
    )
    file = io.BytesIO()
    encode_part(table, file, "parquet", kept=["y.z", "l"])
    group = pq.read_metadata(file).row_group(0)
    leaves = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert leaves["y.z"].compression == leaves["l.list.element"].compression == "SNAPPY"
    assert leaves["l.list.element"].statistics is not None
    assert leaves["y.list.element"].compression == "UNCOMPRESSED"


def test_two_columns_of_one_name_are_refused():
    y = OutputTensor("y", datatype("FP32"), (1,))
    with pytest.raises(OptionError, match=r"two columns named 'y'.*--rename"):
        output_schema([pa.field("y", pa.int64())], [y], ["y"])
    with pytest.raises(OptionError, match="_tritonbulk_status"):
        output_schema([], [y], ["_tritonbulk_status"])
