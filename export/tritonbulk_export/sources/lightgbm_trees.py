"""LightGBM's own tree dump → ONNX, exactly.

Written here because the answers must be LightGBM's for every input that the contract lets through
(integers where a feature is categorical), and the general converter
differs from LightGBM in three ways that a sample need not show: a NaN in a feature that had none in
training (LightGBM takes it for 0), a threshold that float32 cannot hold (it must be rounded down,
or values equal to it change sides), and random forests of other than 100 trees.

Sources of the rules: LightGBM ``include/LightGBM/tree.h`` (``NumericalDecision``,
``CategoricalDecision``) and the ONNX operator ``ai.onnx.ml.TreeEnsembleRegressor``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tritonbulk.errors import ModelError

OPSET, ML_OPSET, IR_VERSION = 20, 3, 10
"""Loaded by every Triton from 25.06 on (its ONNX Runtime 1.22: opset 22, IR 10)."""

Node = Mapping[str, Any]


@dataclass(slots=True)
class _Ensemble:
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
        row = (tree, node, feature, mode, value, *children, int(missing_goes_true))
        for column, entry in zip(self.columns.values(), row, strict=True):
            column.append(entry)

    def attributes(self) -> dict[str, Any]:
        trees, nodes, targets, weights = zip(*self.targets, strict=True)
        return {f"nodes_{name}": column for name, column in self.columns.items()} | {
            "target_treeids": trees,
            "target_nodeids": nodes,
            "target_ids": targets,
            "target_weights": weights,
        }


def to_onnx(dump: Mapping[str, Any], input_name: str, output_name: str) -> onnx.ModelProto:
    """Return the graph of a model that LightGBM dumped.

    One input ``[N, features]`` float32; one output: ``[N, classes]`` float32 for classifiers
    (binary ones have two columns), ``[N, 1]`` for everything else.

    Args:
        dump: what ``Booster.dump_model()`` returns.
        input_name: of the input tensor.
        output_name: of the output tensor.

    Raises:
        ModelError: the model has linear leaves, treats zero as missing, or has an objective that
            is not known here; a retry does not help.
    """
    objective, parameters = _objective(dump)
    link = _link(objective)
    targets = dump["num_tree_per_iteration"]
    iterations = max(len(dump["tree_info"]) // targets, 1)
    scale = parameters.get("sigmoid", 1.0) if link == "LOGISTIC" else 1.0
    if dump.get("average_output"):
        scale /= iterations
    ensemble = _Ensemble()
    for position, tree in enumerate(dump["tree_info"]):
        _add_tree(ensemble, position, tree["tree_structure"], position % targets, scale)
    graph = _Graph(input_name, dump["max_feature_idx"] + 1)
    scores = graph.node(
        "TreeEnsembleRegressor", input_name, domain="ai.onnx.ml", n_targets=targets,
        **ensemble.attributes(),
    )  # fmt: skip
    if objective == "binary":
        scores, targets = graph.node("Concat", graph.node("Neg", scores), scores, axis=1), 2
    return graph.finish(_linked(graph, scores, link, parameters), output_name, targets)


def is_classifier(dump: Mapping[str, Any]) -> bool:
    """Return True if the model's answers are class probabilities."""
    return _objective(dump)[0] in _CLASSIFIERS


_CLASSIFIERS = frozenset({"binary", "multiclass", "multiclassova"})
_LINKS = {
    "LOGISTIC": ("binary", "multiclassova", "cross_entropy"),
    "SOFTMAX": ("multiclass",),
    "EXP": ("poisson", "gamma", "tweedie"),
    "SOFTPLUS": ("cross_entropy_lambda",),
    "NONE": (
        *("regression", "regression_l1", "huber", "fair", "quantile", "mape"),
        *("lambdarank", "rank_xendcg", "custom"),
    ),
}

_LINK_OPERATORS = {"EXP": "Exp", "SOFTPLUS": "Softplus", "SOFTMAX": "Softmax"}


