"""Daft: DataFrames scored by an asynchronous batch function."""

from __future__ import annotations

from typing import Any

import daft
import pyarrow as pa

from tritonbulk.scorer import Scorer

BATCH_ROWS = 16_384
"""Rows that Daft hands over at once unless told otherwise; they are cut into requests."""

BATCHES = 4
"""Batches under way at once unless told otherwise: while one comes back others are scored."""


def score_dataframe(
    df: daft.DataFrame,
    scorer: Scorer,
    *,
    batch_size: int = BATCH_ROWS,
    max_concurrency: int = BATCHES,
) -> daft.DataFrame:
    """Return the rows of ``df`` with their predictions, in the columns that `score` writes.

    Nothing is executed before it is read, but the model that is served now is looked up, and every
    worker insists on it.

    Args:
        df: with the columns that the model needs.
        scorer: whose endpoints are reached from the workers.
        batch_size: rows handed over at once.
        max_concurrency: how many such batches are under way at once.

    Raises:
        TritonbulkError: no server tells, or the rows do not fit the model; see its class.
    """
    schema = df.schema().to_pyarrow_schema()
    pinned = scorer.pinned()
    out = pinned.output_schema(schema)
    function = scoring_function(
        pinned, schema.names, out, batch_size=batch_size, max_concurrency=max_concurrency
    )
    return df.select(function(*(df[name] for name in schema.names)))


def scoring_function(
    scorer: Scorer,
    names: list[str],
    out: pa.Schema,
    *,
    batch_size: int = BATCH_ROWS,
    max_concurrency: int = BATCHES,
) -> Any:
    """Return a Daft function of columns that gives scored rows, one column for each of ``out``.

    Args:
        scorer: see `score_dataframe`, as for the others.
        names: of the columns that it is given, in their order.
        out: `Scorer.output_schema` of these.
        batch_size: rows handed over at once.
        max_concurrency: how many such batches are under way at once.
    """
    fields = {field.name: daft.DataType.from_arrow_type(field.type) for field in out}
    kind = pa.struct(list(out))

    class Scoring:
        def __init__(self, scorer: Scorer, names: list[str], kind: pa.DataType) -> None:
            self._scorer, self._names, self._kind = scorer, names, kind

        @daft.method.batch(
            return_dtype=daft.DataType.struct(fields), unnest=True, batch_size=batch_size
        )
        async def score(self, *columns: daft.Series) -> pa.Array:
            arrays = [_whole(column.to_arrow()) for column in columns]
            scored = await self._scorer.score_async(pa.RecordBatch.from_arrays(arrays, self._names))
            return scored.to_struct_array().cast(self._kind)

    made = daft.cls(Scoring, max_concurrency=max_concurrency)
    return made(scorer, names, kind).score


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
