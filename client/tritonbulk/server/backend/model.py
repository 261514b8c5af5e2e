"""The Triton backend ``onnxruntime`` as a Python-based backend, for the embedded server.

A repository entry with ``backend: "onnxruntime"`` behaves as in the official container:
configurations are completed and checked by the same rules and with the same texts
(``ort_config``), requests are batched (``ort_batch``), the documented parameters are honoured
(``ort_options``). The process that runs this file is tritonserver's own, with an isolated
interpreter: nothing but numpy, ONNX Runtime and the modules beside this file can be imported.

What differs from the official backend:

* Models run on the processor. A GPU instance or an accelerator (`tensorrt`, `cuda`, `openvino`) is
  a warning in the log and runs there too; an accelerator's unknown name is a load error.
* Idle threads do not spin, and an instance has its share of the cores where
  ``intra_op_thread_count`` is not set; large batches run in pieces of ``tritonbulk.run_rows_max``.
* One bad request fails alone, not together with the requests it was batched with; an output whose
  rows differ in number from the input's is an error.
* Strings must be UTF-8 and need numpy < 2 in the server's environment.
* Each instance has a session of its own (``share_session_between_instances`` has no effect). Ragged
  batches, ``batch_input``, ``batch_output`` and implicit sequence state are refused at load.
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import ort_strings
import triton_python_backend_utils as pb_utils
from ort_batch import Tensors, attempt_each, row_count, run_batch
from ort_config import check, complete, is_complete
from ort_dlpack import Exported
from ort_options import default_threads, read_options
from ort_signature import LoadError

# The stub looks these up for every tensor of strings that it loads or makes, and its own took most
# of a request's time. The same meaning, and this process serves nothing but this model instance.
pb_utils.deserialize_bytes_tensor = ort_strings.deserialize
pb_utils.serialize_byte_tensor = ort_strings.serialize


class TritonPythonModel:
    """One instance of one model; the names of the methods are Triton's."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """The configuration, with what it leaves out filled in from the ONNX file."""
        # as_dict() is the configuration itself, not a copy; the setters know no `reshape`.
        config = auto_complete_model_config.as_dict()
        if not is_complete(config):
            # Imported late: complete configurations, the usual case, do not need ONNX Runtime.
            from ort_session import file_signature  # noqa: PLC0415

            try:
                path = _model_file(_version_folder(), config)
                config.update(complete(config, file_signature(path)))
            except LoadError as error:
                raise pb_utils.TritonModelException(str(error)) from None
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model.

        Raises:
            TritonModelException: it cannot be served as configured.
        """
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"], args["model_version"])
        try:
            self._load(config, folder)
        except LoadError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        on_gpu = ["KIND_GPU"] if args["model_instance_kind"] == "GPU" else []
        if asked := [*on_gpu, *self._options.accelerators]:
            pb_utils.Logger.log_warn(
                f"model '{config['name']}' asks for {', '.join(asked)}: the embedded server has "
                f"none, so it runs with {', '.join(self._session.providers)}"
            )

    def _load(self, config: dict[str, Any], folder: Path) -> None:
        from ort_session import Session  # noqa: PLC0415

        self._options = read_options(config)
        threads = default_threads(config, len(os.sched_getaffinity(0)))
        self._session = Session(_model_file(folder, config), self._options, threads)
        signature = self._session.signature
        check(config, signature, np.__version__)
        self._batched = config["max_batch_size"] > 0
        inputs = (*signature.inputs, *signature.optional_inputs)
        self._inputs = {info.name: info for info in inputs}
        self._output_dims = {o["name"]: [int(size) for size in o["dims"]] for o in config["output"]}
        # Pieces of a batch are put together again, which needs outputs of one width.
        cuttable = all(-1 not in info.shape[1:] for info in signature.outputs)
        self._run_rows_max = self._options.run_rows_max if cuttable else 0

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in order: its outputs or its error."""
        started_s = time.monotonic()
        read = attempt_each(self._read, requests)
        readable = [inputs for inputs in read if not isinstance(inputs, Exception)]
        names = sorted({name for request in requests for name in request.requested_output_names()})
        run = functools.partial(self._session.run, names)
        if self._batched:
            outputs = iter(run_batch(run, readable, self._run_rows_max))
        else:
            outputs = iter(attempt_each(run, readable))
        results = [each if isinstance(each, Exception) else next(outputs) for each in read]
        self._simulate(readable, started_s)
        return list(map(self._respond, requests, results))

    def _read(self, request: Any) -> Tensors:
        return {tensor.name(): self._array(tensor) for tensor in request.inputs()}

    def _array(self, tensor: Any) -> np.ndarray:
        # Strings as bytes; all else as a view into Triton's memory, valid until the responses are
        # returned.
        info = self._inputs[tensor.name()]
        array = tensor.as_numpy() if info.data_type == "TYPE_STRING" else np.from_dlpack(tensor)
        # Triton has no scalars: the configuration says [1].
        return array if info.shape else array.reshape(())

    def _respond(self, request: Any, result: Tensors | Exception) -> Any:
        if isinstance(result, Exception):
            error = pb_utils.TritonError(str(result), pb_utils.TritonError.INTERNAL)
            return pb_utils.InferenceResponse(output_tensors=[], error=error)
        return pb_utils.InferenceResponse(
            output_tensors=[
                self._tensor(name, result[name]) for name in request.requested_output_names()
            ]
        )

    def _tensor(self, name: str, array: np.ndarray) -> Any:
        if array.ndim == 0:
            array = array.reshape(self._output_dims[name])
        if array.dtype == np.object_:
            return pb_utils.Tensor(name, array)
        return pb_utils.Tensor.from_dlpack(name, Exported(array))

    def _simulate(self, executed: list[Tensors], started_s: float) -> None:
        execution_ms, row_ms = self._options.simulate_ms
        rows = sum(row_count(inputs) if self._batched else 1 for inputs in executed)
        remaining_s = (execution_ms + row_ms * rows) / 1000 - (time.monotonic() - started_s)
        if remaining_s > 0:
            time.sleep(remaining_s)


def _model_file(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / (config["default_model_filename"] or "model.onnx")
    if path.is_dir():
        path /= "model.onnx"
    if not path.exists():
        raise LoadError(f"unable to find '{path}' for model instance '{config['name']}'")
    return path


def _version_folder() -> Path:
    """The folder of the version that is being loaded, which Triton does not hand over as such.

    It stands in the command line of this process, as the folder of ``default_model_filename``.
    """
    arguments = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    path = Path(os.fsdecode(arguments[1]))
    return next(folder for folder in path.parents if folder.name.isdigit())
