"""scikit-learn exports: the entry answers as the pipeline does, and strangers' code never runs."""

from __future__ import annotations

import json
import pickle
from importlib.util import find_spec

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    RidgeClassifier,
    TweedieRegressor,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from tritonbulk.contract import Contract, gather
from tritonbulk.errors import ContractError, InputError, ModelError, PlatformError
from tritonbulk_export import export_sklearn

RANDOM = np.random.default_rng(5)
NUMBERS = pa.table({name: RANDOM.normal(size=400) for name in ("a", "b", "c", "d")})
X = np.column_stack([NUMBERS[name].to_numpy() for name in NUMBERS.column_names])
Y2 = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)
Y3 = np.digitize(X[:, 0], [-0.5, 0.5])


@pytest.fixture
def export(tmp_path):
    """Return a function that exports a model with some rows and returns the result."""

    def run(model, rows=NUMBERS, **options):
        skops.io.dump(model, tmp_path / "model.skops")
        pq.write_table(rows, tmp_path / "rows.parquet")
        return export_sklearn(
            tmp_path / "model.skops",
            name="model",
            sample=tmp_path / "rows.parquet",
            repository=tmp_path / "repository",
            **options,
        )

    return run


def served(exported, rows):
    """Return what the published file answers to ``rows``, gathered by the published contract."""
    contract = Contract.from_json((exported.entry / "contract.json").read_text())
    path = exported.entry / str(exported.version) / "model.onnx"
    session = onnxruntime.InferenceSession(path)
    batch = rows.combine_chunks().to_batches()[0]
    feed = {}
    for tensor in contract.inputs:
        values = gather(batch, tensor)
        if values.dtype == object:
            values = np.vectorize(bytes.decode, otypes=[object])(values)
        feed[tensor.name] = values
    names = [output.name for output in contract.outputs]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), Y2),
        (LogisticRegression(), Y3),
        (LogisticRegression(), np.array(["no", "yes"])[Y2]),
        (RandomForestClassifier(5, random_state=0), Y3),
        (HistGradientBoostingClassifier(max_iter=10), Y3),
        (MLPClassifier((4,), max_iter=500, tol=0.01, random_state=0), Y3),
        (
            VotingClassifier([("a", LogisticRegression())], voting="soft", flatten_transform=False),
            Y2,
        ),
    ],
    ids=[
        "scaled-binary",
        "three-classes",
        "text-labels",
        "forest",
        "histogram-trees",
        "mlp",
        "voting",
    ],
)
def test_a_classifier_gives_label_and_probabilities(export, model, labels):
    model.fit(X, labels)
    exported = export(model)
    answers = served(exported, NUMBERS)
    assert list(answers) == ["label", "probabilities"]
    assert np.array_equal(answers["label"], model.predict(X.astype(np.float32)))
    assert np.abs(answers["probabilities"] - model.predict_proba(X.astype(np.float32))).max() < 1e-5
    assert exported.parity.rows == 400


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        (LinearRegression(), X @ [1.0, 2.0, 3.0, 4.0]),
        (LinearRegression(), X @ np.ones((4, 2))),
        (HistGradientBoostingRegressor(max_iter=10), X[:, 0] * 100),
    ],
    ids=["linear", "two-targets", "histogram-trees"],
)
def test_a_regressor_gives_variable(export, model, targets):
    model.fit(X, targets)
    answers = served(export(model), NUMBERS)
    expected = model.predict(X.astype(np.float32)).reshape(400, -1)
    assert list(answers) == ["variable"]
    assert np.allclose(answers["variable"], expected, rtol=1e-5, atol=1e-4)


def test_histogram_trees_split_float32_values_that_lie_on_a_threshold(export):
    # 0.1 is no float32: its nearest lies above, so rounding to nearest would change sides.
    column = np.repeat([0.1, 0.2, 0.3, 0.7], 100)
    table = pa.table({"a": column})
    narrow = column.astype(np.float32).astype(np.float64).reshape(-1, 1)
    model = HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=1)
    model.fit(narrow, column > 0.25)
    for tree in (tree for iteration in model._predictors for tree in iteration):
        # A threshold a hair below a float32 value: to the nearest it would be that value.
        tree.nodes["num_threshold"] = np.nextafter(np.float64(np.float32(0.3)), 0)
    answers = served(export(model, table), table)
    assert np.abs(answers["probabilities"] - model.predict_proba(narrow)).max() < 1e-5


