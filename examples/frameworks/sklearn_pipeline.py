"""scikit-learn: numbers with gaps, texts, an imputer, a scaler, an encoder, a linear model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from examples.frameworks.example import NUMBERS, TEXTS, Example, customers, main, matrix, written


def make(folder: Path) -> Example:
    """Train on the customers and save the pipeline with skops."""
    table = customers()
    texts = np.column_stack([table[name].to_numpy().astype(object) for name in TEXTS])
    rows = np.concatenate([matrix(table).astype(object), texts], axis=1)
    numbers = list(range(len(NUMBERS)))
    words = list(range(len(NUMBERS), rows.shape[1]))
    model = make_pipeline(
        ColumnTransformer(
            [
                (
                    "numbers",
                    make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
                    numbers,
                ),
                ("words", OneHotEncoder(handle_unknown="ignore"), words),
            ]
        ),
        LogisticRegression(max_iter=500),
    )
    model.fit(rows[:5000], table["defaulted"].to_numpy()[:5000])
    skops.io.dump(model, folder / "model.skops")
    return Example(
        "default_sklearn",
        ("sklearn", str(folder / "model.skops")),
        written(table, folder, (*NUMBERS, *TEXTS)),
        {"label": model.predict(rows), "probabilities": model.predict_proba(rows)},
    )


if __name__ == "__main__":
    main(make)
