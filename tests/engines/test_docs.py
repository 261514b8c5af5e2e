"""Every example of docs/engines.md works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_double_entry
from tritonbulk import EmbeddedTriton

pytestmark = pytest.mark.live
DOCUMENT = Path(__file__).parents[2] / "docs" / "engines.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
ENGINES = ("ray", "pyspark", "daft")
SAID = {
    "score_batches": "['x', 'y', '_tritonbulk_status', '_tritonbulk_error']",
    "TritonScorer,": "1000 ['x', 'y', '_tritonbulk_status', '_tritonbulk_error']",
    "build_triton_processor": "3996000",
    'rows, Scorer("double", endpoints=["127.0.0.1:8001"], keep=[])': "[2.0, 2.0, 2.0, 2.0]",
    "predict_batch_udf": "[2.0, 2.0, 2.0, 2.0]",
    "daft": "1000",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_double_entry(folder / "double")
    with EmbeddedTriton(folder, stop_deadline_s=0) as running:
        yield running


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_example_works(code, server, tmp_path):
    for engine in ENGINES:
        if re.search(rf"^(from|import) {engine}\b", code, re.MULTILINE):
            pytest.importorskip(engine, reason=f"{engine} is missing: make test-engines runs it")
    done = subprocess.run(
        [sys.executable, "-c", code.replace("127.0.0.1:8001", server.grpc)],
        check=False, cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for words, said in SAID.items():
        if words in code:
            assert said in done.stdout


def test_there_are_examples_of_all():
    assert len(EXAMPLES) == 8
    for words in SAID:
        assert any(words in code for code in EXAMPLES), words
