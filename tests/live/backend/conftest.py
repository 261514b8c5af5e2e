"""Repository entries from a few lines of text, all loaded into one server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tritonbulk.server.embedded import EmbeddedTriton

DEADLINE_S = 60.0
#: The IR and opset that every supported Triton loads.
HEADER = '<ir_version: 10, opset_import: ["" : 20]>'
#: Files of an entry by path: ``config.pbtxt`` as it is, ``*.onnx`` in ONNX's text form.
Files = Mapping[str, str]


class Backend:
    """A running server and what became of the entries it was to load."""

    def __init__(self, triton: EmbeddedTriton, names: list[str]) -> None:
        self.log_path = triton.log_path
        self.client = triton_grpc.InferenceServerClient(triton.grpc)
        self._headers = dict(triton.admin_headers)
        with ThreadPoolExecutor(4) as pool:
            #: The server's words on each entry that it refused, "" for one that it loaded.
            self.refusals = dict(zip(names, pool.map(self._load, names), strict=True))

    def _load(self, name: str) -> str:
        try:
            self.client.load_model(name, headers=self._headers, client_timeout=DEADLINE_S)
        except InferenceServerException as error:
            return str(error)
        return ""

    def config(self, name: str) -> Any:
        """The configuration as the server completed it."""
        return self.client.get_model_config(name).config

    def statistics(self, name: str) -> Any:
        """What the server counted for a model of one version."""
        # Triton counts an execution after its answers have left: wait until two looks agree.
        before = None
        for _ in range(50):
            now = self.client.get_inference_statistics(name).model_stats[0]
            if before == now and now.execution_count:
                break
            before = now
            time.sleep(0.1)
        return now

    def score(self, model: str, *, wanted: tuple[str, ...] = (), **arrays: np.ndarray) -> Any:
        """The outputs by name; ``wanted`` limits them."""
        outputs = [triton_grpc.InferRequestedOutput(name) for name in wanted]
        return self.infer(model, arrays, outputs=outputs or None)

    def infer(self, model: str, arrays: Mapping[str, np.ndarray], **options: Any) -> Any:
        """The outputs by name, with any option of tritonclient's ``infer``."""
        inputs = []
        for name, array in arrays.items():
            data_type = np_to_triton_dtype(array.dtype)
            inputs.append(triton_grpc.InferInput(name, array.shape, data_type))
            inputs[-1].set_data_from_numpy(array)
        result = self.client.infer(model, inputs, client_timeout=DEADLINE_S, **options)
        return {each.name: result.as_numpy(each.name) for each in result.get_response().outputs}

    def score_together(self, model: str, arrays: list[np.ndarray]) -> list[Any]:
        """For requests that wait for each other at the server: each one's y, or its error's text.

        Requests that the model does not wait for may be executed one by one.
        """

        def answer(array: np.ndarray) -> Any:
            try:
                return self.score(model, x=array)["y"].tolist()
            except InferenceServerException as error:
                return str(error)

        with ThreadPoolExecutor(len(arrays)) as pool:
            return list(pool.map(answer, arrays))


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Backend]]:
    """A function that starts a server and loads entries into it, as far as they can be loaded."""
    with ExitStack() as stack:

        def start(entries: Mapping[str, Files]) -> Backend:
            repository = tmp_path_factory.mktemp("entries")
            for name, files in entries.items():
                for path, text in files.items():
                    write(repository / name / path, text)
            triton = EmbeddedTriton(
                repository, models=(), model_control="explicit", stop_deadline_s=0
            )
            return Backend(stack.enter_context(triton), list(entries))

        yield start


def write(path: Path, text: str) -> None:
    """A file of an entry; ONNX's text form becomes an ONNX file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".onnx":
        onnx.save(onnx.parser.parse_model(HEADER + text), str(path))
    else:
        path.write_text(text)
