"""Sink: a part's bytes, and its schema."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tritonbulk.codec import Predictions
from tritonbulk.contract import OutputTensor, datatype
from tritonbulk.errors import OptionError
from tritonbulk.sink import output_schema, write_part

Y = OutputTensor("y", datatype("FP32"), (1,))


def predictions(values):
    done = Predictions(len(values), [Y], ["y"])
    done.put(0, [np.array(values, dtype=np.float32).reshape(-1, 1)])
    return done


def kept(ids):
    return pa.record_batch({"id": pa.array(ids, pa.int64())})


def written(rows, done, footer=()):
    file = io.BytesIO()
    write_part(file, rows, done, dict(footer))
    return file.getvalue()


def test_a_part_has_kept_columns_predictions_status_and_error():
    data = written(kept([1, 2]), predictions([0.5, 0.25]), {"k": "v"}.items())
    table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    assert table.to_pydict() == {
        "id": [1, 2],
        "y": [0.5, 0.25],
        "_tritonbulk_status": [0, 0],
        "_tritonbulk_error": [None, None],
    }
    assert table.schema.equals(output_schema([pa.field("id", pa.int64())], [Y], ["y"]))
    assert pq.read_metadata(pa.BufferReader(data)).metadata[b"k"] == b"v"


def test_the_same_rows_give_the_same_bytes_however_they_were_read():
    whole, cut = kept(range(100)), pa.concat_batches([kept(range(40)), kept(range(40, 100))])
    done = [predictions(np.arange(100)) for _ in range(3)]
    first = written(whole, done[0])
    assert first == written(cut, done[1])
    assert first == written(kept(range(-5, 100)).slice(5), done[2])


def test_damage_in_a_page_is_noticed_by_readers():
    data = bytearray(written(kept(range(1000)), predictions(np.random.default_rng(1).random(1000))))
    data[len(data) // 2] ^= 1
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(pa.BufferReader(bytes(data)), page_checksum_verification=True)


def test_nothing_may_be_kept():
    table = pq.read_table(
        pa.BufferReader(written(kept([1, 2]).select([]), predictions([1.0, 2.0])))
    )
    assert table.column_names == ["y", "_tritonbulk_status", "_tritonbulk_error"]
    assert table.num_rows == 2


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(OptionError, match=r"two columns named 'y'.*--rename"):
        output_schema([pa.field("y", pa.int64())], [Y], ["y"])
    with pytest.raises(OptionError, match="_tritonbulk_status"):
        output_schema([], [Y], ["_tritonbulk_status"])
