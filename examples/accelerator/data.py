"""Write ``data/accelerator.parquet``: rows for the simulated accelerator.

``python examples/accelerator/data.py [ROWS]``
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 262_144
FILE = Path("data/accelerator.parquet")


def make_rows(rows: int) -> pa.Table:
    """Return rows of a number and four FP32 features; no two are alike."""
    random = np.random.default_rng(0)
    features = random.standard_normal((4, rows), dtype=np.float32)
    return pa.table({"row": np.arange(rows), **{f"x{n}": each for n, each in enumerate(features)}})


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    pq.write_table(make_rows(int(sys.argv[1]) if sys.argv[1:] else ROWS), FILE)
    print(FILE)
