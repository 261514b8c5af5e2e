"""Exports of frameworks that are too large for the project's own environment.

Each module skips by name where its framework is missing; ``make test-export-frameworks`` makes an
environment that has them all.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS, FEATURES, TOKENS = 300, 8, 6


def rows() -> pa.Table:
    """Return ``f0`` … ``f7``, ``ids`` (6 a row), ``w`` and ``image`` (3 × 8 × 8)."""
    random = np.random.default_rng(0)
    columns = {f"f{i}": random.normal(size=ROWS).astype(np.float32) for i in range(FEATURES)}
    ids = pa.array(random.integers(0, 50, ROWS * TOKENS))
    image = pa.array(random.normal(size=ROWS * 192).astype(np.float32))
    lists = {
        "ids": pa.FixedSizeListArray.from_arrays(ids, TOKENS),
        "image": pa.FixedSizeListArray.from_arrays(image, 192),
    }
    return pa.table({**columns, **lists, "w": random.normal(size=ROWS).astype(np.float32)})


@pytest.fixture
def target(tmp_path, monkeypatch):
    """The options of an export, in a working folder of its own, with `rows` as the sample."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(rows(), tmp_path / "rows.parquet")
    return {"name": "m", "sample": "rows.parquet", "repository": "models"}
