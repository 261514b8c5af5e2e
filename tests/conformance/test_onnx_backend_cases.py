"""The `onnx` package's own backend tests, through the live server.

Each case is a model with inputs and the outputs that the ONNX standard expects. A fixed sample of
the cases that ONNX Runtime can serve is loaded into an empty server from bytes, without a
configuration of inputs and outputs (so that completing it is tested as well), scored, compared and
unloaded. What does not pass is in `EXCEPTIONS`, by name and with the reason; one that begins to
pass has to leave the table.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from tritonclient.utils import np_to_triton_dtype

from tritonbulk.server import environment
from tritonbulk.server.embedded import EmbeddedTriton

KINDS = ("node", "pytorch-converted", "pytorch-operator", "simple")
SAMPLE_SEED = "tritonbulk"
SAMPLE_CASES = 165
CASES_MIN = 150
AT_A_TIME = 4
LOAD_DEADLINE_S = 60.0
INFER_DEADLINE_S = 30.0

#: The core refuses a signature with a dimension of 0, before any backend sees a request.
NO_EMPTY_DIMENSION = "dimension must be integer >= 1, or -1"
#: The DFT's imaginary parts are sums of terms up to 450 that cancel: 1e-4 in place of 0.
ROUNDING = "Not equal to tolerance"
#: The cases of the sample that do not pass: the part of the error that gives the reason.
EXCEPTIONS = {
    "node/test_castlike_FLOAT16_to_FLOAT_expanded": NO_EMPTY_DIMENSION,
    "node/test_castlike_FLOAT_to_FLOAT16_expanded": NO_EMPTY_DIMENSION,
    "node/test_dft": ROUNDING,
    "node/test_reduce_l2_empty_set": NO_EMPTY_DIMENSION,
    "node/test_reduce_sum_square_empty_set_expanded": NO_EMPTY_DIMENSION,
    "node/test_regex_full_match_empty": NO_EMPTY_DIMENSION,
    "node/test_shape_start_greater_than_end": NO_EMPTY_DIMENSION,
    "node/test_split_zero_size_splits_opset13": NO_EMPTY_DIMENSION,
}

SERVED_TYPES = {
    TensorProto.BOOL,
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.UINT64,
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.FLOAT16,
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.STRING,
}
LOAD_EACH = """
import pathlib, sys, onnxruntime
settings = onnxruntime.SessionOptions()
settings.log_severity_level = 4
for file in pathlib.Path(sys.argv[1]).glob("*.onnx"):
    try:
        onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    except Exception:
        continue
    print(file.stem)
"""
CONFIG = {
    "backend": "onnxruntime",
    "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
    "parameters": {"intra_op_thread_count": {"string_value": "1"}},
}


@dataclass(frozen=True)
class Case:
    """One model, what to send and what to expect.

    Attributes:
        name: kind and name, such as `node/test_abs`.
        model: the ONNX file's bytes.
        inputs: arrays by input name.
        outputs: expected arrays by output name.
        rtol: relative tolerance, of the case itself but at least 1e-2 where FP16 is involved.
    """

    name: str
    model: bytes
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    rtol: float

    @property
    def has_strings(self) -> bool:
        """Whether a server with numpy 2 in its environment refuses the model."""
        arrays = (*self.inputs.values(), *self.outputs.values())
        return any(array.dtype.kind in "OSU" for array in arrays)


def sample_of_cases(folder: Path) -> list[Case]:
    """The servable cases that come first in an order that depends on seed and name alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the data overflows and divides by zero on purpose
        cases = [case for kind in KINDS for case in load_model_tests(kind=kind)]
    cases.sort(key=lambda case: hashlib.sha256(f"{SAMPLE_SEED} {case.name}".encode()).digest())
    models = {
        case.name: case.model or onnx.load(folder_of(case) / "model.onnx")
        for case in cases[: 2 * SAMPLE_CASES]
    }
    candidates = {name: model for name, model in models.items() if has_servable_ends(model)}
    loadable = loadable_by_the_server(candidates, folder)
    servable = [case for case in cases if case.name in loadable]
    return [read_case(case, models[case.name]) for case in servable[:SAMPLE_CASES]]


