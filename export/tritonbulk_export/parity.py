"""Parity: the graph gives the source model's answers to every sample row. Fails closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tritonbulk.contract import InputTensor, datatype, gather
from tritonbulk.errors import InputError, ParityError
from tritonbulk_export.runtime import Session
from tritonbulk_export.spec import (
    Answers,
    OutputParity,
    Parity,
    SourceModel,
    Tensor,
    Tensors,
    Tolerance,
)

CHUNK_ROWS = 8192
FLOAT16_TOLERANCE = Tolerance(1e-3, 1e-3)


def gathered(batch: pa.RecordBatch, inputs: Sequence[InputTensor]) -> Tensors:
    """Return all input tensors of ``batch``."""
    return {tensor.name: gather(batch, tensor) for tensor in inputs}


def compare(
    source: SourceModel, session: Session, sample: pa.Table, tolerance: Tolerance
) -> Parity:
    """Return how the graph's answers to every sample row compare with the source model's.

    The source is fed with the same tensors, float32 where the graph takes float32.

    Raises:
        InputError: a value of the sample cannot be fed; names column and row. No retry.
        ParityError: a number is further off than ``tolerance``, or a label differs where the
            source is not undecided; names the first such row. A retry does not help.
    """
    wide = _widened(source.inputs) if source.takes_float64 else ()
    seen: dict[str, OutputParity] = {}
    first_row = 0
    for batch in sample.to_batches(max_chunksize=CHUNK_ROWS):
        try:
            tensors = gathered(batch, source.inputs)
        except InputError as error:
            raise InputError(f"{error} (rows counted from sample row {first_row})") from error
        widely = source.predict(gathered(batch, wide)) if wide else None
        expected = source.predict(tensors)
        case = _Case(first_row, tolerance)
        for name, found in session.run(tensors).items():
            exact = None if widely is None else widely.outputs.get(name)
            figures = _compared(name, found, expected, exact, case)
            seen[name] = _worst(seen[name], figures) if name in seen else figures
        first_row += len(batch)
    return Parity(rows=first_row, outputs=seen)


def proved_nulls(
    source: SourceModel, session: Session, tensors: Tensors, tolerance: Tolerance
) -> tuple[InputTensor, ...]:
    """Return the source's inputs, whose nulls become NaN only where that is seen to be right.

    A sample need not have a null in every column, and converters differ from their frameworks just
    there. So NaN is put into one column after the other, and into all at once; a column whose rows
    the graph then answers otherwise than the source refuses nulls.

    Args:
        source: the model.
        session: of the graph.
        tensors: some rows to put NaN into.
        tolerance: as in `compare`.

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
        mask = _wrong(found, _reference(name, found, expected), expected.margin, tolerance)
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


def _widened(inputs: Sequence[InputTensor]) -> tuple[InputTensor, ...]:
    if all(tensor.datatype.name != "FP32" for tensor in inputs):
        return ()
    return tuple(
        replace(tensor, datatype=datatype("FP64")) if tensor.datatype.name == "FP32" else tensor
        for tensor in inputs
    )


def _compared(
    name: str, found: Tensor, expected: Answers, wide: Tensor | None, case: _Case
) -> OutputParity:
    reference = _reference(name, found, expected)
    wrong = _wrong(found, reference, expected.margin, case.tolerance)
    if wrong.any():
        spot = tuple(np.argwhere(wrong)[0])
        raise ParityError(
            f"output {name!r} is {found[spot]!s} at sample row {case.first_row + spot[0]}, the "
            f"source model gives {reference[spot]!s} ({int(wrong.sum())} of {wrong.size} values "
            f"there exceed atol {case.tolerance.atol:g} + rtol {case.tolerance.rtol:g}), so "
            "nothing was published; mend the model, or let --atol and --rtol suit its scale"
        )
    if found.dtype.kind != "f":
        return OutputParity(0.0, 0.0, flips=int(np.asarray(found != reference).sum()))
    off = distance(found, reference)
    floor = case.tolerance.atol or np.finfo(np.float64).tiny
    return OutputParity(
        max_abs=float(off.max()),
        max_rel=float((off / np.maximum(_magnitude(reference), floor)).max()),
        max_abs_float64=None if wide is None else float(distance(found, wide).max()),
    )


def _reference(name: str, found: Tensor, expected: Answers) -> Tensor:
    reference = expected.outputs.get(name)
    if reference is None or reference.shape != found.shape:
        shape = None if reference is None else list(reference.shape)
        raise ParityError(
            f"output {name!r} has shape {list(found.shape)}, the source model gives {shape}; this "
            "kind of model is not supported"
        )
    return reference


@dataclass(frozen=True, slots=True)
class _Case:
    """One chunk: its first sample row, and the tolerance."""

    first_row: int
    tolerance: Tolerance


def _wrong(
    found: Tensor,
    reference: Tensor,
    margin: npt.NDArray[np.floating] | None,
    tolerance: Tolerance,
) -> npt.NDArray[np.bool_]:
    """Return which values are no answer of the source's."""
    if found.dtype.kind == "f":
        limit = effective(tolerance, found.dtype)
        allowed = limit.atol + limit.rtol * _magnitude(reference)
        return np.asarray(distance(found, reference) > allowed)
    differs = np.asarray(found != reference)
    decided = np.ones(len(found), bool) if margin is None else margin > tolerance.atol
    return np.asarray(differs & decided.reshape(-1, *[1] * (differs.ndim - 1)))


def _magnitude(reference: Tensor) -> npt.NDArray[np.float64]:
    """Return absolute values; 0 for NaN and infinity, which leave no room for a difference."""
    size = np.abs(reference.astype(np.float64))
    size[~np.isfinite(size)] = 0.0
    return size


def distance(found: Tensor, reference: Tensor) -> npt.NDArray[np.float64]:
    """Return the absolute differences; 0 where both are the same NaN or infinity."""
    left, right = found.astype(np.float64), reference.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        off = np.abs(left - right)
    # One NaN or infinity against a number is as wrong as can be.
    off[np.isnan(off)] = np.inf
    off[same] = 0.0
    return off


def effective(tolerance: Tolerance, dtype: np.dtype[np.generic]) -> Tolerance:
    """Return ``tolerance``, widened where the output's own dtype is coarser."""
    if dtype != np.float16:
        return tolerance
    return Tolerance(
        max(tolerance.atol, FLOAT16_TOLERANCE.atol), max(tolerance.rtol, FLOAT16_TOLERANCE.rtol)
    )


def _worst(left: OutputParity, right: OutputParity) -> OutputParity:
    wide = [p.max_abs_float64 for p in (left, right) if p.max_abs_float64 is not None]
    return OutputParity(
        max_abs=max(left.max_abs, right.max_abs),
        max_rel=max(left.max_rel, right.max_rel),
        max_abs_float64=max(wide, default=None),
        flips=left.flips + right.flips,
    )
