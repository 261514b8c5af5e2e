"""Source and sink: bounded reading in order, durable parts that replace nothing."""

import errno
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tritonbulk.codec import Predictions
from tritonbulk.contract import OutputTensor, datatype
from tritonbulk.errors import InputError, OptionError, OutputError, SinkError, SourceError
from tritonbulk.sink import check_output, open_sink, output_schema
from tritonbulk.source import open_source

Y = OutputTensor("y", datatype("FP32"), (1,))


def write(path, begin, rows, row_group_size=None):
    table = pa.table({"id": np.arange(begin, begin + rows), "v": np.ones(rows)})
    pq.write_table(table, path, row_group_size=row_group_size or max(rows, 1))
    return str(path)


@pytest.mark.parametrize("row_group_size", [1, 7, 10, 1000])
@pytest.mark.parametrize("segment_rows", [1, 10, 13, 100])
def test_segments_hold_the_rows_of_the_files_in_order(tmp_path, row_group_size, segment_rows):
    files = [
        write(tmp_path / "a.parquet", 0, 25, row_group_size),
        write(tmp_path / "b.parquet", 25, 0),
        write(tmp_path / "c.parquet", 25, 10, row_group_size),
    ]
    source = open_source(files)
    assert source.rows == 35
    read = list(source.read(segment_rows, ["id"]))
    assert [segment.index for segment, _ in read] == list(range(len(read)))
    assert all(batch.num_rows == segment.rows for segment, batch in read)
    ids = [value for _, batch in read for value in batch.column("id").to_pylist()]
    assert ids == list(range(35))
    limited = [v for _, b in source.read(segment_rows, ["id"], 27) for v in b["id"].to_pylist()]
    assert limited == list(range(27))


def test_nulls_are_counted_by_the_statistics(tmp_path):
    one, other, silent = (str(tmp_path / name) for name in ("a.parquet", "b.parquet", "c.parquet"))
    table = pa.table({"a": [1, None, 3], "b": [1, 2, 3], "l": [[1], [2], None]})
    pq.write_table(table, one, row_group_size=2)
    pq.write_table(table.slice(1), other)
    pq.write_table(table, silent, write_statistics=["b"])
    assert open_source([one, other]).null_counts(["a", "b", "l"]) == {"a": 2, "b": 0}
    assert open_source([one, silent]).null_counts(["a", "b"]) == {"b": 0}


def test_inputs_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_source([str(tmp_path / "none.parquet")])
    with pytest.raises(InputError, match="is a folder"):
        open_source([str(tmp_path)])
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        open_source([str(tmp_path / "text.parquet")])


def test_files_of_different_schemas_are_refused(tmp_path):
    one = write(tmp_path / "a.parquet", 0, 2)
    pq.write_table(pa.table({"id": ["x"], "v": [1.0]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="different columns or types"):
        open_source([one, str(tmp_path / "b.parquet")])


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    name = write(tmp_path / "a.parquet", 0, 20)
    source = open_source([name])
    write(tmp_path / "a.parquet", 0, 15)
    with pytest.raises(SourceError, match="ends at row 15"):
        list(source.read(10, ["id"]))


def predictions(values):
    done = Predictions(len(values), [Y], ["y"])
    done.put(0, [np.array(values, dtype=np.float32).reshape(-1, 1)])
    return done


def kept(ids):
    return pa.record_batch({"id": pa.array(ids)})


def test_a_part_has_kept_columns_predictions_status_and_error(tmp_path):
    sink = open_sink(tmp_path / "out")
    part = sink.write(3, kept([1, 2]), predictions([0.5, 0.25]))
    sink.close()
    assert part.name == "part-00000003.parquet"
    table = pq.read_table(part, page_checksum_verification=True)
    assert table.to_pydict() == {
        "id": [1, 2],
        "y": [0.5, 0.25],
        "_tritonbulk_status": [0, 0],
        "_tritonbulk_error": [None, None],
    }
    assert table.schema == output_schema([pa.field("id", pa.int64())], [Y], ["y"])
    assert [p.name for p in (tmp_path / "out").iterdir() if p.is_file()] == [part.name]
    assert not (tmp_path / "out" / "_tritonbulk" / "tmp").exists()


def test_a_part_never_replaces_another(tmp_path):
    sink = open_sink(tmp_path)
    part = sink.write(0, kept([1]), predictions([1.0]))
    before = part.read_bytes()
    with pytest.raises(SinkError, match="appeared while"):
        sink.write(0, kept([2]), predictions([2.0]))
    assert part.read_bytes() == before
    assert list((tmp_path / "_tritonbulk" / "tmp").iterdir()) == []


def test_a_file_system_without_hard_links_does_as_well(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    sink = open_sink(tmp_path)
    part = sink.write(0, kept([1]), predictions([1.0]))
    before = part.read_bytes()
    with pytest.raises(SinkError, match="appeared while"):
        sink.write(0, kept([2]), predictions([2.0]))
    assert part.read_bytes() == before
    sink.close()
    assert not (tmp_path / "_tritonbulk" / "tmp").exists()


def test_nothing_may_be_kept(tmp_path):
    part = open_sink(tmp_path).write(0, kept([1, 2]).select([]), predictions([1.0, 2.0]))
    assert pq.read_table(part).column_names == ["y", "_tritonbulk_status", "_tritonbulk_error"]
    assert pq.read_table(part).num_rows == 2


def test_an_occupied_output_is_refused_and_left_alone(tmp_path):
    (tmp_path / "part-00000000.parquet").write_text("mine")
    with pytest.raises(OutputError, match="already holds parts"):
        check_output(tmp_path)
    with pytest.raises(OutputError, match="already holds parts"):
        open_sink(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["part-00000000.parquet"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_output(tmp_path / "file")


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(OptionError, match=r"two columns named 'y'.*--rename"):
        output_schema([pa.field("y", pa.int64())], [Y], ["y"])
    with pytest.raises(OptionError, match="_tritonbulk_status"):
        output_schema([], [Y], ["_tritonbulk_status"])
