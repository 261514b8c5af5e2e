"""The simulated accelerator keeps its promises, through the real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tritonbulk.options import ScoreOptions
from tritonbulk.running import Observer
from tritonbulk.scoring import run_score
from tritonbulk.server.embedded import EmbeddedTriton

pytestmark = pytest.mark.live

REPOSITORY = Path(__file__).parents[2] / "examples" / "accelerator" / "model_repository"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedTriton(REPOSITORY, instances=3, stop_deadline_s=0) as server:
        yield server.grpc


async def ask(address: str, rows: int, requests: int) -> tuple[float, list[bool]]:
    """Send requests at once; return the seconds to the last answer, and which were right."""
    async with triton_aio.InferenceServerClient(address) as client:
        values = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
        tensor = triton_aio.InferInput("x", list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        await client.infer("accelerator", [tensor])  # its connection stands now
        began_s = time.perf_counter()
        answers = await asyncio.gather(
            *(client.infer("accelerator", [tensor]) for _ in range(requests))
        )
        took_s = time.perf_counter() - began_s
    found = [answer.as_numpy("y") for answer in answers]
    return took_s, [np.allclose(y, values.sum(1, keepdims=True), atol=1e-5) for y in found]


@pytest.mark.parametrize("rows", [1, 1000, 4000])
def test_a_batch_takes_its_time_and_answers_right(address, rows):
    took_s, right = asyncio.run(ask(address, rows, 1))
    least_s = 0.008 + 0.00005 * rows
    assert least_s <= took_s < least_s + 0.5
    assert right == [True]


def test_no_more_than_the_concurrency_execute_at_once(address):
    # Of three instances two execute: four batches of 4,000 rows take two turns.
    measured = [asyncio.run(ask(address, 4000, 4)) for _ in range(4)]
    assert 2 * 0.208 <= min(took_s for took_s, _ in measured) < 3 * 0.208
    assert all(all(right) for _, right in measured)


def test_a_batch_that_does_not_fit_is_out_of_memory(address):
    with pytest.raises(InferenceServerException, match="out of memory: a batch of 4001 rows"):
        asyncio.run(ask(address, 4001, 1))


def test_batches_that_the_server_joins_beyond_its_memory_cost_no_row(tmp_path):
    # 4,000 rows fit; while one request of 1,024 executes, four of those that wait are joined to the
    # 4,096 that are allowed.
    values = np.random.default_rng(4).standard_normal((40_000, 4)).astype(np.float32)
    columns = {f"x{index}": values[:, index] for index in range(4)}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    said: list[str] = []
    with EmbeddedTriton(REPOSITORY, instances=1, stop_deadline_s=0) as server:
        options = ScoreOptions(
            inputs=(str(tmp_path / "rows.parquet"),),
            model="accelerator",
            out=tmp_path / "out",
            endpoints=(server.grpc,),
            input_map={"x": tuple(columns)},
            batch_rows=1024,
            in_flight_max=8,
            max_outage_s=60.0,
        )
        result = asyncio.run(run_score(options, Observer(said.append)))
    assert (result.rows_ok, result.rows_failed) == (40_000, 0)
    table = pq.read_table(sorted((tmp_path / "out").glob("part-*.parquet")))
    assert np.allclose(table["y"].to_numpy(), values.sum(1), atol=1e-5)
    assert sum("fails on full batches of 4,096 rows" in line for line in said) == 1, said
