"""CatBoost: numbers with gaps, and a label that is a text."""

from __future__ import annotations

from pathlib import Path

import catboost
import numpy as np

from examples.frameworks.example import NUMBERS, Example, customers, main, matrix, written


def make(folder: Path) -> Example:
    """Train on the customers and save the model as .cbm."""
    table = customers()
    rows = matrix(table)
    target = np.where(table["defaulted"].to_numpy(), "defaults", "pays")
    model = catboost.CatBoostClassifier(
        iterations=100, depth=6, random_seed=0, thread_count=1, verbose=0, allow_writing_files=False
    )
    model.fit(rows, target)
    model.save_model(str(folder / "model.cbm"))
    return Example(
        "default_catboost",
        ("catboost", str(folder / "model.cbm")),
        written(table, folder, NUMBERS),
        {"label": model.predict(rows), "probabilities": model.predict_proba(rows)},
    )


if __name__ == "__main__":
    main(make)
