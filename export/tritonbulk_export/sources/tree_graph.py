"""Trees as ONNX: an ensemble in the making, the nodes around it, and what their values need.

Shared by the converters that are written here (``lightgbm_trees``, ``xgboost_trees``). Source of
the attributes: the ONNX operator ``ai.onnx.ml.TreeEnsembleRegressor``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

OPSET, ML_OPSET, IR_VERSION = 20, 3, 10
"""Loaded by every Triton from 25.06 on (its ONNX Runtime 1.22: opset 22, IR 10)."""


@dataclass(slots=True)
class Ensemble:
    """The columns of a TreeEnsembleRegressor, one entry a node; leaves have `targets` besides."""

    columns: dict[str, list[Any]] = field(
        default_factory=lambda: {
            name: []
            for name in (
                *("treeids", "nodeids", "featureids", "modes", "values"),
                *("truenodeids", "falsenodeids", "missing_value_tracks_true"),
            )
        }
    )
    targets: list[tuple[int, int, int, float]] = field(default_factory=list)

    def add(
        self, tree: int, node: int, mode: str, *, feature: int = 0, value: float = 0.0,
        children: tuple[int, int] = (0, 0), missing_goes_true: bool = False,
    ) -> None:  # fmt: skip
        """Add a node; ``children`` are those where the condition is true and where it is not."""
        row = (tree, node, feature, mode, value, *children, int(missing_goes_true))
        for column, entry in zip(self.columns.values(), row, strict=True):
            column.append(entry)

    def add_set(
        self, tree: int, nodes: Sequence[int], feature: int, categories: Sequence[float], *,
        children: tuple[int, int], missing_goes_true: bool = False,
    ) -> None:  # fmt: skip
        """Add a split on a set of categories: a chain of equalities, one node a category.

        Args:
            tree: number of the tree.
            nodes: one number a category: that of the split, then numbers that nobody else uses.
            feature: position of the feature.
            categories: at least one.
            children: where the value is in the set, and where it is not.
            missing_goes_true: where NaN goes.
        """
        inside, outside = children
        for position, (node, category) in enumerate(zip(nodes, categories, strict=True)):
            is_last = position == len(categories) - 1
            self.add(
                tree, node, "BRANCH_EQ", feature=feature, value=category,
                children=(inside, outside if is_last else nodes[position + 1]),
                missing_goes_true=missing_goes_true,
            )  # fmt: skip

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the ONNX operator."""
        trees, nodes, targets, weights = zip(*self.targets, strict=True)
        return {f"nodes_{name}": column for name, column in self.columns.items()} | {
            "target_treeids": trees,
            "target_nodeids": nodes,
            "target_ids": targets,
            "target_weights": weights,
        }


def float32_below(threshold: float) -> float:
    """Return the largest float32 that is not above ``threshold``.

    For every float32 ``x``, ``x <= threshold`` is then the same as ``x <= result``.
    """
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
    if float(nearest) > threshold:
        nearest = np.nextafter(nearest, np.float32(-np.inf))
    return float(nearest)


class Graph:
    """A graph of one input ``[N, features]`` float32, in the making."""

    def __init__(self, input_name: str, features: int) -> None:
        self._input = helper.make_tensor_value_info(
            input_name, TensorProto.FLOAT, ["batch", features]
        )
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes)
        )
        return output

    def constant(self, name: str, value: float) -> str:
        """Add a scalar and return its name."""
        self._constants.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name

    def finish(self, result: str, name: str, width: int) -> onnx.ModelProto:
        """Return the graph whose output ``name`` ``[N, width]`` is the tensor ``result``."""
        self._nodes.append(helper.make_node("Identity", [result], [name], name="output"))
        graph = helper.make_graph(
            self._nodes, "trees", [self._input],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])],
            self._constants,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def logistic(graph: Graph, scores: str) -> str:
    """Return ``exp(min(x, 0)) / (1 + exp(-|x|))``: the logistic with all its digits near 0.

    ONNX Runtime's own takes small probabilities from 1 - p, which leaves them an error of 6e-8:
    nothing for a coin, everything for one event in a million.
    """
    below = graph.node("Exp", graph.node("Min", scores, graph.constant("zero", 0.0)))
    distance = graph.node("Exp", graph.node("Neg", graph.node("Abs", scores)))
    return graph.node("Div", below, graph.node("Add", graph.constant("one", 1.0), distance))
