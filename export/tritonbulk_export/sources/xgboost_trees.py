"""XGBoost's own JSON → ONNX, exactly.

Written here for the same reason as ``lightgbm_trees``: the general converter leaves out what a
sample need not show (weights of dropped trees, categories, several trees a round, a base score for
each class). Sources of the rules: XGBoost ``include/xgboost/tree_model.h``, ``src/predictor``,
``src/objective`` and the model schema in its documentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from tritonbulk.errors import ModelError
from tritonbulk_export.sources.tree_graph import Ensemble, Graph, logistic

Learner = Mapping[str, Any]

_LINKS = {
    "LOGISTIC": ("binary:logistic", "reg:logistic"),
    "SOFTMAX": ("multi:softprob", "multi:softmax"),
    "EXP": ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"),
    "NONE": (
        *("reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror"),
        *("reg:absoluteerror", "reg:quantileerror", "reg:expectileerror", "binary:logitraw"),
        *("rank:pairwise", "rank:ndcg", "rank:map"),
    ),
}


def is_classifier(learner: Learner) -> bool:
    """Return True if the model's answers are class probabilities."""
    return learner["objective"]["name"] in {"binary:logistic", *_LINKS["SOFTMAX"]}


def to_onnx(
    learner: Learner, rounds: int, input_name: str, output_name: str
) -> tuple[onnx.ModelProto, int]:
    """Return the graph of an XGBoost model and the width of its output.

    One input ``[N, features]`` float32; one output: ``[N, classes]`` float32 for classifiers
    (binary ones have two columns), ``[N, targets]`` for everything else.

    Args:
        learner: ``learner`` of the model's JSON.
        rounds: how many boosting rounds count.
        input_name: of the input tensor.
        output_name: of the output tensor.

    Raises:
        ModelError: the model is linear, has vectors in its leaves, or has an objective that is not
            known here; a retry does not help.
    """
    link = _link(learner["objective"]["name"])
    model, weights = _trees(learner)
    used = _used(model, rounds)
    if not used:
        raise ModelError("the XGBoost model has no trees; train at least one round")
    base = _base_margins(learner, link)
    groups = max(1, len(base), *(model["tree_info"][position] + 1 for position in used))
    ensemble = Ensemble()
    for number, position in enumerate(used):
        weight = 1.0 if weights is None else weights[position]
        _add_tree(ensemble, number, model["trees"][position], model["tree_info"][position], weight)
    graph = Graph(input_name, int(learner["learner_model_param"]["num_feature"]))
    scores = graph.node(
        "TreeEnsembleRegressor", input_name, domain="ai.onnx.ml", n_targets=groups,
        base_values=base * groups if len(base) == 1 else base, **ensemble.attributes(),
    )  # fmt: skip
    width = groups
    if is_classifier(learner) and link == "LOGISTIC" and groups == 1:
        scores, width = graph.node("Concat", graph.node("Neg", scores), scores, axis=1), 2
    if link == "LOGISTIC":
        scores = logistic(graph, scores)
    elif link == "SOFTMAX":
        scores = graph.node("Softmax", scores, axis=1)
    elif link == "EXP":
        scores = graph.node("Exp", scores)
    return graph.finish(scores, output_name, width), width


def _link(objective: str) -> str:
    for link, objectives in _LINKS.items():
        if objective in objectives:
            return link
    raise ModelError(
        f"XGBoost objective {objective!r} is not supported; train with one of "
        f"{', '.join(sorted(name for names in _LINKS.values() for name in names))}"
    )


def _trees(learner: Learner) -> tuple[Mapping[str, Any], Sequence[float] | None]:
    """Return the trees, and the weights that dropping left to each; None where all are 1."""
    booster = learner["gradient_booster"]
    if booster["name"] == "gbtree":
        return booster["model"], None
    if booster["name"] == "dart":
        return booster["gbtree"]["model"], booster["weight_drop"]
    raise ModelError(
        f"XGBoost's booster {booster['name']!r} has no trees; train with gbtree or dart"
    )


def _used(model: Mapping[str, Any], rounds: int) -> range:
    """Return the positions of the trees of the first ``rounds`` rounds."""
    ends = model.get("iteration_indptr")
    if ends:
        return range(ends[min(rounds, len(ends) - 1)])
    return range(len(model["trees"]))


def _base_margins(learner: Learner, link: str) -> list[float]:
    """Return what every score starts from: the base score before the objective's transformation."""
    text = str(learner["learner_model_param"]["base_score"]).strip("[]")
    scores = [float(np.float32(score)) for score in text.split(",")]
    if link == "LOGISTIC":
        return [-math.log(1.0 / score - 1.0) for score in scores]
    if link == "EXP":
        return [math.log(score) for score in scores]
    return scores


def _add_tree(
    ensemble: Ensemble, number: int, tree: Mapping[str, Any], target: int, weight: float
) -> None:
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise ModelError(
            "this XGBoost model has vectors in its leaves; train with "
            "multi_strategy='one_output_per_tree'"
        )
    sets = _category_sets(tree)
    free = len(tree["left_children"])
    # From the root down: nodes that pruning left behind belong to no tree.
    for node in _reached(tree):
        left, right = tree["left_children"][node], tree["right_children"][node]
        value = tree["split_conditions"][node]
        if left == -1:
            ensemble.add(number, node, "LEAF")
            ensemble.targets.append((number, node, target, value * weight))
            continue
        feature, default_left = tree["split_indices"][node], bool(tree["default_left"][node])
        if node not in sets:
            ensemble.add(
                number, node, "BRANCH_LT", feature=feature, value=value, children=(left, right),
                missing_goes_true=default_left,
            )  # fmt: skip
            continue
        # What is in the set goes right.
        chain = [node, *range(free, free + len(sets[node]) - 1)]
        free += len(sets[node]) - 1
        ensemble.add_set(
            number, chain, feature, sets[node], children=(right, left),
            missing_goes_true=not default_left,
        )  # fmt: skip


def _reached(tree: Mapping[str, Any]) -> list[int]:
    """Return the nodes from the root down; XGBoost follows their numbers without checking them."""
    left, right = tree["left_children"], tree["right_children"]
    features = int(tree["tree_param"]["num_feature"])
    reached, todo = [], [0]
    while todo:
        node = todo.pop()
        reached.append(node)
        if left[node] == -1:
            continue
        todo += [right[node], left[node]]
        is_sound = all(0 < child < len(left) for child in (left[node], right[node]))
        if not is_sound or not 0 <= tree["split_indices"][node] < features:
            raise ModelError("the XGBoost model has impossible node numbers; do not use this file")
        if len(reached) + len(todo) > len(left):
            raise ModelError("a tree of the XGBoost model runs in a ring; do not use this file")
    return reached


def _category_sets(tree: Mapping[str, Any]) -> dict[int, list[float]]:
    """Return the categories of each split on a set, by node number."""
    return {
        node: [float(category) for category in tree["categories"][start : start + size]]
        for node, start, size in zip(
            tree.get("categories_nodes", ()), tree.get("categories_segments", ()),
            tree.get("categories_sizes", ()), strict=True,
        )
    }  # fmt: skip
