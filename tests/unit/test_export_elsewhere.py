"""The check in the target's own ONNX Runtime: fetched once, run apart, compared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tritonbulk.errors import ModelError, ParityError, PlatformError
from tritonbulk_export.elsewhere import checking
from tritonbulk_export.graph import model_files
from tritonbulk_export.limits import LIMITS
from tritonbulk_export.targets import RELEASES, Release

HERE = Release("99.01", onnxruntime.__version__, 26, 5, 13, 11)
ROWS = {"x": np.array([[-1.0, 2.0]], np.float32), "t": np.array([[b"a"]], dtype=object)}
ANSWERS = {"y": np.array([[0.0, 2.0]], np.float32), "u": np.array([["a"]], dtype=object)}


def relu(opset=20, ir=10):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    texts = [helper.make_tensor_value_info(name, TensorProto.STRING, ["N", 1]) for name in "tu"]
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Identity", ["t"], ["u"])]
    graph = helper.make_graph(nodes, "g", [ends[0], texts[0]], [ends[1], texts[1]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


@pytest.fixture
def installed(monkeypatch):
    """Take the installed ONNX Runtime for the target's, so that nothing is fetched."""
    site = Path(onnxruntime.__file__).parents[1]
    monkeypatch.setattr(checking, "runtime_folder", lambda version: site)


def check(graph, answers=ANSWERS, release=HERE, limits="fp32", inline=1 << 30):
    files = model_files(graph, inline_bytes_max=inline)
    return checking.check_runtime(files, release, ROWS, answers, LIMITS[limits])


def test_numbers_and_texts_are_compared_in_another_process(installed):
    assert check(relu()) == (
        f"loaded and run in ONNX Runtime {onnxruntime.__version__}, that of Triton 99.01"
    )


@pytest.mark.parametrize(
    "wrong", [{"y": np.array([[0.0, 2.1]], np.float32)}, {"u": np.array([["b"]], dtype=object)}]
)
def test_another_answer_is_refused(installed, wrong):
    with pytest.raises(ParityError, match=r"is another in ONNX Runtime .* for \d+"):
        check(relu(), ANSWERS | wrong)


def test_what_it_cannot_load_is_one_sentence(installed):
    with pytest.raises(ModelError, match=r"does not run the graph: .*IR version"):
        check(relu(ir=99))


def test_another_release_than_the_folder_holds_is_noticed(installed):
    with pytest.raises(ModelError, match=r"found ONNX Runtime .*, not 1\.22\.0"):
        check(relu(), release=RELEASES["25.06"])


def test_it_is_fetched_once_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITONBULK_CACHE", str(tmp_path))
    calls = []

    def pip(command, **options):
        calls.append(command)
        folder = Path(command[command.index("--target") + 1])
        (folder / "onnxruntime").mkdir()
        return subprocess.CompletedProcess(
            command, returncode=len(calls) == 1, stderr="no\nroute\n"
        )

    monkeypatch.setattr(checking.subprocess, "run", pip)
    with pytest.raises(PlatformError, match=r"1\.27\.0 cannot be fetched \(route\)"):
        checking.runtime_folder("1.27.0")
    assert list(tmp_path.iterdir()) == []
    folder = checking.runtime_folder("1.27.0")
    assert checking.runtime_folder("1.27.0") == folder
    assert folder.name == f"onnxruntime-1.27.0-cp{sys.version_info[0]}{sys.version_info[1]}"
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