def server_has_strings() -> bool:
    """Whether the server's environment has numpy 1."""
    server = environment.info()
    assert server is not None, "there is a running server"
    return server.versions["numpy"].startswith("1.")


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What a caller gives: before IR 4 a graph lists its initializers as inputs, too."""
    initializers = {each.name for each in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in initializers]


def has_servable_ends(model: onnx.ModelProto) -> bool:
    """Whether there is an input, and all inputs and outputs are tensors that Triton has."""
    inputs = graph_inputs(model)
    return bool(inputs) and all(
        each.type.WhichOneof("value") == "tensor_type"
        and each.type.tensor_type.elem_type in SERVED_TYPES
        for each in (*inputs, *model.graph.output)
    )


def loadable_by_the_server(models: dict[str, onnx.ModelProto], folder: Path) -> set[str]:
    """The names of the models that the ONNX Runtime of the server's environment can load.

    Ours may be another release, which knows other operators.
    """
    for name, model in models.items():
        onnx.save(model, str(folder / f"{name}.onnx"))
    server = environment.info()
    assert server is not None, "there is a running server"
    command = [str(server.executable), "-c", LOAD_EACH, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def read_case(case: TestCase, model: onnx.ModelProto) -> Case:
    """The case with its first set of data, names taken from the graph."""
    if case.data_sets:
        given, expected = case.data_sets[0]
    else:
        folder = folder_of(case) / "test_data_set_0"
        given, expected = (read_arrays(folder, end) for end in ("input", "output"))
    inputs = {e.name: as_array(v) for e, v in zip(graph_inputs(model), given, strict=True)}
    outputs = {e.name: as_array(v) for e, v in zip(model.graph.output, expected, strict=True)}
    half = any(array.dtype == np.float16 for array in (*inputs.values(), *outputs.values()))
    rtol = max(case.rtol, 1e-2) if half else case.rtol
    return Case(f"{case.kind}/{case.name}", model.SerializeToString(), inputs, outputs, rtol)


def folder_of(case: TestCase) -> Path:
    assert case.model_dir is not None, "a case has a model or a folder with one"
    return Path(case.model_dir)


def as_array(value: np.ndarray | TensorProto) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def read_arrays(folder: Path, end: str) -> list[np.ndarray]:
    paths = sorted(folder.glob(f"{end}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.load_tensor(path)) for path in paths]


class Server:
    """An empty server that serves one case after the other."""

    def __init__(self, triton: EmbeddedTriton) -> None:
        self._headers = dict(triton.admin_headers)
        self._client = triton_grpc.InferenceServerClient(triton.grpc)

    def outcome(self, case: Case) -> str | None:
        """None where the case passes, else the error or the difference, in words."""
        name = case.name.replace("/", "_")
        try:
            self._client.load_model(
                name,
                headers=self._headers,
                config=json.dumps(CONFIG),
                files={"file:1/model.onnx": case.model},
                client_timeout=LOAD_DEADLINE_S,
            )
            result = self._infer(name, case)
            for output, expected in case.outputs.items():
                compare(result.as_numpy(output), expected, case.rtol)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            # Returns at once; the model goes in the background.
            self._client.unload_model(name, headers=self._headers)
        return None

    def _infer(self, name: str, case: Case) -> triton_grpc.InferResult:
        inputs = []
        for key, array in case.inputs.items():
            sent = array.reshape(array.shape or (1,))
            inputs.append(triton_grpc.InferInput(key, sent.shape, np_to_triton_dtype(sent.dtype)))
            inputs[-1].set_data_from_numpy(sent)
        return self._client.infer(name, inputs, client_timeout=INFER_DEADLINE_S)


def compare(given: np.ndarray, expected: np.ndarray, rtol: float) -> None:
    """Nothing, if equal in shape (a scalar comes as [1]) and in values.

    Raises:
        AssertionError: they differ.
    """
    assert given.shape == (expected.shape or (1,))
    if given.dtype == np.object_:
        words = [word.decode() for word in given.reshape(-1)]
        assert words == [str(word) for word in expected.reshape(-1)]
    else:
        assert given.dtype == expected.dtype
        np.testing.assert_allclose(given.reshape(expected.shape), expected, rtol=rtol, atol=1e-5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    empty = tmp_path / "empty"
    empty.mkdir()
    with EmbeddedTriton(empty, models=(), model_control="explicit", stop_deadline_s=0) as triton:
        yield Server(triton)


@pytest.mark.live
@pytest.mark.ci
def test_the_standards_own_cases_give_the_expected_outputs(server: Server, tmp_path: Path) -> None:
    sample = sample_of_cases(tmp_path)
    assert EXCEPTIONS.keys() <= {case.name for case in sample}, "EXCEPTIONS beside the sample"
    cases = [case for case in sample if server_has_strings() or not case.has_strings]
    began_s = time.monotonic()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = dict(zip([c.name for c in cases], pool.map(server.outcome, cases), strict=True))
    failed = {name: error for name, error in outcomes.items() if error}
    print(
        f"{len(cases)} cases of the onnx package served in {time.monotonic() - began_s:.0f} s: "
        f"{len(cases) - len(failed)} pass, {len(failed)} are exceptions"
    )
    assert len(cases) >= CASES_MIN
    unlisted = {name: error for name, error in failed.items() if name not in EXCEPTIONS}
    assert not unlisted, "cases fail that are not in EXCEPTIONS"
    passing = EXCEPTIONS.keys() & outcomes.keys() - failed.keys()
    assert not passing, "cases in EXCEPTIONS pass"
    for name, error in failed.items():
        assert EXCEPTIONS[name] in error
