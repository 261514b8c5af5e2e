"""Whether contenders wrote the same: a fast wrong client must not be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.task import Task

RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""Sums in another order differ by the last bits of a float; another row's answer by far more."""


def disagreement(task: Task, other: Path) -> str:
    """Return in words how the outputs of a task and of another contender differ; "" if not.

    Args:
        task: that was carried out.
        other: output folder of the other contender.
    """
    column = task.workload.tensors[1]
    ours, theirs = (pq.read_table(folder, columns=["id", column]) for folder in (task.out, other))
    if len(ours) != task.rows or len(theirs) != task.rows:
        return f"{len(ours)} and {len(theirs)} rows, not {task.rows}"
    if not ours["id"].equals(theirs["id"]):
        return "the rows are not the same or not in the same order"
    one, two = _values(ours[column]), _values(theirs[column])
    if one.shape != two.shape:
        return f"{one.size} and {two.size} predictions"
    if not np.allclose(one, two, rtol=RELATIVE, atol=ABSOLUTE):
        return f"predictions differ by up to {np.abs(one - two).max():g}"
    return ""


def _values(column: pa.ChunkedArray) -> npt.NDArray[np.floating[Any]]:
    """Return all predictions, row after row; a null is a NaN, which agrees with nothing."""
    flat = column.combine_chunks()
    while pa.types.is_nested(flat.type):  # fixed-size lists from ours, lists from pandas
        flat = flat.flatten()
    return flat.to_numpy(zero_copy_only=False)