def pipeline_with_text(columns):
    encoder = ColumnTransformer(
        [
            ("numbers", StandardScaler(), columns[0]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), columns[1]),
        ]
    )
    return make_pipeline(encoder, LogisticRegression())


MIXED = pa.table({"a": X[:, 0], "kind": np.array(["x", "y", "zä"])[Y3], "unused": X[:, 3]})


def test_columns_selected_by_name_become_one_tensor_each(export):
    model = pipeline_with_text((["a"], ["kind"])).fit(MIXED.select(["a", "kind"]), Y2)
    exported = export(model, MIXED)
    contract = Contract.from_json((exported.entry / "contract.json").read_text())
    described = [(tensor.name, tensor.datatype.name, tensor.shape) for tensor in contract.inputs]
    assert described == [("a", "FP32", (1,)), ("kind", "BYTES", (1,))]
    expected = model.predict_proba(MIXED.select(["a", "kind"]))
    assert np.abs(served(exported, MIXED)["probabilities"] - expected).max() < 1e-5


DOCUMENTS = pa.table({"text": np.array(["late again", "very late", "on time"])[Y3]})
TFIDF = {"lowercase": False, "token_pattern": r"[a-zA-Z0-9_]+"}


def test_a_vectorizer_takes_the_one_column_of_text(export):
    texts = DOCUMENTS["text"].to_pylist()
    model = make_pipeline(TfidfVectorizer(**TFIDF), LogisticRegression()).fit(texts, Y2)
    rows = DOCUMENTS.append_column("truth", pa.array(Y2))
    exported = export(model, rows, labels="truth")
    (tensor,) = Contract.from_json((exported.entry / "contract.json").read_text()).inputs
    assert (tensor.name, tensor.datatype.name, tensor.shape) == ("text", "BYTES", (1,))
    off = served(exported, rows)["probabilities"] - model.predict_proba(texts)
    assert np.abs(off).max() < 1e-5
    with pytest.raises(ContractError, match=r"2 columns of text \(text, more\)"):
        export(model, rows.append_column("more", rows["text"]))


def test_a_vectorizer_of_a_named_column_needs_pandas(export):
    vectorizer = TfidfVectorizer(**TFIDF).fit(DOCUMENTS["text"].to_pylist())
    # Without pandas, it cannot be fitted there either.
    columns = ColumnTransformer([("t", OneHotEncoder(), ["text"])]).fit(DOCUMENTS)
    columns.transformers = columns.transformers_ = [("t", vectorizer, "text")]
    last = LogisticRegression().fit(vectorizer.transform(DOCUMENTS["text"].to_pylist()), Y2)
    model = make_pipeline(columns, last)
    if find_spec("pandas") is None:
        with pytest.raises(PlatformError, match="pip install pandas"):
            export(model, DOCUMENTS)
    else:
        assert export(model, DOCUMENTS).published


def test_columns_selected_by_position_take_the_sample_in_its_order(export):
    rows = MIXED.select(["a", "kind"])
    matrix = np.column_stack([X[:, 0].astype(object), rows["kind"].to_pylist()])
    model = pipeline_with_text(([0], [1])).fit(matrix, Y2)
    assert (
        np.abs(
            served(export(model, rows), rows)["probabilities"] - model.predict_proba(matrix)
        ).max()
        < 1e-5
    )


def test_nulls_are_nan_where_the_model_takes_nan(export):
    holes = NUMBERS.set_column(0, "a", pa.array(X[:, 0], mask=X[:, 0] < -1))
    matrix = np.where((X[:, :1] < -1) & [True, False, False, False], np.nan, X)
    model = HistGradientBoostingClassifier(max_iter=10).fit(matrix, Y2)
    answers = served(export(model, holes), holes)
    assert (
        np.abs(answers["probabilities"] - model.predict_proba(matrix.astype(np.float32))).max()
        < 1e-5
    )


def test_nulls_are_refused_where_the_model_does_not_take_nan(export):
    model = LogisticRegression().fit(X, Y2)
    contract = Contract.from_json((export(model).entry / "contract.json").read_text())
    assert {column.null for column in contract.inputs[0].columns} == {"refuse"}
    holes = NUMBERS.set_column(0, "a", pa.array(X[:, 0], mask=X[:, 0] < -1))
    with pytest.raises(InputError, match="null"):
        export(model, holes)


