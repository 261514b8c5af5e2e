"""LightGBM: numbers with gaps. ``examples/flights`` has categories and a larger model."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np

from examples.frameworks.example import NUMBERS, Example, customers, main, matrix, written


def make(folder: Path) -> Example:
    """Train on the customers and save the Booster as text."""
    table = customers()
    rows = matrix(table)
    data = lightgbm.Dataset(rows, table["defaulted"].to_numpy(), feature_name=list(NUMBERS))
    parameters = {"objective": "binary", "seed": 0, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train(parameters, data, num_boost_round=100)
    booster.save_model(folder / "model.txt")
    late = np.asarray(booster.predict(rows))
    return Example(
        "default_lightgbm",
        ("lightgbm", str(folder / "model.txt")),
        written(table, folder, NUMBERS),
        {"probabilities": np.column_stack([1 - late, late])},
    )


if __name__ == "__main__":
    main(make)
