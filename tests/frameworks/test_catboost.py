"""CatBoost: classifiers, regressors, rankers; what its ONNX form gets wrong is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip(
    "catboost", reason="catboost is not installed: make test-export-frameworks runs it"
)

import catboost

from tritonbulk.contract import Contract
from tritonbulk.errors import InputError, ModelError
from tritonbulk_export import export_catboost

RANDOM = np.random.default_rng(0)
ROWS = 2000
X = RANDOM.normal(size=(ROWS, 3)).astype(np.float32)
X[::7, 1] = np.nan
OPTIONS = {
    "iterations": 20,
    "depth": 4,
    "verbose": 0,
    "allow_writing_files": False,
    "thread_count": 1,
}


@pytest.fixture
def export(target):
    """Export a model of X by its file."""
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]}), "rows.parquet")

    def export(model, form="cbm"):
        model.save_model(f"model.{form}", format=form)
        return export_catboost(f"model.{form}", **target)

    return export


@pytest.mark.parametrize("form", ["cbm", "json"])
@pytest.mark.parametrize(
    "labels",
    [
        (X[:, 0] > 0).astype(int),
        np.where(X[:, 0] > 0, "yes", "no"),
        RANDOM.choice(list("abc"), ROWS),
    ],
)
def test_classifiers_give_labels_and_probabilities(export, labels, form):
    done = export(catboost.CatBoostClassifier(**OPTIONS).fit(X, labels), form)
    found = Contract.from_json((done.entry / "contract.json").read_text())
    classes = len(np.unique(labels))
    assert [(t.name, t.shape) for t in found.outputs] == [
        ("label", ()),
        ("probabilities", (classes,)),
    ]
    assert done.parity.outputs["probabilities"].max_abs < 1e-6
    assert {column.null for column in found.inputs[0].columns} == {"nan"}


@pytest.mark.parametrize(
    "loss", ["RMSE", "Quantile:alpha=0.9", "LogCosh", "Poisson", "Tweedie:variance_power=1.5"]
)
def test_regressors_give_what_their_loss_makes_of_the_sum(export, loss):
    model = catboost.CatBoostRegressor(loss_function=loss, **OPTIONS).fit(X, np.abs(X[:, 0]))
    assert export(model).parity.outputs["variable"].max_abs < 1e-5


def test_a_ranker_gives_its_score(export):
    ranker = catboost.CatBoostRanker(loss_function="YetiRank", **OPTIONS)
    assert export(ranker.fit(X, X[:, 0], group_id=np.repeat(np.arange(200), 10))).published


def test_what_catboost_writes_wrongly_or_not_at_all_is_refused(export, target):
    labels = RANDOM.choice(list("abc"), ROWS)
    model = catboost.CatBoostClassifier(loss_function="MultiClassOneVsAll", **OPTIONS)
    with pytest.raises(ModelError, match="MultiClassOneVsAll"):
        export(model.fit(X, labels))
    model = catboost.CatBoostRegressor(grow_policy="Lossguide", **OPTIONS)
    with pytest.raises(ModelError, match="symmetric"):
        export(model.fit(X, X[:, 0]))
    with pytest.raises(InputError, match="no CatBoost model"):
        export_catboost("rows.parquet", **target)
