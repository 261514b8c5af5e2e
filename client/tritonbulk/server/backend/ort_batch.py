"""Many requests, few runs: which rows go through the model together.

Triton hands over a list of requests to execute as one batch. Small ones are joined along axis 0 and
run once; large ones are cut, because a run over about a thousand rows stays in the processor's
caches. Both rest on Triton's batching contract, by which rows do not depend on each other. If a
joined run fails, its requests are run one by one, so that one bad request fails alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")
#: Arrays by the name of the input or output.
Tensors = dict[str, np.ndarray]
#: Runs the model once, on inputs, for outputs.
Run = Callable[[Tensors], Tensors]


class RowCountError(ValueError):
    """An output has not one row for each row of the inputs."""


def run_batch(run: Run, requests: Sequence[Tensors], rows_max: int) -> list[Tensors | Exception]:
    """The outputs of each request, in order; in their place the error of one that failed.

    Args:
        run: runs the model once; axis 0 of every tensor it takes and gives counts rows.
        requests: the inputs of each request.
        rows_max: the most rows in one run; 0 means no limit.
    """

    def run_rows(inputs: Tensors) -> Tensors:
        return _run_cut(run, inputs, rows_max)

    results: list[Tensors | Exception] = []
    for group in _groups(requests, rows_max):
        results += _run_group(run_rows, group)
    return results


def attempt_each(function: Callable[[T], R], items: Sequence[T]) -> list[R | Exception]:
    """What the function gives for each item, in order; in its place the error that it raised."""
    results: list[R | Exception] = []
    for item in items:
        try:
            results.append(function(item))
        except Exception as error:
            results.append(error)
    return results


def _groups(requests: Sequence[Tensors], rows_max: int) -> Iterator[list[Tensors]]:
    """Neighbours that fit into one run together; a request that is larger stands alone."""
    group: list[Tensors] = []
    group_rows = 0
    for inputs in requests:
        rows = row_count(inputs)
        if group and rows_max and group_rows + rows > rows_max:
            yield group
            group, group_rows = [], 0
        group.append(inputs)
        group_rows += rows
    if group:
        yield group


def _run_group(run: Run, group: Sequence[Tensors]) -> list[Tensors | Exception]:
    if len(group) > 1:
        # An error here belongs to one of the requests; running them one by one shows to which.
        with contextlib.suppress(Exception):
            return [*_split(run(_join(group)), [row_count(inputs) for inputs in group])]
    return attempt_each(run, group)


def _join(pieces: Sequence[Tensors]) -> Tensors:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _split(tensors: Tensors, row_counts: Sequence[int]) -> Iterator[Tensors]:
    start = 0
    for rows in row_counts:
        yield {name: array[start : start + rows] for name, array in tensors.items()}
        start += rows


def _run_cut(run: Run, inputs: Tensors, rows_max: int) -> Tensors:
    rows = row_count(inputs)
    if not rows_max or rows <= rows_max:
        return _with_rows(run(inputs), rows)
    pieces = _split(inputs, [min(rows_max, rows - start) for start in range(0, rows, rows_max)])
    return _join([_with_rows(run(piece), row_count(piece)) for piece in pieces])


def row_count(inputs: Tensors) -> int:
    """The rows of a request: the length of axis 0, which all its tensors share."""
    return len(next(iter(inputs.values())))


def _with_rows(outputs: Tensors, rows: int) -> Tensors:
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise RowCountError(
                f"output '{name}' has shape {list(array.shape)} for a batch of {rows} rows: the "
                "model does not keep one row for each input row; serve it with max_batch_size 0"
            )
    return outputs
