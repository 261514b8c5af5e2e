"""Nulls become NaN only where source and graph are seen to treat NaN alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tritonbulk.contract import InputTensor
from tritonbulk_export.limits import Limits
from tritonbulk_export.parity.compare import reference_of, wrong_values
from tritonbulk_export.runtime import Session
from tritonbulk_export.spec import SourceModel, Tensors


def proved_nulls(
    source: SourceModel, session: Session, tensors: Tensors, limits: Limits
) -> tuple[InputTensor, ...]:
    """Return the source's inputs, whose nulls become NaN only where that is seen to be right.

    A sample need not have a null in every column, and converters differ from their frameworks just
    there. So NaN is put into one column after the other, and into all at once; a column whose rows
    the graph then answers otherwise than the source refuses nulls.

    Args:
        source: the model.
        session: of the graph.
        tensors: some rows to put NaN into.
        limits: as in `compare`.

    Raises:
        ParityError: an output has not the shape that the source gives; no retry.
    """
    spots = [
        (tensor.name, position if len(tensor.columns) > 1 else slice(None))
        for tensor in source.inputs
        for position, column in enumerate(tensor.columns)
        if column.null == "nan"
    ]
    if not spots:
        return source.inputs
    tried = _with_nulls(tensors, spots)
    expected = source.predict(tried)
    wrong = np.zeros(len(spots) + 1, dtype=bool)
    for name, found in session.run(tried).items():
        mask = wrong_values(found, reference_of(name, found, expected), expected.margin, limits)
        wrong |= mask.reshape(len(mask), -1).any(axis=1)
    refused = iter(wrong[:-1] | wrong[-1])
    return tuple(
        replace(
            tensor,
            columns=tuple(
                replace(column, null="refuse", unknown="refuse")
                if column.null == "nan" and next(refused)
                else column
                for column in tensor.columns
            ),
        )
        for tensor in source.inputs
    )


def _with_nulls(tensors: Tensors, spots: Sequence[tuple[str, int | slice]]) -> Tensors:
    """Return rows, cycled, with NaN in one of ``spots`` each and in every spot of the last."""
    rows = np.arange(len(spots) + 1) % len(next(iter(tensors.values())))
    tried = {name: tensor[rows] for name, tensor in tensors.items()}
    for row, (name, position) in enumerate(spots):
        for place in (row, -1):
            # A tensor of one scalar a row has no second dimension.
            tried[name].reshape(len(rows), -1)[place, position] = np.nan
    return tried
