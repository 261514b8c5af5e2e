"""One conformance suite for all transports, against the real server."""

import asyncio

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.live.transport.wire import (
    KINDS,
    WIDE,
    ask_many,
    is_answer,
    numbered,
    opened,
)
from tritonbulk import score
from tritonbulk.transport import (
    AttemptFailedError,
)

pytestmark = pytest.mark.live


@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_requests_of_random_size_get_their_own_answers(kind, server):
    async def main():
        async with opened(kind, server.grpc, slots=12) as wire:
            # More tasks than slots: some requests must do without.
            assert await ask_many(wire, 2_000, workers=24) == 2_000
            assert wire.transport.name == kind
            assert wire.said == []
            if kind == "shm":
                assert wire.slots_used() == (12, 0)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_scored_whole_with_a_short_last_batch_and_a_bad_row(kind, server, tmp_path):
    rows = pa.concat_batches([numbered(0, 501, special=-1), numbered(501, 500)])
    pq.write_table(pa.Table.from_batches([rows]), tmp_path / "rows.parquet")
    result = score(
        tmp_path / "rows.parquet", model="two", out=tmp_path / "out", endpoints=[server.grpc],
        input_map=["x=x", "n=n"], transport=kind, trust_shared_memory=True, segment_rows=300,
        keep=(),
    )  # fmt: skip
    assert result.transport == kind
    assert (result.rows_ok, result.rows_failed) == (1_000, 1)
    table = pq.read_table(tmp_path / "out").to_pydict()
    assert table["m"] == [None if row == 500 else row + 1 for row in range(1_001)]
    assert [None if y is None else y[0] for y in table["y"]] == [
        None if row == 500 else 2.0 * row for row in range(1_001)
    ]
    assert table["_tritonbulk_status"][500] == 3
    assert table["_tritonbulk_error"][500] == "minus one is bad"


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_has_the_servers_status_and_touches_no_other_request(kind, server):
    async def main():
        async with opened(kind, server.grpc) as wire, opened(kind, server.grpc, version="9") as old:
            good = asyncio.create_task(wire.ask(numbered(0, 10)))
            with pytest.raises(AttemptFailedError) as bad:
                await wire.ask(numbered(0, 10, special=-1))
            assert (bad.value.failure.status, bad.value.failure.code) == ("INVALID_ARGUMENT", 3)
            assert bad.value.failure.text == "minus one is bad"
            with pytest.raises(AttemptFailedError) as unknown:
                await old.ask(numbered(0, 10))
            assert unknown.value.failure.status == "NOT_FOUND"
            assert "version 9 is not found" in unknown.value.failure.text
            assert is_answer(await good, 0, 10)
            assert wire.transport.name == old.transport.name == kind

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_holds_and_a_late_answer_harms_nobody(kind, server):
    async def main():
        async with opened(kind, server.grpc, slots=4) as wire:
            for first in range(3):
                with pytest.raises(AttemptFailedError) as late:
                    await wire.ask(numbered(first, 5, special=-2), timeout_s=0.1)
                assert late.value.failure.status == "DEADLINE_EXCEEDED"
            if kind == "shm":
                assert wire.slots_used()[1] >= 1, "the server may still write to them"
            assert await ask_many(wire, 50, workers=8) == 50
            if kind == "shm":
                async with asyncio.timeout(5):
                    while wire.slots_used() != (4, 0):  # late replies give the slots back
                        await asyncio.sleep(0.05)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_64_mebibytes_goes_there_and_back(kind, server):
    values = np.arange(16 * WIDE, dtype=np.float32)
    rows = pa.record_batch({"x": pa.FixedSizeListArray.from_arrays(pa.array(values), WIDE)})

    async def main():
        async with opened(kind, server.grpc, model="wide", slots=1) as wire:
            (answer,) = await wire.ask(rows)
            assert np.array_equal(answer.reshape(-1), values)
            assert wire.transport.name == kind
            if kind == "shm":
                assert wire.slots_used() == (1, 0)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_text_and_free_dimensions_go_there_and_back(kind, server):
    words = ["", "a", "grün" * 9, "x" * 100_000, "日本"]

    async def main():
        async with opened(kind, server.grpc, model="text") as wire:
            (answer,) = await wire.ask(pa.record_batch({"x": pa.array(words)}))
            assert [text.decode() for text in answer.to_pylist()] == words
            for count in (1, 2, 5):
                (answer,) = await wire.ask(pa.record_batch({"x": pa.array(words[:count])}))
                assert [text.decode() for text in answer.to_pylist()] == words[:count]
        async with opened(kind, server.grpc, model="free") as wire:
            for width in (1, 3, 70_000):
                values = pa.array(np.arange(2 * width, dtype=np.float32))
                lists = pa.FixedSizeListArray.from_arrays(values, width)
                (answer,) = await wire.ask(pa.record_batch({"x": lists}))
                assert answer.tolist() == [lists[0].as_py(), lists[1].as_py()]

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_goes_there_and_back_rounded_to_nearest_even(kind, server):
    async def main():
        values = [1.0, 1 + 2**-8, 1 + 3 * 2**-8, -0.5, float("inf"), 1e-3]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), 2)
        async with opened(kind, server.grpc, model="half") as wire:
            (answer,) = await wire.ask(pa.record_batch({"x": lists}))
            assert answer.astype(float).tolist() == [
                [1.0, 1.0],
                [1 + 2**-6, -0.5],
                [float("inf"), 0.00099945068359375],
            ]

    asyncio.run(main())
