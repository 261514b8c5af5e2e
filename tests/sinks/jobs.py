"""Finished jobs whose rows are known, made without a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.crash import program
from tritonbulk.contract import Contract, InputTensor, OutputTensor, datatype
from tritonbulk.dispatch import Failure
from tritonbulk.options import ScoreOptions
from tritonbulk.testing import ScriptedTransport
from tritonbulk.transport import ServedModel

ROWS, SEGMENT_ROWS, VECTOR = 1_000, 100, 3
PARTS = ROWS // SEGMENT_ROWS
FAILED_ROW = 7
FP32 = datatype("FP32")
_INPUTS = (InputTensor("x", FP32, (1,)),)
_OUTPUTS = (OutputTensor("y", FP32, (1,)), OutputTensor("vector", FP32, (VECTOR,)))


def score(
    folder: Path, name: str = "out", begins: tuple[int, ...] = (0,), **options: object
) -> Path:
    """Finish a job over one file of `ROWS` rows for each of ``begins``, and return its output.

    ``name`` is that of the output in the folder, or a URI.

    Row ``i`` has ``y`` = 2 i and ``vector`` = i, i + 1, i + 2; row `FAILED_ROW` has failed.
    """
    (folder / "in").mkdir(exist_ok=True)
    for begin in begins:
        if not (path := folder / "in" / f"{begin:09d}.parquet").exists():
            _write(path, begin)
    out = name if "://" in name else folder / name
    given: dict[str, Any] = {"segment_rows": SEGMENT_ROWS, "batch_rows": 64, **options}
    asked = ScoreOptions(inputs=(str(folder / "in"),), model="m", out=out, **given)
    contract = Contract("m", "sha256:1", _INPUTS, _OUTPUTS)
    model = ServedModel("m", "1", 1024, _INPUTS, _OUTPUTS, contract, "sha256:2")
    program.run(asked, model=model, transport=ScriptedTransport(_answer))
    return folder / name


def rows(begins: tuple[int, ...] = (0,)) -> list[dict[str, object]]:
    """Return the rows of such a job, without its errors' texts."""
    return [_row(i) for begin in begins for i in range(begin, begin + ROWS)]


def _row(i: int) -> dict[str, object]:
    is_failed = i == FAILED_ROW
    return {
        "id": i,
        "x": float(i),
        "name": None if i % 3 == 0 else f"row {i % 10}",
        "y": None if is_failed else 2.0 * i,
        "vector": None if is_failed else [float(i + k) for k in range(VECTOR)],
        "_tritonbulk_status": 3 if is_failed else 0,
    }


def _write(path: Path, begin: int) -> None:
    ids = np.arange(begin, begin + ROWS)
    names = pa.array([_row(int(i))["name"] for i in ids], pa.string())
    table = {"id": ids, "x": ids.astype(np.float32), "name": names.dictionary_encode()}
    pq.write_table(pa.table(table), path, row_group_size=130)


def _answer(
    tensors: Mapping[str, np.ndarray[Any, Any]],
) -> dict[str, np.ndarray[Any, Any]] | Failure:
    x = tensors["x"]
    if (x == FAILED_ROW).any():
        return Failure(3, "INVALID_ARGUMENT", "row 7 has it")
    return {"y": x * 2, "vector": x + np.arange(VECTOR, dtype=np.float32)}
