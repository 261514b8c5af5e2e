"""What labels tell: does the export rank, or classify, as well as the source?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonbulk.errors import InputError
from tritonbulk_export.spec import Ranking

Numbers = npt.NDArray[np.float64]


def ranks(values: Numbers) -> Numbers:
    """Return the rank of each value, from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def auc(scores: Numbers, positives: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: how often a positive row outscores a negative one.

    By Mann and Whitney's U; ties count half.
    """
    count = int(positives.sum())
    other = len(positives) - count
    if not count or not other:
        return 0.5
    return float((ranks(scores)[positives].sum() - count * (count + 1) / 2) / (count * other))


def spearman(left: Numbers, right: Numbers) -> float:
    """Return Spearman's rank correlation; 0 where one of them is constant."""
    left, right = ranks(left), ranks(right)
    left, right = left - left.mean(), right - right.mean()
    size = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / size if size else 0.0


def ranking(
    output: str,
    source: Numbers,
    export: Numbers,
    labels: Sequence[Any],
    classes: Sequence[str],
) -> Ranking:
    """Return how well the answers of both models agree with the labels.

    The area under the ROC curve for two classes, the share of right classes for more, and
    Spearman's rank correlation for numbers.

    Args:
        output: that the answers belong to.
        source: answers of the source model, ``[rows, values]``.
        export: answers of the graph, of the same shape.
        labels: one a row; None where it is not known.
        classes: names of the values, in order; empty if the model does not say.

    Raises:
        InputError: the labels do not fit the answers; no retry.
    """
    known = np.array([label is not None for label in labels])
    given = [label for label in labels if label is not None]
    source, export = source[known], export[known]
    names = sorted(set(given), key=lambda label: (str(type(label)), label))
    if source.shape[1] <= 2 and len(names) == 2:
        positive = names[1] if len(classes) != 2 else classes[1]
        positives = np.array([str(label) == str(positive) for label in given])
        return Ranking("AUC", output, *(auc(found[:, -1], positives) for found in (source, export)))
    if source.shape[1] > 2:
        order = list(classes) or [str(number) for number in range(source.shape[1])]
        places = {name: place for place, name in enumerate(order)}
        unknown = [label for label in names if str(label) not in places]
        if unknown:
            raise InputError(
                f"label {unknown[0]!r} is no class of output {output!r}, which has "
                f"{', '.join(order[:5])}…; give --labels a column of its classes"
            )
        truth = np.array([places[str(label)] for label in given])
        right = [float((found.argmax(axis=1) == truth).mean()) for found in (source, export)]
        return Ranking("accuracy", output, *right)
    try:
        numbers = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"labels of {len(names)} kinds fit no output {output!r} of one value a row; give "
            "--labels a column of two classes, or of numbers"
        ) from error
    return Ranking(
        "rank correlation",
        output,
        *(spearman(found[:, -1], numbers) for found in (source, export)),
    )
