"""LightGBM exports: the entry answers as LightGBM does, for values that training never met, too."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tritonbulk.contract import Contract, gather
from tritonbulk.errors import ContractError, InputError, ModelError, ParityError
from tritonbulk_export import export_lightgbm
from tritonbulk_export.sources import lightgbm_file
from tritonbulk_export.sources.lightgbm_trees import to_onnx

RANDOM = np.random.default_rng(3)
ROWS = 600
A, B = RANDOM.normal(size=(2, ROWS))
KIND = RANDOM.integers(0, 6, ROWS)
X = np.column_stack([A, B, KIND])
TABLE = pa.table({"a": A, "b": B, "kind": np.array(list("uvwxyz"))[KIND]})
SCORE = A + (KIND == 2) - 0.5 * (KIND > 3)


def train(objective, target, data=X, categorical=("kind",), **parameters):
    """Return a booster that has loaded its own text, as a user's would."""
    options = {
        "objective": objective,
        "verbosity": -1,
        "num_threads": 1,
        "seed": 1,
        "min_data_per_group": 1,
        "cat_smooth": 0.0,
        **parameters,
    }
    names = ["a", "b", "kind"]
    dataset = lightgbm.Dataset(
        data, target, feature_name=names, categorical_feature=list(categorical), params=options
    )
    booster = lightgbm.train(options, dataset, num_boost_round=12)
    if categorical:
        booster.pandas_categorical = [list("uvwxyz")]
    return booster


def run(booster, matrix):
    """Return what our graph of ``booster`` answers to a float32 ``matrix``."""
    graph = to_onnx(booster.dump_model(), "x", "y")
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return session.run(None, {"x": matrix.astype(np.float32)})[0]


def expected_of(booster, matrix):
    answers = booster.predict(matrix.astype(np.float32))
    return answers.reshape(len(matrix), -1)


FLIGHTS = (Path(__file__).parents[2] / "examples/flights/flight_delay.lgb.txt").read_bytes()


@pytest.fixture
def export(tmp_path):
    def run(booster, rows=TABLE, **options):
        booster.save_model(tmp_path / "model.txt")
        pq.write_table(rows, tmp_path / "rows.parquet")
        return export_lightgbm(
            tmp_path / "model.txt",
            name="model",
            sample=tmp_path / "rows.parquet",
            repository=tmp_path / "repository",
            **options,
        )

    return run


OBJECTIVES = [
    ("multiclass", np.digitize(SCORE, [-0.5, 0.5]), {"num_class": 3}),
    ("multiclassova", np.digitize(SCORE, [-0.5, 0.5]), {"num_class": 3}),
    ("cross_entropy", 1 / (1 + np.exp(-SCORE)), {}),
    ("regression", SCORE * 100, {}),
    ("regression", np.abs(SCORE) * 100, {"reg_sqrt": True}),
    ("regression_l1", SCORE, {}),
    ("huber", SCORE, {}),
    ("quantile", SCORE, {"alpha": 0.9}),
    ("poisson", np.exp(SCORE).round(), {}),
    ("gamma", np.exp(SCORE), {}),
    ("tweedie", np.exp(SCORE), {}),
    ("cross_entropy_lambda", 1 / (1 + np.exp(-SCORE)), {}),
    ("regression", SCORE, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
    ("regression", SCORE, {"boosting": "dart"}),
]


@pytest.mark.parametrize(("objective", "target", "parameters"), OBJECTIVES)
def test_every_objective_gives_what_lightgbm_gives(objective, target, parameters):
    booster = train(objective, target, **parameters)
    assert np.allclose(run(booster, X), expected_of(booster, X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sigmoid", [1.0, 2.5])
def test_a_binary_model_gives_both_probabilities_with_all_their_digits(sigmoid):
    booster = train("binary", SCORE > 0, sigmoid=sigmoid, learning_rate=0.9, lambda_l2=0.0)
    answers = run(booster, X)
    late = booster.predict(X.astype(np.float32))
    assert late.min() < 1e-3
    assert np.allclose(answers, np.column_stack([1 - late, late]), rtol=2e-5, atol=0)


def test_sets_of_categories_are_chains_of_equalities():
    booster = train("binary", SCORE > 0, max_cat_to_onehot=1)
    assert "||" in str(booster.dump_model()["tree_info"])
    strange = np.repeat([[0.5, 0.5, 0.0]], 10, axis=0)
    strange[:, 2] = [0, 1, 2, 3, 4, 5, 6, 99, -1, np.nan]
    assert np.allclose(run(booster, strange)[:, 1:], expected_of(booster, strange), atol=1e-6)


@pytest.mark.parametrize("has_nan", [False, True])
def test_nan_goes_where_lightgbm_sends_it(has_nan):
    data = X.copy()
    if has_nan:
        data[::7, 0] = np.nan
    booster = train("binary", SCORE > 0, data=data)
    strange = X.copy()
    strange[::2, 0] = np.nan
    strange[::3, 1] = np.nan
    assert np.allclose(run(booster, strange)[:, 1:], expected_of(booster, strange), atol=1e-6)


def test_values_on_a_threshold_that_float32_cannot_hold_stay_on_their_side():
    edge = np.float64(np.float32(0.3))
    data = np.repeat([[edge - 1e-9, 0, 0], [edge + 1e-9, 0, 0]], 200, axis=0)
    booster = train("binary", data[:, 0] > edge, data=data, min_data_in_bin=1, categorical=())
    near = np.array([[np.nextafter(np.float32(edge), d), 0, 0] for d in (-1, edge, 1)])
    assert np.allclose(run(booster, near)[:, 1:], expected_of(booster, near), atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"linear_tree": True}, "linear trees"), ({"zero_as_missing": True}, "zero for missing")],
    ids=["linear", "zero"],
)
def test_what_has_no_onnx_form_is_refused(parameters, reason):
    booster = train("regression", SCORE, categorical=(), **parameters)
    with pytest.raises(ModelError, match=reason):
        to_onnx(booster.dump_model(), "x", "y")


