"""Which transport a run is given by the server and the model."""

import asyncio

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.live.transport.wire import (
    opened,
)
from tritonbulk import score

pytestmark = pytest.mark.live


def test_a_server_that_shares_no_memory_is_given_a_stream(triton):
    async def main():
        async with opened("shm", triton.grpc, model="double") as wire:
            assert wire.transport.name == "stream"
            assert "no memory is shared" in wire.said[0]
            assert "restricted" in wire.said[0]

    asyncio.run(main())


def test_large_rows_go_through_shared_memory_to_the_embedded_server(models, tmp_path):
    values = pa.array(np.arange(200 * 300, dtype=np.float32))
    rows = pa.table({"x": pa.FixedSizeListArray.from_arrays(values, 300)})
    pq.write_table(rows, tmp_path / "rows.parquet")
    result = score(
        tmp_path / "rows.parquet", model="free", out=tmp_path / "out", repository=models,
        input_map=["x=x"], keep=(), segment_rows=100,
    )  # fmt: skip
    assert result.transport == "shm"
    assert pq.read_table(tmp_path / "out")["y"].to_pylist() == rows["x"].to_pylist()
