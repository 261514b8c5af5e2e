"""Figures of a comparison, gathered chunk by chunk in memory that does not grow with the rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tritonbulk_export.spec import OutputParity, Tensor

STEPS_A_DOUBLING = 32
"""Bins of `Quantiles` for each doubling, so that its answers are at most 2.2 % too large."""

Numbers = npt.NDArray[np.float64]


def distance(found: Tensor, reference: Tensor) -> Numbers:
    """Return the absolute differences; 0 where both are the same NaN or infinity."""
    left, right = found.astype(np.float64), reference.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        off = np.abs(left - right)
    # One NaN or infinity against a number is as wrong as can be.
    off[np.isnan(off)] = np.inf
    off[same] = 0.0
    return off


def magnitude(reference: Tensor) -> Numbers:
    """Return absolute values; 0 for NaN and infinity, which leave no room for a difference."""
    size = np.abs(reference.astype(np.float64))
    size[~np.isfinite(size)] = 0.0
    return size


class Quantiles:
    """Upper bounds of quantiles of numbers of at least 0, from a histogram of logarithms."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()

    def add(self, values: Numbers) -> None:
        """Add ``values``, of any shape; infinities count."""
        flat = values.ravel()
        positive = flat[(flat > 0) & np.isfinite(flat)]
        steps, counts = np.unique(np.ceil(np.log2(positive) * STEPS_A_DOUBLING), return_counts=True)
        self._counts.update(dict(zip(steps.tolist(), counts.tolist(), strict=True)))
        self._counts[-np.inf] += int((flat == 0).sum())
        self._counts[np.inf] += int(np.isinf(flat).sum())

    def bound(self, share: float) -> float:
        """Return a number that at least ``share`` of the values do not exceed; 0 if there are none.

        It is at most 2.2 % above the smallest such number.
        """
        needed = share * self._counts.total()
        seen = 0
        for step in sorted(self._counts):
            seen += self._counts[step]
            if seen >= needed and seen:
                return float(2.0 ** (step / STEPS_A_DOUBLING))
        return 0.0


@dataclass
class Figures:
    """Running figures of one output.

    Attributes:
        floor: relative differences are taken against ``max(|source|, floor)``.
        first_wrong: sample row, value and source's value of the first that exceeds the tolerance,
            in words; None if none does.
    """

    floor: float
    first_wrong: str | None = None
    _values: int = 0
    _rows: int = 0
    _exceeding: int = 0
    _nan_differs: int = 0
    _flips: int = 0
    _decided_flips: int = 0
    _top1_flips: int = 0
    _decided_top1_flips: int = 0
    _max: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _sum: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _quantiles: tuple[Quantiles, Quantiles] = field(
        default_factory=lambda: (Quantiles(), Quantiles())
    )
    _products: Numbers = field(default_factory=lambda: np.zeros(3))
    _float64: float | None = None
    _threshold_flips: int | None = None

    def add_numbers(self, found: Tensor, reference: Tensor, allowed: Numbers) -> None:
        """Add a chunk of numbers.

        Args:
            found: the graph's answers, ``[rows, …]``.
            reference: the source's, of the same shape.
            allowed: absolute difference that is allowed, of the same shape.
        """
        off = distance(found, reference)
        relative = off / np.maximum(magnitude(reference), self.floor)
        for place, values in enumerate((off, relative)):
            self._max[place] = max(self._max[place], float(values.max(initial=0.0)))
            self._sum[place] += float(values.sum())
            self._quantiles[place].add(values)
        self._values += off.size
        self._rows += len(off)
        self._exceeding += int((off > allowed).sum())
        self._nan_differs += int((~np.isfinite(found) != ~np.isfinite(reference)).sum())
        both = np.isfinite(found) & np.isfinite(reference)
        left, right = (values[both].astype(np.float64) for values in (found, reference))
        self._products += (left @ right, left @ left, right @ right)

    def add_top1(self, found: Tensor, reference: Tensor, undecided: float) -> None:
        """Add a chunk of scores ``[rows, classes]``: where another class is the largest."""
        best = reference.argmax(axis=1)
        flipped = found.argmax(axis=1) != best
        if flipped.any():
            rows = np.sort(reference[flipped].astype(np.float64), axis=1)
            self._top1_flips += int(flipped.sum())
            self._decided_top1_flips += int((rows[:, -1] - rows[:, -2] > undecided).sum())

    def add_labels(self, differs: npt.NDArray[np.bool_], decided: npt.NDArray[np.bool_]) -> None:
        """Add a chunk of labels: which differ, and which the source was sure of (same shape)."""
        self._values += differs.size
        self._rows += len(differs)
        self._flips += int(differs.sum())
        self._decided_flips += int((differs & decided).sum())

    def add_wide(self, off: Numbers, allowed: Numbers) -> None:
        """Add how far a chunk is off the source fed with float64, and how far it may be."""
        rows = (off > allowed).reshape(len(off), -1).any(axis=1)
        self._float64 = max(self._float64 or 0.0, float(off.max(initial=0.0)))
        self._threshold_flips = (self._threshold_flips or 0) + int(rows.sum())

    def done(self) -> OutputParity:
        """Return the figures of all chunks."""
        count = max(self._values, 1)
        dot, left, right = self._products
        # Rounding can carry equal vectors a hair above 1.
        cosine = min(1.0, float(dot / np.sqrt(left * right))) if left and right else 1.0
        return OutputParity(
            max_abs=self._max[0],
            max_rel=self._max[1],
            mean_abs=self._sum[0] / count,
            mean_rel=self._sum[1] / count,
            p999_abs=min(self._quantiles[0].bound(0.999), self._max[0]),
            p999_rel=min(self._quantiles[1].bound(0.999), self._max[1]),
            cosine=cosine if bool(left) == bool(right) else 0.0,
            exceeding=self._exceeding / count,
            nan_differs=self._nan_differs,
            flips=self._flips,
            top1_flips=self._top1_flips,
            decided_flips=max(
                self._decided_flips / count, self._decided_top1_flips / max(self._rows, 1)
            ),
            max_abs_float64=self._float64,
            threshold_flips=self._threshold_flips,
        )
