"""An ONNX Runtime session as the options ask for it; the only module that knows ONNX Runtime.

Sessions run on the processor. A GPU instance or an accelerator that was asked for is left to the
caller to note: one repository is to serve hosts with and without a GPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import ort_strings
from ort_batch import Tensors
from ort_options import Options
from ort_signature import LoadError, Signature, read_signature

_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
# Errors and worse: warnings about a graph repeat with every load and tell a server nothing.
_LOG_SEVERITY = 3


def file_signature(path: Path) -> Signature:
    """The signature of an ONNX file.

    Raises:
        LoadError: the file cannot be loaded, or holds what Triton cannot serve.
    """
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = _LOG_SEVERITY
    return _signature(_open(path, settings))


class Session:
    """A loaded model.

    Args:
        path: the ONNX file.
        options: what the configuration asks for.
        threads: threads within an operator where the options name none.

    Raises:
        LoadError: the file cannot be loaded, or holds what Triton cannot serve.
    """

    def __init__(self, path: Path, options: Options, threads: int) -> None:
        self._session = _open(path, _settings(options, options.intra_op_threads or threads))
        self._run_options = ort.RunOptions()
        for key, value in options.run_entries.items():
            self._run_options.add_run_config_entry(key, value)
        self.signature = _signature(self._session)
        self.providers: list[str] = self._session.get_providers()

    def run(self, output_names: list[str], inputs: Tensors) -> Tensors:
        """The outputs by name. Whatever ONNX Runtime raises is passed on.

        Args:
            output_names: the outputs wanted.
            inputs: by name; strings as object arrays of ``bytes``.

        Raises:
            UnicodeDecodeError: a string is not UTF-8.
        """
        feeds = {
            name: ort_strings.decode(array) if array.dtype == np.object_ else array
            for name, array in inputs.items()
        }
        arrays = self._session.run(output_names, feeds, self._run_options)
        return dict(zip(output_names, arrays, strict=True))


def _settings(options: Options, threads: int) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.log_severity_level = _LOG_SEVERITY
    settings.graph_optimization_level = _GRAPH_LEVELS.get(
        options.graph_level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    )
    if options.parallel:
        settings.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = options.inter_op_threads
    if options.mem_arena is not None:
        settings.enable_cpu_mem_arena = options.mem_arena
    if options.mem_pattern is not None:
        settings.enable_mem_pattern = options.mem_pattern
    # Idle threads that spin take the time of the client and of the other instances.
    for entry in ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning"):
        settings.add_session_config_entry(entry, "0")
    for key, value in options.session_entries.items():
        settings.add_session_config_entry(key, value)
    for library in options.op_libraries:
        settings.register_custom_ops_library(library)
    return settings


def _open(path: Path, settings: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise LoadError(str(error)) from error


def _signature(session: ort.InferenceSession) -> Signature:
    return read_signature(
        session.get_inputs(), session.get_overridable_initializers(), session.get_outputs()
    )
