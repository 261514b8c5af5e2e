"""Keras 3: functional and sequential models on the torch backend."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("torch", reason="torch is not installed: make test-export-frameworks runs it")
os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras", reason="keras is not installed: make test-export-frameworks runs it")

import keras

from tritonbulk.contract import Contract
from tritonbulk.errors import InputError, ModelError
from tritonbulk_export import export_keras

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def layers():
    keras.utils.set_random_seed(0)
    features = keras.Input((8,), name="features")
    hidden = keras.layers.Dense(6, activation="relu")(features)
    hidden = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(hidden))
    return features, hidden


def contract(done):
    return Contract.from_json((done.entry / "contract.json").read_text())


def test_a_saved_model_becomes_an_entry_with_its_own_names(target, layers):
    features, hidden = layers
    answer = keras.layers.Dense(3, activation="softmax", name="probabilities")(hidden)
    keras.Model(features, answer).save("model.keras")
    done = export_keras("model.keras", input_map=["features=f*"], **target)
    assert [(t.name, t.shape) for t in contract(done).inputs] == [("features", (8,))]
    assert [(t.name, t.shape) for t in contract(done).outputs] == [("probabilities", (3,))]
    assert contract(done).source == "keras"


def test_several_inputs_and_a_mapping_of_outputs(target, layers):
    features, hidden = layers
    ids = keras.Input((6,), name="ids", dtype="int32")
    summed = keras.layers.Flatten()(keras.layers.Embedding(50, 2)(ids))
    both = keras.layers.Concatenate()([hidden, summed])
    outputs = {"a": keras.layers.Dense(1)(both), "b": keras.layers.Dense(2)(both)}
    model = keras.Model([features, ids], outputs)
    done = export_keras(model, input_map=["features=f*"], outputs=["b"], **target)
    assert {t.name: t.datatype.name for t in contract(done).inputs} == {
        "features": "FP32",
        "ids": "INT32",
    }
    assert [t.name for t in contract(done).outputs] == ["b"]


def test_a_sequential_model_gets_a_plain_input(target):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    done = export_keras(model, input_map=["input=f*"], outputs=["y"], **target)
    assert [t.name for t in contract(done).inputs] == ["input"]


def test_what_runs_code_or_is_not_built_is_refused(target, tmp_path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Lambda(lambda x: x)])
    model.save("lambda.keras")
    with pytest.raises(InputError, match="Lambda"):
        export_keras("lambda.keras", input_map=["input=f*"], **target)
    with pytest.raises(ModelError, match="build"):
        export_keras(keras.Sequential([keras.layers.Dense(2)]), **target)
    (tmp_path / "junk.keras").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot be loaded"):
        export_keras("junk.keras", **target)
