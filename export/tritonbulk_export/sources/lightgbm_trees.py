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
from typing import Any

import onnx

from tritonbulk.errors import ModelError
from tritonbulk_export.sources.tree_graph import Ensemble, Graph, float32_below, logistic

Node = Mapping[str, Any]


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
    ensemble = Ensemble()
    for position, tree in enumerate(dump["tree_info"]):
        _add_tree(ensemble, position, tree["tree_structure"], position % targets, scale)
    graph = Graph(input_name, dump["max_feature_idx"] + 1)
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


def _add_tree(ensemble: Ensemble, tree: int, root: Node, target: int, scale: float) -> None:
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
                value=float32_below(node["threshold"]), children=(left, right),
                missing_goes_true=_missing_goes_left(node),
            )  # fmt: skip
            continue
        # A missing category is in no set, so it goes right, as it does in LightGBM.
        categories = [float(category) for category in str(node["threshold"]).split("||")]
        chain = [node_id, *range(node_count, node_count + len(categories) - 1)]
        node_count += len(categories) - 1
        ensemble.add_set(tree, chain, node["split_feature"], categories, children=(left, right))


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


def _linked(graph: Graph, scores: str, link: str, parameters: Mapping[str, float]) -> str:
    """Return the tensor with LightGBM's answers, made from the ensemble's scores."""
    if link == "LOGISTIC":
        return logistic(graph, scores)
    if link in _LINK_OPERATORS:
        return graph.node(_LINK_OPERATORS[link], scores)
    if "sqrt" in parameters:
        return graph.node("Mul", scores, graph.node("Abs", scores))
    return scores
