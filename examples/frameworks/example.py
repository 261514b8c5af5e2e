"""What the examples share: the same data for all, and what an example hands over.

Each example is a module with one function ``make(folder)``: it trains a small model, writes it and
20,000 rows into ``folder``, and returns an `Example`. Run one alone to see its export:

    python -m examples.frameworks.xgboost_trees
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 20_000
NUMBERS = ("age", "income", "debt", "months", "late_payments")
TEXTS = ("region", "product")
BUILD = Path("data/examples")

Answers = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Example:
    """A model in a file, rows for it, and the framework's own answers to them.

    Attributes:
        name: of the entry.
        arguments: of ``tritonbulk export``, without ``--name``, ``--sample`` and ``--repository``.
        sample: the rows.
        answers: by output, from the framework's own call on the framework's own kind of rows.
    """

    name: str
    arguments: tuple[str, ...]
    sample: Path
    answers: Answers


def customers(rows: int = ROWS, *, with_nulls: bool = True) -> pa.Table:
    """Return customers of a bank that does not exist, the same ones for everybody.

    Numbers are float32 (``debt`` with nulls, if wanted), ``region`` and ``product`` texts, and
    ``defaulted`` is what the models learn.
    """
    random = np.random.default_rng(20_000)
    age = random.integers(18, 90, rows).astype(np.float32)
    income = random.lognormal(10, 0.6, rows).astype(np.float32).round()
    debt = (income * random.gamma(1.5, 0.4, rows)).astype(np.float32).round()
    months = random.integers(1, 240, rows).astype(np.float32)
    late = random.poisson(0.7, rows).astype(np.float32)
    region = random.choice(["north", "south", "east", "west"], rows)
    product = random.choice(["card", "car", "house"], rows, p=[0.5, 0.3, 0.2])
    risk = 1.2 * np.log1p(debt / income) + 0.5 * late - 0.008 * months - 0.01 * age
    risk += 0.4 * (product == "card") - 0.3 * (region == "north") + random.normal(0, 0.5, rows)
    unknown = random.uniform(size=rows) < (0.05 if with_nulls else 0)
    return pa.table(
        {
            "age": age,
            "income": income,
            "debt": pa.array(debt, mask=unknown),
            "months": months,
            "late_payments": late,
            "region": region,
            "product": product,
            "defaulted": (risk > 0.4).astype(np.int64),
        }
    )


def matrix(table: pa.Table, names: tuple[str, ...] = NUMBERS) -> npt.NDArray[np.float32]:
    """Return columns side by side, ``[rows, columns]`` float32; nulls are NaN."""
    columns = [table[name].to_numpy().astype(np.float32) for name in names]
    return np.column_stack(columns)


def written(table: pa.Table, folder: Path, columns: tuple[str, ...]) -> Path:
    """Write some columns as ``rows.parquet`` and return its path."""
    path = folder / "rows.parquet"
    pq.write_table(table.select(list(columns)), path, compression="zstd")
    return path


def main(make: Callable[[Path], Example]) -> None:
    """Make the example and export it, as its documentation says."""
    folder = BUILD / make.__module__.rpartition(".")[2].replace("__main__", Path(sys.argv[0]).stem)
    folder.mkdir(parents=True, exist_ok=True)
    example = make(folder)
    command = (
        "export",
        *example.arguments,
        "--name",
        example.name,
        "--sample",
        str(example.sample),
    )
    print("tritonbulk " + " ".join(command), flush=True)
    sys.exit(subprocess.call([sys.executable, "-m", "tritonbulk.cli.main", *command]))
