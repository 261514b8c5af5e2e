"""Loading a scikit-learn file without running what a stranger put into it.

skops rebuilds objects of known types only, and leaves the judgement of others to the reader. Two of
them are trees: scikit-learn follows the node numbers inside without checking them, so they are
checked here before anything follows them. Others are search trees over training rows, which are not
used. Some are plain parts of scikit-learn that hold values and run nothing. Everything else is
refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import skops.io

from tritonbulk.errors import InputError

_TREE = "sklearn.tree._tree.Tree"
_HISTOGRAM_TREE = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
_HARMLESS = frozenset(
    {
        "numpy.dtype",
        "sklearn.utils._bunch.Bunch",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        *(f"sklearn._loss.loss.{name}" for name in (
            "HalfTweedieLoss", "HalfTweedieLossIdentity", "HalfPoissonLoss", "HalfGammaLoss",
            "HalfSquaredError",
        )),
        *(f"sklearn.gaussian_process.kernels.{name}" for name in (
            "CompoundKernel", "ConstantKernel", "DotProduct", "Exponentiation", "ExpSineSquared",
            "Hyperparameter", "Matern", "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel",
        )),
    }
)  # fmt: skip
# Search trees over the training rows. Their arrays are not looked at: `_without_index` has the rows
# searched one by one instead, as the graph does.
_INDEX = re.compile(
    r"sklearn\.neighbors\._(kd|ball)_tree\.(KD|Ball)Tree(64|32)?"
    r"|sklearn\.metrics\._dist_metrics\.(Euclidean|Manhattan|Minkowski|Chebyshev)Distance(64|32)?"
)

Indices = npt.NDArray[np.integer[Any]]


def load_skops(path: Path) -> Any:
    """Return the object in a skops file.

    Raises:
        InputError: the file is damaged or holds types that are not known to be safe; no retry.
    """
    try:
        found = set(skops.io.get_untrusted_types(file=path))
        known = {_TREE, _HISTOGRAM_TREE, *_HARMLESS, *filter(_INDEX.fullmatch, found)}
        unknown = sorted(found - known)
        model = None if unknown else skops.io.load(path, trusted=sorted(known))
    except Exception as error:  # a damaged file can raise anything
        raise InputError(
            f"{path} is not a readable skops file ({type(error).__name__}: {error}); save it again "
            "with skops.io.dump"
        ) from error
    if unknown:
        raise InputError(
            f"{path} holds types that are not known to be safe: {', '.join(unknown)}; save the "
            "model without them, or, if you made it yourself, as a pickle and pass --trust-pickle"
        )
    for part, width in _walk(model, 0, set()):
        if not _is_sound(part, width):
            raise InputError(
                f"{path} holds a tree with impossible node numbers; do not use this file"
            )
        _without_index(part)
    return model


def unpickled(path: Path) -> Any:
    """Return the object in a pickle. It can run any code: see `pickle_process`.

    Raises:
        InputError: it cannot be loaded; no retry.
    """
    try:
        return joblib.load(path)
    except Exception as error:  # a pickle can raise anything
        raise InputError(
            f"{path} cannot be unpickled ({type(error).__name__}: {error}); load it where it was "
            "saved and save it with skops.io.dump"
        ) from error


def _without_index(found: Any) -> None:
    """Make an estimator that looks for neighbours compare all rows, which gives the same ones."""
    state = getattr(found, "__dict__", {})
    if state.get("_tree") is not None and "_fit_method" in state:
        state["_tree"], state["_fit_method"] = None, "brute"


def _walk(found: Any, width: int, seen: set[int]) -> Iterator[tuple[Any, int]]:
    """Yield every object that ``found`` holds, itself included, once.

    Each with the number of features that the estimator around it takes: scikit-learn lets no rows
    of another width through to what is inside.
    """
    if id(found) in seen or isinstance(found, str | bytes | int | float | None):
        return
    seen.add(id(found))
    children: Any = ()
    if isinstance(found, dict):
        children = [*found.keys(), *found.values()]
    elif isinstance(found, list | tuple | set | frozenset):
        children = found
    elif isinstance(found, np.ndarray):
        children = found.ravel() if found.dtype == object else ()
    elif hasattr(found, "__dict__"):
        width = int(vars(found).get("n_features_in_", width))
        children = vars(found).values()
    yield found, width
    for child in children:
        yield from _walk(child, width, seen)


def _is_sound(found: Any, width: int) -> bool:
    kind = f"{type(found).__module__}.{type(found).__qualname__}"
    if kind == _TREE:
        inner = found.children_left != -1
        return _is_tree(
            found.children_left[inner], found.children_right[inner], np.flatnonzero(inner),
            found.node_count,
        ) and _is_below(found.feature[inner], min(found.n_features, width))  # fmt: skip
    if kind == _HISTOGRAM_TREE:
        nodes = found.nodes
        inner = nodes["is_leaf"] == 0
        split_on_set = inner & (nodes["is_categorical"] != 0)
        return (
            _is_tree(nodes["left"][inner], nodes["right"][inner], np.flatnonzero(inner), len(nodes))
            and _is_below(nodes["feature_idx"][inner], width)
            and _is_below(nodes["bitset_idx"][split_on_set], len(found.raw_left_cat_bitsets))
        )
    return True


def _is_tree(left: Indices, right: Indices, parents: Indices, count: int) -> bool:
    """Return True if all children exist and come after their parents, so that no path is a ring."""
    return all(
        _is_below(child, count) and bool((child.astype(np.int64) > parents).all())
        for child in (left, right)
    )


def _is_below(values: Indices, count: int) -> bool:
    return not len(values) or (int(values.min()) >= 0 and int(values.max()) < count)
