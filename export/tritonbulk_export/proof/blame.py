"""Blame: the node that fixes the batch size, or that mixes rows.

What ONNX Runtime complains about is the node where two sizes meet, seldom the one that fixed the
size. So sizes are followed back from there: a dimension that stays the same while the batch changes
is *stuck*, and the node to name is where it got stuck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto

from tritonbulk_export.proof.instrument import Instrument
from tritonbulk_export.proof.rows import epsilon, row_count, taken
from tritonbulk_export.spec import Tensor, Tensors

_SHAPING = frozenset({
    "Reshape", "Expand", "Slice", "Tile", "ConstantOfShape", "Constant", "Range", "Gather", "Pad",
    "Resize", "Split", "OneHot", "EyeLike", "RandomNormal", "RandomUniform", "Squeeze", "Unsqueeze",
    "Flatten", "Upsample", "GatherND", "GatherElements", "ReduceSum", "ReduceMean", "ReduceMax",
    "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare",
    "ArgMax", "ArgMin", "TopK", "CenterCropPad", "NonZero", "Compress",
})  # fmt: skip
"""Operators that decide about sizes by themselves."""
_LOOK_UPS = ("Gather", "GatherElements", "GatherND")
_HINTS = {
    "BatchNormalization": "it normalizes by the batch's own mean, as in training",
    "Softmax": "it may run over axis 0, which is rows",
    "LogSoftmax": "it may run over axis 0, which is rows",
    "CumSum": "it may run over axis 0, which is rows",
    "TopK": "it may run over axis 0, which is rows",
    "DynamicQuantizeLinear": "it takes one scale for the whole batch",
}
_PROBE_ROWS_MAX = 64


def blame_size(graph: onnx.ModelProto, tensors: Tensors, output: str | None = None) -> str:
    """Return what fixes the batch size of a graph that fails on ``tensors``, as half a sentence.

    Args:
        graph: that fails.
        tensors: rows that show it.
        output: which has not one entry a row; None if the graph does not run at all.
    """
    inside = Instrument(graph)
    rows = row_count(tensors)
    if rows > _PROBE_ROWS_MAX:
        tensors = taken(tensors, slice(0, _PROBE_ROWS_MAX))
    other = taken(tensors, np.resize(np.arange(row_count(tensors)), row_count(tensors) + 1))
    end = len(inside.nodes)
    failing = None
    # The other size may fail earlier than this one.
    for case in (tensors, other, tensors):
        found = inside.failing(case, None if end == len(inside.nodes) else end)
        if found is not None:
            failing = end = min(found, end)
    shapes = _Shapes(inside, inside.values(tensors, end), inside.values(other, end))
    if failing is not None:
        return shapes.at_node(failing)
    if output is None:
        return "ONNX Runtime names no node"
    return shapes.at_output(output, row_count(tensors))


def blame_index(graph: onnx.ModelProto, tensors: Tensors) -> str | None:
    """Return which look-up in a table fails on ``tensors``, as half a sentence; None if none does.

    A table that is part of the model has no rows of the batch in it, so it is the index that is
    wrong, and not the number of rows.
    """
    inside = Instrument(graph)
    index = inside.failing(tensors)
    if index is None or inside.nodes[index].op_type not in _LOOK_UPS:
        return None
    table, place = inside.nodes[index].input[:2]
    if table not in inside.constants or place in inside.constants:
        return None
    sizes = list(inside.constants[table].dims)
    return f"node {inside.titles[index]} looks it up in a table of shape {sizes}"


def blame_leak(graph: onnx.ModelProto, tensors: Tensors, place: int) -> str:
    """Return which node mixes the rows of ``tensors``, as half a sentence.

    Args:
        graph: that mixes rows.
        tensors: a batch that shows it.
        place: position of a row whose answer is another alone.
    """
    inside = Instrument(graph)
    rows = row_count(tensors)
    if rows > _PROBE_ROWS_MAX:
        first = max(0, min(place, rows - _PROBE_ROWS_MAX))
        tensors = taken(tensors, slice(first, first + _PROBE_ROWS_MAX))
        rows, place = row_count(tensors), place - first
    batch = inside.values(tensors)
    # The same number of rows, all equal, and the row alone.
    equal = inside.values(taken(tensors, np.full(rows, place)))
    alone = inside.values(taken(tensors, np.array([place])))
    for index, node in enumerate(inside.nodes):
        for name in node.output:
            if any(name not in found for found in (batch, equal, alone)):
                continue
            if _mixes(batch[name], equal[name], alone[name], rows, place):
                return _described(inside, index)
    return "no single node shows it"


def _mixes(batch: Tensor, equal: Tensor, alone: Tensor, rows: int, place: int) -> bool:
    if batch.shape != equal.shape:
        return True
    for axis, size in enumerate(batch.shape):
        # Rows may have moved to another dimension, or share one with something else.
        own = alone.shape[axis] if alone.ndim == batch.ndim else 0
        if own and size == own * rows and rows > 1:
            chosen = np.arange(place * own, (place + 1) * own)
            mine, theirs = (np.take(found, chosen, axis=axis) for found in (batch, equal))
            return _differ(mine, theirs) or _differ(mine, alone)
    return _differ(batch, equal)


def _differ(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape:
        return True
    if left.dtype.kind != "f":
        return bool((left != right).any())
    wide, other = left.astype(np.float64), right.astype(np.float64)
    scale = float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0))
    close = np.isclose(wide, other, rtol=0.0, atol=64 * epsilon(left.dtype) * scale, equal_nan=True)
    return not bool(close.all())


def _described(inside: Instrument, index: int) -> str:
    kind = inside.nodes[index].op_type
    hint = _HINTS.get(kind, "it reduces over rows" if kind.startswith("Reduce") else "")
    return f"node {inside.titles[index]} mixes rows" + (f" ({hint})" if hint else "")


class _Shapes:
    """Shapes of all values at two batch sizes, and where they got stuck."""

    def __init__(
        self, inside: Instrument, at: Mapping[str, Tensor], other: Mapping[str, Tensor]
    ) -> None:
        self._inside = inside
        self._at = {name: value.shape for name, value in at.items()}
        self._other = {name: value.shape for name, value in other.items()}

    def at_node(self, index: int) -> str:
        """Return who is to blame that node ``index`` cannot run."""
        node = self._inside.nodes[index]
        if node.op_type in _SHAPING:
            return self._node(index)
        stuck = [name for name in self._inside.inputs_of(index) if self._is_stuck(name)]
        if not stuck or len(stuck) == len(self._inside.inputs_of(index)):
            return self._node(index)
        return self._origin(max(stuck, key=self._weight), index)

    def at_output(self, name: str, rows: int) -> str:
        """Return who is to blame that output ``name`` has not one entry for each of ``rows``."""
        index = self._inside.producers.get(name)
        if index is None:
            return f"{name!r} is handed through"
        if self._is_stuck(name):
            return self._origin(name, index)
        # It follows the batch, but not one to one: the last node that read rows one to one.
        while True:
            inputs = self._inside.inputs_of(index)
            changed = [n for n in inputs if not self._is_stuck(n) and n in self._at]
            further = [
                n for n in changed
                if self._at[n][:1] != (rows,) and n in self._inside.producers
            ]  # fmt: skip
            if not further or any(self._at[n][:1] == (rows,) for n in changed):
                return self._node(index)
            index = self._inside.producers[further[0]]

    def _origin(self, name: str, reader: int) -> str:
        """Follow a stuck value to where it got stuck."""
        leading = self._leading(name)
        while True:
            if name in self._inside.constants:
                tensor = self._inside.constants[name]
                return (
                    f"constant {name!r} of shape {list(tensor.dims)}, which node "
                    f"{self._inside.titles[reader]} reads, has its first dimension for the batch"
                )
            index = self._inside.producers.get(name)
            if index is None:
                return self._node(reader)
            inputs = self._inside.inputs_of(index)
            stuck = [n for n in inputs if self._is_stuck(n) and self._leading(n) == leading]
            if self._inside.nodes[index].op_type in _SHAPING or not stuck:
                return self._node(index)
            name, reader = max(stuck, key=self._weight), index

    def _node(self, index: int) -> str:
        kind = self._inside.nodes[index].op_type
        reduces = kind.startswith(("Reduce", "Arg"))
        what = "reduces over rows" if reduces else "has a fixed batch size in it"
        return f"node {self._inside.titles[index]} {what}"

    def _is_stuck(self, name: str) -> bool:
        if name in self._inside.constants:
            return len(self._inside.constants[name].dims) > 0
        if name not in self._at or name not in self._other:
            return False
        return bool(self._at[name]) and self._at[name] == self._other[name]

    def _shape(self, name: str) -> Sequence[int]:
        constant = self._inside.constants.get(name)
        return self._at.get(name, ()) if constant is None else tuple(constant.dims)

    def _leading(self, name: str) -> int:
        return next(iter(self._shape(name)), 0)

    def _weight(self, name: str) -> tuple[int, int]:
        """Order stuck values: numbers of several rows and dimensions come last."""
        constant = self._inside.constants.get(name)
        is_index = constant is not None and constant.data_type == TensorProto.INT64
        return (0 if is_index else int(self._leading(name) > 1), len(self._shape(name)))
