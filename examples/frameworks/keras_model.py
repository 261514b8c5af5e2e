"""Keras 3 on its torch backend: a functional model with two outputs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from examples.frameworks.example import NUMBERS, Example, customers, main, matrix, written

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras


def make(folder: Path) -> Example:
    """Train on the customers and save the model as .keras."""
    table = customers(with_nulls=False)
    rows, target = matrix(table), table["defaulted"].to_numpy()
    keras.utils.set_random_seed(0)
    normalization = keras.layers.Normalization()
    normalization.adapt(rows)
    features = keras.Input((len(NUMBERS),), name="features")
    hidden = keras.layers.Dense(32, activation="relu")(normalization(features))
    hidden = keras.layers.Dropout(0.1)(keras.layers.BatchNormalization()(hidden))
    model = keras.Model(
        features,
        {
            "probability": keras.layers.Dense(1, activation="sigmoid", name="probability")(hidden),
            "embedding": keras.layers.Dense(8, name="embedding")(hidden),
        },
    )
    learner = keras.Model(features, model.output["probability"])
    learner.compile("adam", "binary_crossentropy")
    learner.fit(rows, target, batch_size=500, epochs=1, verbose=0)
    model.save(folder / "model.keras")
    answers = model.predict(rows, batch_size=4096, verbose=0)
    return Example(
        "default_keras",
        ("keras", str(folder / "model.keras"), "--input-map", f"features={','.join(NUMBERS)}"),
        written(table, folder, NUMBERS),
        {name: np.asarray(answer) for name, answer in answers.items()},
    )


if __name__ == "__main__":
    main(make)