def test_text_columns_are_coded_by_the_categories_in_the_file(export):
    exported = export(train("binary", SCORE > 0))
    contract = Contract.from_json((exported.entry / "contract.json").read_text())
    (features,) = contract.inputs
    assert [c.name for c in features.columns] == ["a", "b", "kind"]
    assert features.columns[2].categories == tuple("uvwxyz")
    assert {c.null for c in features.columns} == {"nan"}
    batch = TABLE.to_batches()[0]
    assert np.array_equal(gather(batch, features), X.astype(np.float32))
    assert [output.name for output in contract.outputs] == ["probabilities"]
    assert contract.outputs[0].shape == (2,)
    assert exported.parity.rows == ROWS


def test_nulls_and_unknown_categories_are_missing_values(export):
    booster = train("binary", SCORE > 0)
    holes = pa.table(
        {
            "a": pa.array([None, 1.0, None], pa.float64()),
            "b": [0.0, None, 1.0],
            "kind": ["u", None, "never seen"],
        }
    )
    assert export(booster, holes).parity.rows == 3


def test_made_up_feature_names_take_the_columns_in_their_order(export):
    data = lightgbm.Dataset(X, SCORE)
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, data, num_boost_round=2)
    numbers = pa.table({"p": A, "q": B, "r": KIND})
    contract_path = export(booster, numbers).entry / "contract.json"
    (features,) = Contract.from_json(contract_path.read_text()).inputs
    assert [c.name for c in features.columns] == ["p", "q", "r"]


def test_a_constant_category_whose_list_has_no_place_is_refused(export):
    constant = X.copy()
    constant[:, 2] = 0
    with pytest.raises(ModelError, match="lists categories for 1 features but 0"):
        export(train("binary", SCORE > 0, data=constant))


def test_a_sample_without_a_feature_is_refused(export):
    with pytest.raises(ContractError, match="'kind'"):
        export(train("binary", SCORE > 0), TABLE.drop_columns(["kind"]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "does not exist"),
        (b"not a model", "is not a LightGBM text model"),
        (b"\xff", "is not a LightGBM text model"),
        (b"tree\nversion=v4\n", "is cut off or damaged"),
        (FLIGHTS[:900], "is cut off or damaged"),
        (FLIGHTS[:100_000], "is cut off or damaged"),
        (FLIGHTS.replace(b"Tree=1\n", b"Tree=100\n", 1), "is cut off or damaged"),
    ],
    ids=range(7),
)
def test_a_file_that_is_no_model_is_refused(tmp_path, data, reason):
    if data is not None:
        (tmp_path / "model.txt").write_bytes(data)
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=reason):
        export_lightgbm(tmp_path / "model.txt", name="m", sample=tmp_path / "rows.parquet")


def test_a_damaged_leaf_publishes_nothing(export, tmp_path, monkeypatch):
    """The graph is made from a dump in which one leaf of many is a little off."""
    honest = lightgbm_file.to_onnx

    def damaged(dump, *names):
        node = dump["tree_info"][0]["tree_structure"]
        while "leaf_value" not in node:
            node = node["left_child"]
        node["leaf_value"] += 0.01
        return honest(dump, *names)

    monkeypatch.setattr(lightgbm_file, "to_onnx", damaged)
    with pytest.raises(ParityError, match=r"exceed atol 1e-05 \+ rtol 1e-05"):
        export(train("binary", SCORE > 0))
    assert not (tmp_path / "repository").exists()
