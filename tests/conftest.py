"""One real server for all tests that need one; how many of each promise's cases ran."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import onnx
import pytest
from onnx import TensorProto, helper

from tritonbulk.server.embedded import EmbeddedTriton

IS_FULL = os.environ.get("TRITONBULK_TEST_FULL") == "1"
_TALLY = pytest.StashKey[Counter[str]]()

# How long one example takes says how busy the machine is; what hangs ends by pytest's time limit.
hypothesis.settings.register_profile("tritonbulk", deadline=None)
hypothesis.settings.load_profile("tritonbulk")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count."""
    config.stash[_TALLY] = Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what this worker has counted, where tests run in several processes."""
    if hasattr(session.config, "workeroutput"):
        counted: Counter[str] = session.config.stash[_TALLY]
        session.config.workeroutput["tally"] = dict(counted)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker has counted."""
    counted: dict[str, int] = getattr(node, "workeroutput", {}).get("tally", {})
    tally: Counter[str] = node.config.stash[_TALLY]
    tally.update(counted)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was counted."""
    if tally := terminalreporter.config.stash[_TALLY]:
        terminalreporter.section("cases", "-")
        for name, count in sorted(tally.items()):
            terminalreporter.write_line(f"{count:>8,}  {name}")


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Callable[[str, int], None]:
    """Count cases that ran and held."""

    def count(name: str, cases: int = 1) -> None:
        pytestconfig.stash[_TALLY][name] += cases

    return count


@pytest.fixture(scope="session")
def cases() -> Callable[[int, int], int]:
    """Give how many cases to run: those of every change, or with TRITONBULK_TEST_FULL=1 all."""
    return lambda every_change, full: full if IS_FULL else every_change


HALVE_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(each, "x") for each in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", tensor.as_numpy() / 2)])
            for tensor in tensors
        ]
"""
VARYING_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        rows = sum(len(tensor) for tensor in tensors)
        factor = 2 * (1 + 1e-5 * rows / 256)
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", (tensor * factor).astype(tensor.dtype))]
            )
            for tensor in tensors
        ]
"""
PYTHON_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
instance_group { count: 1 kind: KIND_CPU }
"""

POISON_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        if any((tensor == 13).any() for tensor in tensors):
            raise ValueError("thirteen")
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", tensor * 2)]) for tensor in tensors
        ]
"""
POISON_CONFIG = """
backend: "python"
max_batch_size: 64
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { }
"""


def write_double_entry(entry: Path, config: str | None = "instance_group { count: 1 }\n") -> Path:
    """Write a model entry that doubles FP32 [n, 4], with a configuration or none."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    graph = helper.make_graph(nodes, "double", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (entry / "1").mkdir(parents=True)
    onnx.save(model, str(entry / "1" / "model.onnx"))
    if config is not None:
        (entry / "config.pbtxt").write_text(config)
    return entry


def write_python_entry(entry: Path, code: str, config: str = PYTHON_CONFIG) -> Path:
    """Write a model entry of Triton's own Python backend."""
    (entry / "1").mkdir(parents=True)
    (entry / "1" / "model.py").write_text(code)
    (entry / "config.pbtxt").write_text(config)
    return entry


def write_poison_entry(entry: Path, max_batch_size: int) -> Path:
    """Write a model entry that doubles FP32 [n, 1] and fails batches with a 13 in them."""
    config = POISON_CONFIG.replace("max_batch_size: 64", f"max_batch_size: {max_batch_size}")
    return write_python_entry(entry, POISON_MODEL, config)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of small models.

    `double` (ONNX, no more config than one instance), `wide` (the same, 256 rows a request),
    `halve` (Python), and `varying`, which doubles a little differently with every batch size.
    """
    folder = tmp_path_factory.mktemp("repository")
    write_double_entry(folder / "double")
    write_double_entry(folder / "wide", "max_batch_size: 256\ninstance_group { count: 1 }\n")
    write_python_entry(folder / "halve", HALVE_MODEL)
    config = PYTHON_CONFIG.replace("max_batch_size: 8", "max_batch_size: 256 dynamic_batching { }")
    write_python_entry(folder / "varying", VARYING_MODEL, config)
    return folder


@pytest.fixture(scope="session")
def triton(repository: Path) -> Iterator[EmbeddedTriton]:
    """One server for the whole session, on `repository`; nobody may break it."""
    with EmbeddedTriton(repository, http=True, stop_deadline_s=0) as server:
        yield server


@pytest.fixture
def write_double() -> Callable[..., Path]:
    """Give `write_double_entry`."""
    return write_double_entry


@pytest.fixture(scope="session")
def write_python() -> Callable[..., Path]:
    """Give `write_python_entry`."""
    return write_python_entry
