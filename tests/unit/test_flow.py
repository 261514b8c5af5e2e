"""How far the flow of batches through a scorer reads ahead."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from tritonbulk.scorer.flow import flow
from tritonbulk.scorer.work import Ready


def test_one_large_batch_is_handed_over_only_as_far_as_bytes_allow() -> None:
    handed_over: list[int] = []

    def submit(rows: pa.RecordBatch) -> Future[pa.RecordBatch]:
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
