"""XGBoost: numbers with gaps, and texts whose categories travel in the model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import xgboost

from examples.frameworks.example import NUMBERS, TEXTS, Example, customers, main, written


def make(folder: Path) -> Example:
    """Train on the customers and save the Booster as JSON."""
    table = customers()
    columns = {name: table[name] for name in NUMBERS}
    columns |= {name: table[name].dictionary_encode() for name in TEXTS}
    data = xgboost.DMatrix(pa.table(columns), table["defaulted"], enable_categorical=True)
    parameters = {"objective": "binary:logistic", "max_depth": 6, "seed": 0, "nthread": 1}
    booster = xgboost.train(parameters, data, num_boost_round=100)
    booster.save_model(folder / "model.json")
    late = booster.predict(data)
    return Example(
        "default_xgboost",
        ("xgboost", str(folder / "model.json")),
        written(table, folder, (*NUMBERS, *TEXTS)),
        {"probabilities": np.column_stack([1 - late, late])},
    )


if __name__ == "__main__":
    main(make)
