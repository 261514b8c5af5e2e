"""The proof: a row gets in batches of any size and company what it gets in one large batch."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from tritonbulk.contract import InputTensor
from tritonbulk.errors import ModelError, ParityError
from tritonbulk_export.proof.blame import blame_index, blame_leak, blame_size
from tritonbulk_export.proof.rows import (
    ROWS,
    distinct,
    do_differ,
    epsilon,
    is_telling,
    joined,
    made_up,
    narrowed,
    row_count,
    taken,
)
from tritonbulk_export.runtime import Session, open_session
from tritonbulk_export.spec import BatchProof, RowShapes, Tensor, Tensors

SMALL_SIZES = (1, 2, 3, 13)
SLOW_S, SLOW_ROWS = 5.0, 16
"""Where all rows at once take longer than this, so many have to do."""
_NOISE_FACTOR, _EPSILONS = 16.0, 64.0
_NOISE_MAX = {2: 2e-2, 4: 1e-3, 8: 1e-3}
"""By bytes an element: what is called noise is at most this share of the output's largest value."""
_TELLING_ROWS_MIN = 8
_OUTSIDE = re.compile(r"out of data bounds, idx=(-?\d+)")
"""What ONNX Runtime says of an index that a table does not have."""


def prove_batch(
    graph: onnx.ModelProto,
    inputs: Sequence[InputTensor],
    tensors: Tensors,
    sizes: Callable[[RowShapes], Sequence[int]] = lambda _: (),
) -> BatchProof:
    """Prove that a row's answer depends on that row alone.

    Answers to one row may differ by rounding: by what the graph itself shows when ONNX Runtime runs
    it once with fused nodes and once without, sixteen times that at most, and some units in the
    last place. What the user allows between graph and source model plays no part here.

    Args:
        graph: repaired.
        inputs: its inputs.
        tensors: some rows of the sample.
        sizes: from the outputs' row shapes to the batch sizes to try besides 1, 2, 3, 13 and 64:
            the client's and the largest.

    Raises:
        ModelError: ONNX Runtime does not load the graph; no retry.
        ParityError: the graph does not run at some size, an output has not one entry a row, a
            row's answer depends on other rows or on chance, or the rows cannot show whether it
            does. Names the node. A retry does not help.
    """
    trial = _Trial(graph, open_session(graph))
    rows, count = _telling_rows(trial, tensors)
    began_s = time.perf_counter()
    expected = trial.run(rows)
    if time.perf_counter() - began_s > SLOW_S and row_count(rows) > SLOW_ROWS:
        rows, expected = (taken(found, slice(0, SLOW_ROWS)) for found in (rows, expected))
        count = max(0, count - (ROWS - SLOW_ROWS))
    _check_repeatable(trial, rows, expected)
    allowed = _noise(graph, rows, expected)
    largest = dict.fromkeys(expected, 0.0)
    shapes = _shapes(trial, inputs, rows, expected)
    tried = tuple(dict.fromkeys((*SMALL_SIZES, row_count(rows), *sizes(shapes))))
    for size in tried:
        for positions in _batches(row_count(rows), size):
            answers = trial.run(taken(rows, positions))
            for name, answer in answers.items():
                off = _differences(answer, expected[name][positions])
                worst = off.reshape(len(off), -1).max(axis=1, initial=0.0)
                if worst.max() > allowed[name]:
                    _refuse_leak(trial, rows, positions, int(worst.argmax()), name)
                largest[name] = max(largest[name], float(worst.max()))
    return BatchProof(shapes, tried, count, largest)


class _Trial:
    """Runs of one graph, whose failures become sentences that name a node."""

    def __init__(self, graph: onnx.ModelProto, session: Session) -> None:
        self.graph = graph
        self.session = session

    def run(self, tensors: Tensors) -> Tensors:
        rows = row_count(tensors)
        try:
            answers = self.session.run(tensors)
        except ModelError as error:
            raise ParityError(self._why_it_does_not_run(tensors, error)) from error
        for name, answer in answers.items():
            if answer.ndim == 0 or answer.shape[0] != rows:
                raise ParityError(
                    f"output {name!r} has shape {list(answer.shape)} for {rows} rows, not one "
                    f"entry a row: {blame_size(self.graph, tensors, name)}; export the model again "
                    "with a dynamic batch dimension"
                )
        return answers

    def _why_it_does_not_run(self, tensors: Tensors, error: ModelError) -> str:
        rows = row_count(tensors)
        outside = _OUTSIDE.search(str(error))
        if outside and (where := blame_index(self.graph, tensors)):
            return (
                f"the index {outside[1]} is out of range: {where}; look at the values of the "
                "sample, and at which columns feed which tensor"
            )
        if rows > ROWS:
            try:
                self.session.run(taken(tensors, slice(0, ROWS)))
            except ModelError:
                pass
            else:
                return (
                    f"the graph runs with {ROWS} rows and not with {rows} ({error}); give a "
                    "smaller --max-batch-size"
                )
        return (
            f"the graph does not run with {rows} rows: {blame_size(self.graph, tensors)}; export "
            "the model again with a dynamic batch dimension"
        )


