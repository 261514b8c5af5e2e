"""Rows for the proof: different from each other, from the sample as far as it has any.

Equal rows would hide whatever one row does to another, and so would rows without finite answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonbulk_export.spec import Tensor, Tensors

ROWS = 64
_SEED = 20_240_607


def taken(tensors: Tensors, rows: npt.NDArray[np.intp] | slice) -> Tensors:
    """Return the chosen rows of every tensor."""
    return {name: tensor[rows] for name, tensor in tensors.items()}


def row_count(tensors: Tensors) -> int:
    """Return how many rows there are."""
    return len(next(iter(tensors.values())))


def distinct(tensors: Tensors) -> npt.NDArray[np.intp]:
    """Return the positions of rows that differ from all before them, in order."""
    first: dict[tuple[object, ...], int] = {}
    for row in range(row_count(tensors)):
        key = tuple(
            tuple(tensor[row].ravel().tolist())
            if tensor.dtype == object
            else np.ascontiguousarray(tensor[row]).tobytes()
            for tensor in tensors.values()
        )
        first.setdefault(key, row)
    return np.array(sorted(first.values()), dtype=np.intp)


def made_up(tensors: Tensors, rows: int, seed: int = _SEED) -> Tensors:
    """Return ``rows`` rows that the sample does not have, of the kind that it has.

    Numbers with a fraction are drawn around those of the sample, of the spread that it has, or of
    one; all other values are shuffled, each column by itself, so that codes stay codes.

    Args:
        tensors: rows of the sample, at least one.
        rows: how many to make.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    return {name: _made_up(tensor, rows, random) for name, tensor in tensors.items()}


def _made_up(tensor: Tensor, rows: int, random: np.random.Generator) -> Tensor:
    flat = tensor.reshape(len(tensor), -1)
    chosen = np.stack(
        [flat[random.integers(len(flat), size=rows), column] for column in range(flat.shape[1])],
        axis=1,
    )
    if tensor.dtype.kind == "f":
        chosen = _around(flat.astype(np.float64), rows, random).astype(tensor.dtype)
    return chosen.reshape(rows, *tensor.shape[1:])


def _around(
    known: npt.NDArray[np.float64], rows: int, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    finite = np.isfinite(known)
    count = np.maximum(finite.sum(axis=0), 1)
    mean = np.where(finite, known, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(finite, (known - mean) ** 2, 0.0).sum(axis=0) / count)
    spread = np.where(spread > 0, spread, np.maximum(np.abs(mean), 1.0))
    limit = np.finfo(np.float32).max / 4
    return np.clip(mean + spread * random.normal(size=(rows, known.shape[1])), -limit, limit)


def joined(left: Tensors, right: Tensors) -> Tensors:
    """Return the rows of both, ``left`` first."""
    return {name: np.concatenate([tensor, right[name]]) for name, tensor in left.items()}


def narrowed(tensors: Tensors, open_axes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """Return the rows with every open dimension about half as wide, or twice if it is 1.

    Args:
        tensors: rows.
        open_axes: by tensor, the dimensions that may have any size, counted from 1 (0 is rows).
    """
    return {name: _narrowed(tensor, open_axes.get(name, ())) for name, tensor in tensors.items()}


def _narrowed(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    for axis in axes:
        size = tensor.shape[axis]
        positions = np.arange(size // 2) if size > 1 else np.zeros(2, dtype=np.intp)
        tensor = np.take(tensor, positions, axis=axis)
    return tensor


def is_telling(answers: Tensors) -> npt.NDArray[np.bool_]:
    """Return by row whether all its numbers with a fraction are finite."""
    telling = np.ones(row_count(answers), dtype=bool)
    for answer in answers.values():
        if answer.dtype.kind == "f":
            telling &= np.isfinite(answer.astype(np.float64)).reshape(len(answer), -1).all(axis=1)
    return telling


def do_differ(answers: Tensors) -> bool:
    """Return whether some answer is not the same for all rows."""
    return any((answer != answer[:1]).any() for answer in answers.values() if answer.size)


def epsilon(dtype: np.dtype[Any]) -> float:
    """Return the distance from 1 to the next number of a floating type."""
    return float(np.finfo(dtype).eps)
