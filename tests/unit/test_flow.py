"""Scorers at work: how far the flow of batches reads ahead, who is spared, who is blamed."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from tritonbulk.errors import DataError, StoppedError, blaming
from tritonbulk.scorer import pool as pools
from tritonbulk.scorer.flow import flow
from tritonbulk.scorer.work import Ready, Work


def test_one_large_batch_is_handed_over_only_as_far_as_bytes_allow() -> None:
    handed_over: list[int] = []

    def submit(rows: pa.RecordBatch, _: object) -> Future[pa.RecordBatch]:
        handed_over.append(len(rows))
        future: Future[pa.RecordBatch] = Future()
        future.set_result(rows)
        return future

    batch = pa.record_batch({"x": pa.array(range(1_000), pa.int64())})
    plan: Any = SimpleNamespace(outputs=())
    work: Any = SimpleNamespace(submit=submit)
    scored = flow(work, Ready(plan, batch.schema, 10, 200), [batch], batch.schema)
    next(scored)
    assert sum(handed_over) <= 30
    assert sum(map(len, scored)) == 990


def test_what_is_done_comes_back_after_each_batch_however_small() -> None:
    futures: list[Future[pa.RecordBatch]] = []

    def submit(*_: object) -> Future[pa.RecordBatch]:
        futures.append(Future())
        return futures[-1]

    batch = pa.record_batch({"x": pa.array(range(6), pa.int64())})
    plan: Any = SimpleNamespace(outputs=())
    work: Any = SimpleNamespace(submit=submit)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from [batch] * 2
        futures[0].set_result(batch)
        yield batch.slice(0, 1)
        raise AssertionError("read on")

    assert next(flow(work, Ready(plan, batch.schema, 10, 2**20), batches(), batch.schema)) is batch


def test_a_scorer_that_somebody_holds_is_not_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    def work(config: str, _: pa.Schema) -> Any:
        return SimpleNamespace(has_ended=False, close=lambda _: closed.append(config))

    monkeypatch.setattr(pools, "Work", work)
    pool: Any = pools.Pool()
    schema = pa.schema([])
    with ExitStack() as first:
        for name in "abcdef":
            first.enter_context(pool.hold(name, schema))
        with pool.hold("a", schema):
            pass
        assert not closed
    with pool.hold("f", schema):
        assert closed == ["b", "c"]
    pool.close()
    assert sorted(closed) == list("abcdef")


class Unfit(Work):
    """Ends when three batches are under way, because of the second."""

    async def _score(self) -> None:
        batches = self._segments()
        for _ in range(3):
            segment, _ = await anext(batches)
        raise blaming(DataError("row 7 is 'Jane Doe'"), segment.index - 1)


def test_what_is_wrong_with_the_rows_of_one_caller_is_told_no_other() -> None:
    config: Any = None
    batch = pa.record_batch({"x": pa.array([1], pa.int64())})
    work = Unfit(config, batch.schema)
    others, unfit, again = (work.submit(batch, caller) for caller in ("other", "unfit", "unfit"))
    for future in (unfit, again):
        with pytest.raises(DataError, match="Jane Doe"):
            future.result(60)
    with pytest.raises(StoppedError, match="hand this one over again"):
        others.result(60)
    with pytest.raises(StoppedError, match="another batch"):
        work.submit(batch, "late")
    with pytest.raises(DataError):
        work.submit(batch, "unfit")