def test_nulls_are_refused_where_the_graph_takes_nan_otherwise_than_the_model(export):
    # scikit-learn sends NaN to the larger child, skl2onnx to the right one.
    model = RandomForestClassifier(20, random_state=0).fit(X, Y3)
    assert model.predict(np.full((1, 4), np.nan)).shape == (1,)
    contract = Contract.from_json((export(model).entry / "contract.json").read_text())
    assert "refuse" in {column.null for column in contract.inputs[0].columns}


def test_a_model_with_names_takes_its_columns_out_of_many(export):
    model = LogisticRegression().fit(NUMBERS.select(["c", "a"]), Y2)
    exported = export(model)
    contract = Contract.from_json((exported.entry / "contract.json").read_text())
    assert [column.name for column in contract.inputs[0].columns] == ["c", "a"]


def test_a_model_without_names_needs_a_sample_of_its_width(export):
    model = LogisticRegression().fit(X[:, :3], Y2)
    with pytest.raises(ContractError, match="3 features without names, the sample has 4"):
        export(model)
    rows = NUMBERS.select(["a", "b", "c"]).append_column("late", pa.array(Y2))
    assert export(model, rows, labels="late").parity.ranking is not None


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (KMeans(2, n_init=1, random_state=0).fit(X), "classifiers and regressors"),
        (RidgeClassifier().fit(X, Y2), "without predict_proba"),
        (DummyClassifier().fit(X, 0 * Y2), "one class only"),
        (RandomForestClassifier(3).fit(X, np.column_stack([Y2, 1 - Y2])), "several labels"),
        (MultiOutputClassifier(LogisticRegression()).fit(X, np.column_stack([Y2, Y2])), "several"),
    ],
    ids=["clusters", "no-probabilities", "one-class", "two-labels", "two-models"],
)
def test_other_kinds_of_model_are_refused(export, model, reason):
    with pytest.raises(ModelError, match=reason):
        export(model)


def test_a_step_that_skl2onnx_does_not_know_is_named(export):
    model = make_pipeline(FunctionTransformer(np.abs), LogisticRegression()).fit(X, Y2)
    with pytest.raises(ModelError, match="FunctionTransformer"):
        export(model)


def test_a_pickle_is_refused_unless_it_is_trusted(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(LogisticRegression().fit(X, Y2)))
    pq.write_table(NUMBERS, tmp_path / "rows.parquet")
    options = {"name": "m", "sample": tmp_path / "rows.parquet", "repository": tmp_path / "r"}
    with pytest.raises(InputError, match="--trust-pickle"):
        export_sklearn(path, **options)
    assert not (tmp_path / "r").exists()
    assert export_sklearn(path, trust_pickle=True, **options).published


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(),
        KNeighborsRegressor(algorithm="ball_tree"),
        CalibratedClassifierCV(RidgeClassifier()),
        make_pipeline(SimpleImputer(), LogisticRegression()),
        TweedieRegressor(power=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_models_whose_parts_skops_does_not_know_are_read_if_they_run_nothing(export, model):
    assert export(model.fit(X, Y2)).parity.rows == 400


def test_imputers_of_texts_keep_their_dtype(export):
    rows = X[:, :2].astype(object)
    model = make_pipeline(SimpleImputer(strategy="median"), LogisticRegression()).fit(rows, Y2)
    assert export(model, NUMBERS.select(["a", "b"])).published


class Stranger:
    """A type that skops does not know."""


def test_unknown_types_in_a_skops_file_are_refused_by_name(export):
    model = LogisticRegression().fit(X, Y2)
    model.extra = Stranger()
    with pytest.raises(InputError, match="Stranger"):
        export(model)


def test_trees_with_impossible_node_numbers_are_refused(export):
    model = HistGradientBoostingClassifier(max_iter=2).fit(X, Y2)
    model._predictors[0][0].nodes["left"][0] = 10_000_000
    with pytest.raises(InputError, match="impossible node numbers"):
        export(model)


def test_trees_that_ask_for_features_that_no_row_has_are_refused(export):
    model = HistGradientBoostingClassifier(max_iter=2).fit(X, Y2)
    model._predictors[0][0].nodes["feature_idx"][0] = 2**28
    with pytest.raises(InputError, match="impossible node numbers"):
        export(model)


def test_the_entry_names_the_tools_that_made_it(export):
    exported = export(LogisticRegression().fit(X, Y2))
    plain = json.loads((exported.entry / "contract.json").read_text())
    assert plain["source"] == "sklearn"
    assert set(plain["tools"]) == {"tritonbulk", "onnx", "scikit-learn", "skl2onnx"}
