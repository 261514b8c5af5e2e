"""What the corpus is made of: broken models, each with what export has to say about it.

Graphs are written in ONNX's own text form; rows are four columns ``f0`` to ``f3``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = np.random.default_rng(17).normal(size=(40, 4)).astype(np.float32)
REFUSED, UNPROVED = 2, 4
"""Exit codes."""


@dataclass(frozen=True)
class Broken:
    """One broken model.

    Attributes:
        name: of the case.
        write: writes ``model.onnx`` and what belongs to it into a folder.
        code: exit code of export; 0 where the model is to be mended.
        says: regular expression in what export prints.
        rows: the sample, ``[n, 4]``.
        options: more options of the command line.
    """

    name: str
    write: Callable[[Path], None]
    code: int
    says: str
    rows: np.ndarray
    options: Sequence[str] = ()


def parsed(
    body: str, constants: str = "", ends: str | None = None, opset: int = 18
) -> onnx.ModelProto:
    """Return the model whose nodes are ``body``, in the text form."""
    ends = ends or "(float[N,4] x) => (float[N,4] y)"
    held = f"<{constants}>" if constants else ""
    header = f'<ir_version: 10, opset_import: ["" : {opset}, "ai.onnx.ml" : 3]>'
    return onnx.parser.parse_model(f"{header} g {ends} {held} {{ {body} }}")


def graph(name: str, code: int, says: str, body: str, constants: str = "", **options) -> Broken:
    """Return the case of a graph in the text form."""
    rows = options.pop("rows", ROWS)
    more = options.pop("options", ())
    change = options.pop("change", None)

    def write(folder: Path) -> None:
        model = parsed(body, constants, **options)
        if change is not None:
            model = change(model) or model
        onnx.save(model, folder / "model.onnx")

    return Broken(name, write, code, says, rows, more)


def write_rows(rows: np.ndarray, path: Path) -> None:
    """Write the sample."""
    pq.write_table(pa.table({f"f{n}": rows[:, n] for n in range(rows.shape[1])}), path)
