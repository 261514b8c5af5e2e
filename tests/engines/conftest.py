"""Rows with poison among them, a real server, and what `score` makes of both.

The engines are too large for the project's own environment; `make test-engines` makes one that has
them, and each module skips by name elsewhere.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tritonbulk
from tests.conftest import write_poison_entry
from tritonbulk import EmbeddedTriton, Scorer

ROWS, FILES, POISONS = 40_000, 4, (3, 15_000, 39_999)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A real server whose model fails batches with a 13 in them."""
    folder = tmp_path_factory.mktemp("models")
    write_poison_entry(folder / "poison", 512)
    with EmbeddedTriton(folder, stop_deadline_s=0) as running:
        yield running


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder of Parquet files with ids, values and text, a few values of them poison."""
    values = np.arange(ROWS, dtype=np.float32) + 1000
    values[list(POISONS)] = 13
    rows = pa.table(
        {"id": np.arange(ROWS), "x": values, "note": [f"n{i % 7}" for i in range(ROWS)]}
    )
    folder = tmp_path_factory.mktemp("rows")
    for number in range(FILES):
        share = ROWS // FILES
        pq.write_table(rows.slice(number * share, share), folder / f"{number}.parquet")
    return folder


@pytest.fixture
def scorer(server):
    """The scorer under test."""
    return Scorer("poison", endpoints=server.grpc, keep=["id", "note"])


@pytest.fixture(scope="session")
def wanted(server, files, tmp_path_factory):
    """What `score` writes for the same rows, in order of their ids."""
    out = tmp_path_factory.mktemp("scored") / "out"
    result = tritonbulk.score(
        files, model="poison", out=out, endpoints=[server.grpc], keep=["id", "note"]
    )
    assert (result.rows_ok, result.rows_failed) == (ROWS - len(POISONS), len(POISONS))
    return pa.concat_tables(
        pq.read_table(part).replace_schema_metadata(None) for part in sorted(out.glob("part-*"))
    )


@pytest.fixture(autouse=True, scope="session")
def worker_environment():
    """Workers of all engines run in this environment and find the tests' modules."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    found = (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, found))
