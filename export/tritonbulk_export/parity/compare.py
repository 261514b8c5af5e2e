"""The comparison: every row of the sample through both models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tritonbulk.contract import InputTensor, datatype, gather
from tritonbulk.errors import InputError, ParityError
from tritonbulk_export.limits import LIMITS, Limits, judge
from tritonbulk_export.parity.figures import Figures, Numbers, distance, magnitude
from tritonbulk_export.parity.ranking import ranking
from tritonbulk_export.runtime import Session
from tritonbulk_export.spec import (
    Answers,
    Parity,
    Ranking,
    SourceModel,
    Tensor,
    Tensors,
    Tolerance,
    Waiver,
)

CHUNK_ROWS = 8192
FLOAT16_TOLERANCE = Tolerance(1e-3, 1e-3)

_SCORES = re.compile(r"logit|prob|score|class", re.IGNORECASE)


def gathered(batch: pa.RecordBatch, inputs: Sequence[InputTensor]) -> Tensors:
    """Return all input tensors of ``batch``."""
    return {tensor.name: gather(batch, tensor) for tensor in inputs}


def compare(
    source: SourceModel,
    session: Session,
    sample: pa.Table,
    limits: Limits = LIMITS["fp32"],
    *,
    given: Sequence[Waiver] = (),
    labels: str | None = None,
) -> Parity:
    """Return how the graph's answers to every sample row compare with the source model's.

    The source is fed with the values of its own inputs, the graph with those that its inputs can
    hold.

    Args:
        source: the model.
        session: of the graph.
        sample: rows.
        limits: what is allowed.
        given: waivers.
        labels: column of ``sample`` that holds the truth; None if none does.

    Raises:
        InputError: a value of the sample cannot be fed (names column and row), or the labels do
            not fit. No retry.
        ParityError: a check fails that is not waived; says where. No retry.
    """
    comparison = _Comparison(source, limits, labels)
    first_row = 0
    for batch in sample.to_batches(max_chunksize=CHUNK_ROWS):
        try:
            comparison.add(session, batch, first_row)
        except InputError as error:
            raise InputError(f"{error} (rows counted from sample row {first_row})") from error
        first_row += len(batch)
    parity = Parity(
        rows=first_row,
        outputs={name: figures.done() for name, figures in comparison.figures.items()},
        ranking=comparison.ranking(sample),
    )
    wrong = {name: figures.first_wrong for name, figures in comparison.figures.items()}
    return judge(parity, limits, given, wrong)


class _Comparison:
    """The figures of all outputs while chunks come in."""

    def __init__(self, source: SourceModel, limits: Limits, labels: str | None) -> None:
        self.figures: dict[str, Figures] = {}
        self._source = source
        self._wide = _widened(source.inputs) if source.takes_float64 else ()
        self._limits = limits
        self._labels = labels
        self._scales: dict[str, float] = {}
        self._scored: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def add(self, session: Session, batch: pa.RecordBatch, first_row: int) -> None:
        tensors = gathered(batch, self._source.inputs)
        wide = self._source.predict(gathered(batch, self._wide)) if self._wide else None
        expected = self._source.predict(tensors)
        for name, found in session.run(fitting(tensors, session)).items():
            reference = reference_of(name, found, expected)
            if name not in self.figures:
                self._begin(name, reference)
            case = _Case(first_row, self._limits, self._scales[name])
            if found.dtype.kind == "f":
                exact = None if wide is None else wide.outputs.get(name)
                self._add_numbers(name, found, reference, exact, case)
            else:
                self._add_labels(name, found, reference, expected.margin, case)

    def ranking(self, sample: pa.Table) -> Ranking | None:
        """Return what the labels tell about the first output of numbers; None without labels."""
        if self._labels is None:
            return None
        if not self._scored:
            raise InputError(f"--labels {self._labels}: the model has no output of numbers")
        name, parts = next(iter(self._scored.items()))
        source, export = (
            np.concatenate([part[side] for part in parts]).astype(np.float64) for side in (0, 1)
        )
        truth = sample.column(self._labels).to_pylist()
        return ranking(name, source, export, truth, self._source.labels.get(name, ()))

    def _begin(self, name: str, reference: Tensor) -> None:
        scale = 1.0
        if self._limits.is_scaled and reference.dtype.kind == "f":
            scale = float(np.sqrt(np.mean(magnitude(reference) ** 2))) or 1.0
        self._scales[name] = scale
        floor = self._limits.tolerance.atol * scale or float(np.finfo(np.float64).tiny)
        self.figures[name] = Figures(floor)

    def _add_numbers(
        self, name: str, found: Tensor, reference: Tensor, wide: Tensor | None, case: _Case
    ) -> None:
        figures = self.figures[name]
        allowed = case.allowed(found, reference)
        figures.add_numbers(found, reference, allowed)
        self._note_first(figures, found, reference, distance(found, reference) > allowed, case)
        if wide is not None:
            figures.add_wide(distance(found, wide), case.allowed(found, wide))
        flat = reference.ndim == 2 and reference.shape[1] > 1
        if flat and self._are_scores(name, reference):
            figures.add_top1(found, reference, case.limits.undecided)
        if self._labels is not None and reference.ndim <= 2:
            rows = len(reference)
            self._scored.setdefault(name, []).append(
                (reference.reshape(rows, -1), found.reshape(rows, -1))
            )

    def _add_labels(
        self,
        name: str,
        found: Tensor,
        reference: Tensor,
        margin: npt.NDArray[np.floating] | None,
        case: _Case,
    ) -> None:
        decided = _decided(found, margin, case.limits)
        differs = np.asarray(found != reference)
        self.figures[name].add_labels(differs, decided)
        self._note_first(self.figures[name], found, reference, differs & decided, case)

    def _are_scores(self, name: str, reference: Tensor) -> bool:
        """Return whether the values of a row are scores of classes, rather than an embedding."""
        if name in self._source.labels or _SCORES.search(name):
            return True
        shares = reference.astype(np.float64)
        return bool((shares >= 0).all() and (np.abs(shares.sum(axis=1) - 1) < 1e-3).all())

    @staticmethod
    def _note_first(
        figures: Figures,
        found: Tensor,
        reference: Tensor,
        wrong: npt.NDArray[np.bool_],
        case: _Case,
    ) -> None:
        if figures.first_wrong is None and wrong.any():
            spot = tuple(np.argwhere(wrong)[0])
            figures.first_wrong = (
                f"is {found[spot]!s} at sample row {case.first_row + spot[0]}, the source model "
                f"gives {reference[spot]!s}"
            )


@dataclass(frozen=True, slots=True)
class _Case:
    """One chunk: its first sample row, the limits, and the unit of a scaled atol."""

    first_row: int
    limits: Limits
    scale: float

    def allowed(self, found: Tensor, reference: Tensor) -> Numbers:
        tolerance = effective(self.limits.tolerance, found.dtype)
        allowed: Numbers = tolerance.atol * self.scale + tolerance.rtol * magnitude(reference)
        return allowed


def reference_of(name: str, found: Tensor, expected: Answers) -> Tensor:
    """Return the source's answers for output ``name``.

    Raises:
        ParityError: they have not the shape of ``found``; no retry.
    """
    reference = expected.outputs.get(name)
    if reference is None or reference.shape != found.shape:
        shape = None if reference is None else list(reference.shape)
        raise ParityError(
            f"output {name!r} has shape {list(found.shape)}, the source model gives {shape}; this "
            "kind of model is not supported"
        )
    return reference


def wrong_values(
    found: Tensor,
    reference: Tensor,
    margin: npt.NDArray[np.floating] | None,
    limits: Limits,
) -> npt.NDArray[np.bool_]:
    """Return which values are no answer of the source's, in the output's own unit."""
    if found.dtype.kind == "f":
        allowed = _Case(0, limits, 1.0).allowed(found, reference)
        return np.asarray(distance(found, reference) > allowed)
    return np.asarray(found != reference) & _decided(found, margin, limits)


def effective(tolerance: Tolerance, dtype: np.dtype[np.generic]) -> Tolerance:
    """Return ``tolerance``, widened where the output's own dtype is coarser."""
    if dtype != np.float16:
        return tolerance
    return Tolerance(
        max(tolerance.atol, FLOAT16_TOLERANCE.atol), max(tolerance.rtol, FLOAT16_TOLERANCE.rtol)
    )


def _decided(
    found: Tensor, margin: npt.NDArray[np.floating] | None, limits: Limits
) -> npt.NDArray[np.bool_]:
    """Return, in the shape of ``found``, where the source's best class leads clearly."""
    decided = np.ones(len(found), bool) if margin is None else margin > limits.undecided
    return np.broadcast_to(decided.reshape(-1, *[1] * (found.ndim - 1)), found.shape)


def fitting(tensors: Tensors, session: Session) -> Tensors:
    """Return ``tensors`` in the graph's own types: float16 where its inputs are."""
    kinds = {port.name: port.datatype for port in session.inputs}
    return {
        name: tensor.astype(np.float16)
        if kinds[name].name == "FP16" and tensor.dtype == np.float32
        else tensor
        for name, tensor in tensors.items()
    }


def _widened(inputs: Sequence[InputTensor]) -> tuple[InputTensor, ...]:
    if all(tensor.datatype.name != "FP32" for tensor in inputs):
        return ()
    return tuple(
        replace(tensor, datatype=datatype("FP64")) if tensor.datatype.name == "FP32" else tensor
        for tensor in inputs
    )
