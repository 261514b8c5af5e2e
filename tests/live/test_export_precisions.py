"""What export publishes in each precision is served by the real Triton, as it promised."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest

from tests.export_corpus.networks import CLASSES, ROWS, TABLE, mlp
from tritonbulk.api import score
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk_export import export_onnx
from tritonbulk_export.graph import external
from tritonbulk_export.limits import LIMITS
from tritonbulk_export.runtime import open_session

pytestmark = pytest.mark.live

ENTRIES = {
    "fp32": {},
    "fp32_beside": {},
    "fp16": {"precision": "fp16"},
    "fp16_ends": {"precision": "fp16", "half_io": True},
    "fp16_kept": {"precision": "fp16", "keep_fp32": ["norm", "last"]},
    "int8": {"precision": "int8"},
    "int8_trt": {"precision": "int8", "int8_preset": "trt"},
    "int8_dynamic": {"precision": "int8-dynamic", "triton": "26.07"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precisions")
    onnx.save(mlp(), folder / "m.onnx")
    pq.write_table(TABLE, folder / "rows.parquet")
    for name, options in ENTRIES.items():
        with pytest.MonkeyPatch.context() as patch:
            if name == "fp32_beside":
                patch.setattr(external, "INLINE_BYTES_MAX", 1000)
                patch.setattr(external, "ALIGN_BYTES", 64)
            export_onnx(
                folder / "m.onnx", name=name, sample=folder / "rows.parquet",
                repository=folder / "r", input_map=["x=f*"], **options,
            )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def server(folder) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(folder / "r", stop_deadline_s=0) as triton:
        yield triton


@pytest.mark.parametrize("name", ENTRIES)
def test_rows_get_the_answers_of_the_published_graph(folder, server, name, tmp_path):
    score(folder / "rows.parquet", model=name, out=tmp_path / "out", endpoints=[server.grpc])
    column = pq.read_table(tmp_path / "out")["probabilities"].combine_chunks()
    found = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, CLASSES).astype(np.float64)
    exact = open_session(mlp()).run({"x": ROWS})["probabilities"]
    limits = LIMITS[ENTRIES[name].get("precision", "fp32")]
    allowed = limits.tolerance.atol + limits.tolerance.rtol * np.abs(exact)
    assert (np.abs(found - exact) > allowed).mean() <= limits.exceeding
    if not name.startswith("fp32"):
        assert np.abs(found - exact).max() > 1e-6
