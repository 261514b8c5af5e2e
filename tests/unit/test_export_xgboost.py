"""XGBoost exports: the graph answers as XGBoost does, for what a sample need not show, too."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

from tritonbulk.contract import Contract
from tritonbulk.errors import InputError, ModelError
from tritonbulk_export import export_xgboost
from tritonbulk_export.sources.xgboost_file import INPUT, load_xgboost

RANDOM = np.random.default_rng(6)
ROWS = 2000
X = RANDOM.normal(size=(ROWS, 3)).astype(np.float32)
X[::7, 1] = np.nan
SCORE = X[:, 0] + 0.3 * np.nan_to_num(X[:, 1])
KIND = RANDOM.choice(["x", "y", "é"], ROWS)
TABLE = pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]})


def train(target, rounds=12, **parameters):
    data = xgboost.DMatrix(X, target, feature_names=["a", "b", "c"])
    return xgboost.train({"max_depth": 4, "nthread": 1, **parameters}, data, rounds)


def differences(source, matrix):
    """Return by how much the graph is off the source, over ``matrix``."""
    session = onnxruntime.InferenceSession(source.graph.SerializeToString())
    (found,) = session.run(None, {INPUT: matrix})
    (expected,) = source.predict({INPUT: matrix}).outputs.values()
    assert found.shape == expected.shape
    return np.abs(found - expected) / np.maximum(1, np.abs(expected))


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        (SCORE > 0, {"objective": "binary:logistic"}),
        (SCORE > 0, {"objective": "binary:logistic", "base_score": 0.2}),
        (SCORE > 0, {"objective": "binary:logitraw"}),
        (RANDOM.integers(0, 3, ROWS), {"objective": "multi:softprob", "num_class": 3}),
        (RANDOM.integers(0, 3, ROWS), {"objective": "multi:softmax", "num_class": 3}),
        (SCORE, {"objective": "reg:squarederror"}),
        (SCORE, {"objective": "reg:absoluteerror"}),
        (SCORE, {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]}),
        (SCORE, {"booster": "dart", "rate_drop": 0.5, "seed": 1}),
        (SCORE, {"gamma": 3.0, "tree_method": "exact", "max_depth": 8}),
        (np.stack([SCORE, -SCORE], axis=1), {"tree_method": "hist"}),
        (np.exp(SCORE), {"objective": "reg:gamma"}),
        (np.exp(SCORE), {"objective": "reg:tweedie"}),
        (
            RANDOM.poisson(2, ROWS),
            {"objective": "count:poisson", "num_parallel_tree": 3, "subsample": 0.5},
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_every_objective_and_booster_answers_as_xgboost_does(target, parameters):
    source = load_xgboost(train(target, **parameters), TABLE.schema)
    assert differences(source, X).max() < 1e-6


def test_values_equal_to_a_threshold_go_where_xgboost_sends_them():
    booster = train(SCORE > 0, objective="binary:logistic")
    trees = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]
    splits = [
        (feature, np.float32(value))
        for tree in trees["trees"]
        for feature, value, left in zip(
            tree["split_indices"], tree["split_conditions"], tree["left_children"], strict=True
        )
        if left != -1
    ]
    edges = np.zeros((len(splits), 3), np.float32)
    for row, (feature, value) in enumerate(splits):
        edges[row, feature] = value
    assert differences(load_xgboost(booster, TABLE.schema), edges).max() < 1e-6


@pytest.mark.parametrize("one_hot_max", [1, 10])
def test_categories_travel_in_the_model_and_stand_in_the_contract(tmp_path, one_hot_max):
    frame = pa.table({"a": X[:, 0], "kind": pa.array(KIND).dictionary_encode()})
    data = xgboost.DMatrix(frame, (KIND == "y") + SCORE, enable_categorical=True)
    booster = xgboost.train({"max_cat_to_onehot": one_hot_max, "nthread": 1}, data, 12)
    booster.save_model(tmp_path / "model.ubj")
    pq.write_table(pa.table({"a": X[:, 0], "kind": KIND}), tmp_path / "rows.parquet")
    done = export_xgboost(
        tmp_path / "model.ubj",
        name="m",
        sample=tmp_path / "rows.parquet",
        repository=tmp_path / "models",
    )
    assert done.parity.rows == ROWS
    contract = Contract.from_json((done.entry / "contract.json").read_text())
    assert sorted(contract.inputs[0].columns[1].categories) == ["x", "y", "é"]
    assert "xgboost" in " ".join(contract.tools)


def test_a_wrapped_model_stops_at_its_best_round_and_a_booster_does_not(tmp_path):
    labels = (SCORE + RANDOM.normal(size=ROWS) > 0).astype(int)
    model = xgboost.XGBClassifier(n_estimators=80, early_stopping_rounds=2, n_jobs=1)
    model.fit(X[:500], labels[:500], eval_set=[(X[500:], labels[500:])], verbose=0)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    model.save_model(tmp_path / "model.json")
    for source in (tmp_path / "model.json", model):
        loaded = load_xgboost(source, pa.schema([(n, pa.float32()) for n in "abc"]))
        assert "best one count" in loaded.notes[0]
        found = loaded.predict({INPUT: X}).outputs["probabilities"]
        assert np.array_equal(found, model.predict_proba(X))
        assert differences(loaded, X).max() < 1e-6
    rounds = model.best_iteration + 3
    booster = train(SCORE, rounds)
    booster.set_attr(best_iteration=str(rounds - 3))
    loaded = load_xgboost(booster, TABLE.schema)
    assert f"all {rounds} rounds count" in loaded.notes[0]
    assert differences(loaded, X).max() < 1e-6


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"booster": "gblinear"}, "no trees"),
        ({"objective": "binary:hinge"}, "binary:hinge"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # XGBoost warns of its linear booster
def test_what_has_no_form_as_onnx_is_refused_by_name(parameters, message):
    with pytest.raises(ModelError, match=message):
        load_xgboost(train(SCORE > 0, **parameters), TABLE.schema)


def test_vectors_in_leaves_are_refused_by_name():
    booster = train(np.stack([SCORE, -SCORE], axis=1), multi_strategy="multi_output_tree")
    with pytest.raises(ModelError, match="one_output_per_tree"):
        load_xgboost(booster, TABLE.schema)


@pytest.mark.parametrize("child", [1_000_000, 0])
def test_impossible_node_numbers_are_refused(tmp_path, child):
    booster = train(SCORE)
    plain = json.loads(bytes(booster.save_raw("json")))
    tree = plain["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["left_children"][0] = child
    path = tmp_path / "model.json"
    path.write_text(json.dumps(plain))
    with pytest.raises((ModelError, InputError)):
        load_xgboost(path, TABLE.schema)


@pytest.mark.parametrize("content", [b"", b"binf old format", b"{not json"])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "model.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="save"):
        load_xgboost(path, TABLE.schema)