def _objective(dump: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Return the objective's name and its parameters: ``"binary sigmoid:1"`` has one."""
    name, *words = (dump.get("objective") or "custom").split()
    pairs = [word.partition(":") for word in words]
    return name, {key: float(value) if value else 1.0 for key, _, value in pairs}


def _link(objective: str) -> str:
    for link, objectives in _LINKS.items():
        if objective in objectives:
            return link
    raise ModelError(
        f"LightGBM objective {objective!r} is not supported; train with one of "
        f"{', '.join(sorted(name for names in _LINKS.values() for name in names))}"
    )


def _add_tree(ensemble: _Ensemble, tree: int, root: Node, target: int, scale: float) -> None:
    """Add one tree; a split on a set of categories becomes a chain of equalities."""
    node_count = 1
    todo = [(0, root)]
    while todo:
        node_id, node = todo.pop()
        if "leaf_value" in node:
            if "leaf_coeff" in node:
                raise ModelError(
                    "LightGBM linear trees have no ONNX form; train without linear_tree"
                )
            ensemble.add(tree, node_id, "LEAF")
            ensemble.targets.append((tree, node_id, target, node["leaf_value"] * scale))
            continue
        left, right = node_count, node_count + 1
        node_count += 2
        todo += [(right, node["right_child"]), (left, node["left_child"])]
        if node["decision_type"] == "<=":
            ensemble.add(
                tree, node_id, "BRANCH_LEQ", feature=node["split_feature"],
                value=_float32_below(node["threshold"]), children=(left, right),
                missing_goes_true=_missing_goes_left(node),
            )  # fmt: skip
            continue
        # A missing category is in no set, so it goes right, as it does in LightGBM.
        *others, last = (float(category) for category in str(node["threshold"]).split("||"))
        for category in others:
            ensemble.add(
                tree, node_id, "BRANCH_EQ", feature=node["split_feature"], value=category,
                children=(left, node_count),
            )  # fmt: skip
            node_id, node_count = node_count, node_count + 1
        ensemble.add(
            tree, node_id, "BRANCH_EQ", feature=node["split_feature"], value=last,
            children=(left, right),
        )  # fmt: skip


def _float32_below(threshold: float) -> float:
    """Return the largest float32 that is not above ``threshold``.

    For every float32 ``x``, ``x <= threshold`` is then the same as ``x <= result``.
    """
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
    if float(nearest) > threshold:
        nearest = np.nextafter(nearest, np.float32(-np.inf))
    return float(nearest)


def _missing_goes_left(node: Node) -> bool:
    if node["missing_type"] == "NaN":
        return bool(node["default_left"])
    if node["missing_type"] == "None":
        # LightGBM takes NaN for 0 where training met no missing value.
        return bool(node["threshold"] >= 0.0)
    raise ModelError(
        "this LightGBM model takes zero for missing (zero_as_missing), which has no ONNX form; "
        "train without zero_as_missing"
    )


class _Graph:
    """Nodes in the making: each call adds one and returns the name of its output."""

    def __init__(self, input_name: str, features: int) -> None:
        self._input = helper.make_tensor_value_info(
            input_name, TensorProto.FLOAT, ["batch", features]
        )
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes)
        )
        return output

    def constant(self, name: str, value: float) -> str:
        self._constants.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name

    def finish(self, result: str, name: str, width: int) -> onnx.ModelProto:
        self._nodes.append(helper.make_node("Identity", [result], [name], name="output"))
        graph = helper.make_graph(
            self._nodes, "lightgbm", [self._input],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])],
            self._constants,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _linked(graph: _Graph, scores: str, link: str, parameters: Mapping[str, float]) -> str:
    """Return the tensor with LightGBM's answers, made from the ensemble's scores."""
    if link == "LOGISTIC":
        return _logistic(graph, scores)
    if link in _LINK_OPERATORS:
        return graph.node(_LINK_OPERATORS[link], scores)
    if "sqrt" in parameters:
        return graph.node("Mul", scores, graph.node("Abs", scores))
    return scores


def _logistic(graph: _Graph, scores: str) -> str:
    """Return ``exp(min(x, 0)) / (1 + exp(-|x|))``: the logistic with all its digits near 0.

    ONNX Runtime's own takes small probabilities from 1 - p, which leaves them an error of 6e-8:
    nothing for a coin, everything for one event in a million.
    """
    below = graph.node("Exp", graph.node("Min", scores, graph.constant("zero", 0.0)))
    distance = graph.node("Exp", graph.node("Neg", graph.node("Abs", scores)))
    return graph.node("Div", below, graph.node("Add", graph.constant("one", 1.0), distance))
