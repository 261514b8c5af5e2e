"""Every broken model is refused, or mended, with the right word, one line, and the right code."""

from __future__ import annotations

import re

import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from tests.export_corpus.batches import BAKED, LEAKS
from tests.export_corpus.corpus import write_rows
from tests.export_corpus.files import BYTES, EXTERNAL, FILES
from tests.export_corpus.graphs import MENDED_GRAPHS, REFUSED_GRAPHS
from tritonbulk.errors import TritonbulkError
from tritonbulk_export.cli import command

CORPUS = [*BAKED, *LEAKS, *REFUSED_GRAPHS, *MENDED_GRAPHS, *EXTERNAL, *FILES]


def test_the_corpus_is_large_and_its_names_differ():
    assert len({case.name for case in CORPUS}) == len(CORPUS) >= 100


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_a_broken_model(case, tmp_path, capfd):
    folder = tmp_path / "model"
    folder.mkdir()
    case.write(folder)
    write_rows(case.rows, tmp_path / "rows.parquet")
    before = set(tmp_path.rglob("*"))
    arguments = [
        "onnx", str(folder / "model.onnx"), "--name", "m", "--sample",
        str(tmp_path / "rows.parquet"), "--repository", str(tmp_path / "repository"),
        "--input-map", "x=f*", *case.options,
    ]  # fmt: skip
    result = CliRunner().invoke(command, arguments)
    raw = capfd.readouterr()
    assert not raw.out + raw.err, "ONNX Runtime speaks for itself"
    if case.code == 0:
        assert result.exit_code == 0, result.exception
        assert re.search(case.says, result.output)
        check_published(tmp_path / "repository" / "m")
        return
    error = result.exception
    assert isinstance(error, TritonbulkError), repr(error)
    said = str(error)
    assert re.search(case.says, said), said
    assert error.exit_code == case.code
    assert "\n" not in said
    assert "Traceback" not in said
    assert BYTES.decode("latin1") not in said
    assert set(tmp_path.rglob("*")) == before, "something was left behind"


def check_published(entry):
    """Check that the oldest supported reader takes the model, and that it tells of no machine."""
    (version,) = (path for path in entry.iterdir() if path.name.isdigit())
    model = onnx.load(version / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert b"/home/" not in (version / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(version / "model.onnx")
    for node in (*session.get_inputs(), *session.get_outputs()):
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", node.name)
        assert node.shape[0] == "batch"
