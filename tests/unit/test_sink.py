"""Sink: durable parts that replace nothing."""

import errno
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tritonbulk.codec import Predictions
from tritonbulk.contract import OutputTensor, datatype
from tritonbulk.errors import OutputError, SinkError
from tritonbulk.part import PartFormat, output_schema
from tritonbulk.sink import check_output, open_sink

Y = OutputTensor("y", datatype("FP32"), (1,))


def predictions(values):
    done = Predictions(len(values), [Y], ["y"])
    done.put(0, [np.array(values, dtype=np.float32).reshape(-1, 1)])
    return done


def kept(ids):
    return pa.record_batch({"id": pa.array(ids, pa.int64())})


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


def test_a_part_tells_how_many_rows_the_filter_removed(tmp_path):
    sink = open_sink(tmp_path)
    some = sink.write(0, kept([1]), predictions([1.0]), rows_filtered=41)
    nothing = sink.write(1, kept([]), predictions([]), rows_filtered=42)
    assert pq.read_schema(some).metadata[b"tritonbulk.rows_filtered"] == b"41"
    assert pq.read_schema(nothing).metadata[b"tritonbulk.rows_filtered"] == b"42"
    assert pq.read_table(nothing).num_rows == 0


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


def test_a_part_has_the_form_that_was_asked_for(tmp_path):
    sink = open_sink(tmp_path, PartFormat("arrow", "binary"))
    part = sink.write(0, kept([1, 2]), predictions([0.5, 0.25]))
    assert part.name == "part-00000000.arrow"
    assert ds.dataset(part, format="arrow").to_table()["y"].to_pylist() == [0.5, 0.25]
    with pytest.raises(OutputError, match="already holds parts"):
        check_output(tmp_path)


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
