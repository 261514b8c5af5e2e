"""Spark: DataFrames scored by ``mapInArrow``, and functions for ``predict_batch_udf``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import Parameter, Signature
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from tritonbulk.codec.predictions import ERROR_COLUMN, STATUS_COLUMN
from tritonbulk.errors import FailureLimitError
from tritonbulk.scorer import Scorer

_WIDENED = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20),
    pa.float16(): pa.float32(),
}
"""Types that Spark does not have, and those that hold all their values."""


def score_dataframe(df: DataFrame, scorer: Scorer) -> DataFrame:
    """Return the rows of ``df`` with their predictions, in the columns that `score` writes.

    The model that is served now is looked up, and every task insists on it. Each task keeps many
    requests in flight across the batches of its partition; rows keep their order in it. A task
    that is retried scores its partition again.

    Args:
        df: with the columns that the model needs.
        scorer: whose endpoints are reached from the executors; see `Scorer` for one a host.

    Raises:
        TritonbulkError: no server tells, or the rows do not fit the model; see its class.
    """
    pinned = scorer.pinned()
    schema = spark_schema(pinned.output_schema(df.limit(0).toArrow().schema))
    return df.mapInArrow(batch_mapper(pinned), from_arrow_schema(schema))


def batch_mapper(
    scorer: Scorer,
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for ``mapInArrow``; its rows have `spark_schema` of the scorer's schema.

    Give it a scorer that is `pinned`, or tasks may find different models.
    What it raises is what would stop `tritonbulk.score`; Spark then retries the task.
    """

    def map_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for scored in scorer.score_batches(batches):
            schema = spark_schema(scored.schema)
            yield scored if schema.equals(scored.schema) else scored.cast(schema)

    return map_batches


def spark_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema in the types that Spark has.

    Unsigned integers and FP16 become wider ones; lists and bytes lose their fixed size.
    """
    return pa.schema([pa.field(field.name, _widened(field.type)) for field in schema])


def _widened(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(_widened(kind.value_type))
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    return _WIDENED.get(kind, kind)


def predict_batch_fn(
    scorer: Scorer, columns: Sequence[str]
) -> Callable[[], Callable[..., dict[str, npt.NDArray[Any]]]]:
    """Return the ``make_predict_fn`` for ``pyspark.ml.functions.predict_batch_udf``.

    For code that has such a UDF already: one batch is under way a task, so `score_dataframe` is
    faster. The function returns every prediction by its column's name, and the status and error of
    each row by theirs, for a ``StructType`` that names those which are wanted. With
    ``status_columns=False`` a row that fails ends the task.

    The model that is served now is looked up, and every task insists on it.

    Args:
        scorer: the ``keep`` of which is not looked at: a UDF returns predictions alone.
        columns: names of the UDF's columns in their order, which the model's contract knows.
            Numbers only, and text; NaN and None stand for a null.

    Raises:
        TritonbulkError: no server tells; see its class.
    """
    names, pinned = list(columns), scorer.pinned()

    def make_predict_fn() -> Callable[..., dict[str, npt.NDArray[Any]]]:
        def predict(*given: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
            arrays = [_column(values) for values in _apart(given, len(names))]
            scored = pinned.score(pa.RecordBatch.from_arrays(arrays, names))
            return {
                name: _values(scored.column(name))
                for name in scored.schema.names
                if name not in names
            }

        # pyspark counts the parameters.
        kinds = [Parameter(f"c{at}", Parameter.POSITIONAL_ONLY) for at in range(len(names))]
        predict.__signature__ = Signature(kinds)  # type: ignore[attr-defined]
        return predict

    return make_predict_fn


def _apart(given: Sequence[npt.NDArray[Any]], columns: int) -> list[npt.NDArray[Any]]:
    if len(given) != columns:
        raise FailureLimitError(f"the UDF was given {len(given)} columns, and {columns} are named")
    return list(given)


def _column(values: npt.NDArray[Any]) -> pa.Array:
    """Return an array of shape [rows, …] as a column."""
    column = pa.array(values.reshape(-1), from_pandas=True)
    for size in reversed(values.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def _values(column: pa.Array) -> npt.NDArray[Any]:
    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
        return flat.reshape(len(column), -1)
    return np.asarray(column.to_numpy(zero_copy_only=False))


__all__ = [
    "ERROR_COLUMN",
    "STATUS_COLUMN",
    "batch_mapper",
    "predict_batch_fn",
    "score_dataframe",
    "spark_schema",
]