def _telling_rows(trial: _Trial, tensors: Tensors) -> tuple[Tensors, int]:
    """Return up to 64 rows that can show a leak, and how many of them are made up."""
    sample = taken(tensors, distinct(tensors)[:ROWS])
    for rows, answers, real in _candidates(trial, sample, tensors):
        chosen = np.flatnonzero(is_telling(answers))
        enough = max(2, min(_TELLING_ROWS_MIN, row_count(rows)))
        if len(chosen) >= enough and do_differ(taken(answers, chosen)):
            return taken(rows, chosen), int((chosen >= real).sum())
    raise ParityError(
        f"whether rows influence each other cannot be seen: the answers to {row_count(sample)} "
        "different sample rows and to rows made up from them are all the same, or not finite; give "
        "a sample with rows whose answers are finite and differ"
    )


def _candidates(
    trial: _Trial, sample: Tensors, tensors: Tensors
) -> Iterator[tuple[Tensors, Tensors, int]]:
    """Yield rows, the answers to them, and how many of them, the first, are real."""
    known = row_count(sample)
    # Whatever is wrong with the graph at this size is said about real rows.
    answers = trial.run(taken(sample, np.resize(np.arange(known), ROWS)))
    if known < ROWS and (filled := _filled(trial, sample, made_up(tensors, ROWS - known))):
        yield *filled, known
    yield sample, taken(answers, slice(0, known)), known
    if made := _filled(trial, taken(sample, slice(0, 0)), made_up(tensors, ROWS)):
        yield *made, 0


def _filled(trial: _Trial, rows: Tensors, more: Tensors) -> tuple[Tensors, Tensors] | None:
    """Return ``rows`` and ``more`` with their answers; None if the model does not take them."""
    both = joined(rows, more)
    try:
        return both, trial.session.run(both)
    except ModelError:
        return None


def _check_repeatable(trial: _Trial, rows: Tensors, expected: Tensors) -> None:
    again = trial.run(rows)
    for name, answer in again.items():
        if _differences(answer, expected[name]).any():
            raise ParityError(
                f"output {name!r} differs when the same rows are asked again: the model draws "
                "random numbers; export it in evaluation mode"
            )


def _batches(rows: int, size: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield positions of batches of ``size`` that hold every row, each in random company."""
    order = np.random.default_rng(size).permutation(rows)
    if size >= rows:
        yield np.resize(order, size)
        return
    for start in range(0, rows, size):
        yield np.resize(np.roll(order, -start), size)


def _noise(graph: onnx.ModelProto, rows: Tensors, expected: Tensors) -> Mapping[str, float]:
    """Return by output how far two faithful answers to one row may be apart."""
    plain = open_session(graph, is_optimized=False).run(rows)
    allowed = {}
    for name, answer in expected.items():
        if answer.dtype.kind != "f":
            allowed[name] = 0.0
            continue
        scale = float(np.abs(answer.astype(np.float64)).max(initial=0.0))
        measured = float(_differences(plain[name], answer).max(initial=0.0))
        unit = epsilon(answer.dtype) * scale
        most = _NOISE_MAX[answer.dtype.itemsize] * scale
        allowed[name] = max(min(_NOISE_FACTOR * measured, most), _EPSILONS * unit)
    return allowed


def _differences(left: Tensor, right: Tensor) -> npt.NDArray[np.float64]:
    """Return absolute differences: infinite where texts, integers or shapes are not the same."""
    if left.shape != right.shape:
        return np.full((len(left), 1), np.inf)
    if left.dtype.kind != "f":
        return np.where(left != right, np.inf, 0.0)
    wide, other = left.astype(np.float64), right.astype(np.float64)
    same = (wide == other) | (np.isnan(wide) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        off = np.abs(wide - other)
    off[np.isnan(off)] = np.inf
    off[same] = 0.0
    return off


def _refuse_leak(
    trial: _Trial, rows: Tensors, positions: npt.NDArray[np.intp], place: int, name: str
) -> None:
    total = row_count(rows)
    if len(positions) < total:
        found = blame_leak(trial.graph, rows, int(positions[place]))
    else:
        found = blame_leak(trial.graph, taken(rows, positions), place)
    raise ParityError(
        f"output {name!r} of a row changes with the rows beside it (in batches of "
        f"{len(positions)} and {total} rows), so batching would give wrong answers: {found}; "
        "remove what mixes rows and export again"
    )


def _shapes(
    trial: _Trial, inputs: Sequence[InputTensor], rows: Tensors, expected: Tensors
) -> RowShapes:
    """Return the outputs' row shapes, -1 where they follow an open dimension of an input."""
    shapes = {name: answer.shape[1:] for name, answer in expected.items()}
    open_axes = {
        tensor.name: tuple(axis + 1 for axis, size in enumerate(tensor.shape) if size == -1)
        for tensor in inputs
    }
    if not any(open_axes.values()):
        return shapes
    try:
        other = trial.session.run(narrowed(rows, open_axes))
    except ModelError:
        return shapes
    for name, answer in other.items():
        if answer.ndim == len(shapes[name]) + 1:
            shapes[name] = tuple(
                size if size == seen else -1
                for size, seen in zip(shapes[name], answer.shape[1:], strict=True)
            )
    return shapes
