"""Jobs to be disturbed, and what has to hold of them at any moment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tritonbulk.checking import verify
from tritonbulk.errors import DamagedError, OutputError
from tritonbulk.job.commit import look
from tritonbulk.job.statement import read_part
from tritonbulk.job.stores.base import Store
from tritonbulk.job.stores.local import LocalStore

ROWS, SEGMENT_ROWS = 4_096, 512
SEGMENTS = ROWS // SEGMENT_ROWS


def write_rows(path: Path, rows: int = ROWS, begin: int = 0) -> Path:
    """Write rows with an ``id`` and four values, from which every prediction is known."""
    ids = np.arange(begin, begin + rows)
    values = {name: (ids * 4 + at).astype(np.float32) for at, name in enumerate("abcd")}
    pq.write_table(pa.table({"id": ids, **values}), path, row_group_size=1_000)
    return path


@dataclass(frozen=True)
class LiveJob:
    """A scoring job through the real server.

    Attributes:
        rows: its input.
        endpoint: of the server.
        model: one that doubles, with at most 256 rows a request.
        options: more words of the command line.
    """

    rows: Path
    endpoint: str
    model: str = "wide"
    options: tuple[str, ...] = ()

    def words(self, out: object, *more: str) -> tuple[str, ...]:
        """Return the command line that begins or goes on with it."""
        return (
            *("score", str(self.rows), "--model", self.model, "--endpoint", self.endpoint),
            *("--out", str(out), "--input-map", "x=a,b,c,d"),
            *("--segment-rows", str(SEGMENT_ROWS), *self.options, *more),
        )


def digests(store: Store | Path) -> dict[str, str]:
    """Return the SHA-256 of every part and manifest."""
    store = LocalStore(store) if isinstance(store, Path) else store
    names = [*store.names(""), *(f"_tritonbulk/{name}" for name in store.names("_tritonbulk"))]
    return {
        name: hashlib.sha256(store.read(name) or b"").hexdigest()
        for name in names
        if name.startswith(("part-", "_tritonbulk/manifest"))
    }


def faults(store: Store | Path) -> list[str]:
    """Return what is wrong with an output that may be unfinished; nothing may ever be.

    Every part and job file that can be seen is whole, and where there is a manifest it lists parts
    that stand.
    """
    store = LocalStore(store) if isinstance(store, Path) else store
    found = []
    for name in store.names(""):
        try:
            read_part(store.read(name) or b"")
        except DamagedError as error:
            found.append(f"{name}: {error}")
    try:
        standing = look(store)
        if standing.jobs and all(job.manifest for job in standing.jobs):
            found += verify(store).problems
    except (DamagedError, OutputError) as error:
        found.append(str(error))
    return found


def is_right(out: Path, rows: int = ROWS) -> bool:
    """Return whether every row stands there once, in order, with its prediction."""
    table = ds.dataset(out).to_table()
    predicted = np.array(table["y"].to_pylist(), np.float32)
    expected = np.arange(4 * rows, dtype=np.float32).reshape(rows, 4) * 2
    return table["id"].to_pylist() == list(range(rows)) and bool((predicted == expected).all())
