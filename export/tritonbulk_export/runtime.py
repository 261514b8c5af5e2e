"""ONNX Runtime as export uses it: exactly one distribution of it, on the provider asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx

from tritonbulk.contract import Datatype, datatype
from tritonbulk.errors import ModelError, PlatformError
from tritonbulk_export.graph import model_files
from tritonbulk_export.names import first_line
from tritonbulk_export.spec import Tensors

_FATAL = 4
"""Severity from which ONNX Runtime writes to standard error by itself."""

_ORT_DATATYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
} | {
    f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}"
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}


def check_one_onnxruntime(version_of: Callable[[str], str] = version) -> None:
    """Check that ``onnxruntime`` or ``onnxruntime-gpu`` is installed, and not both.

    They share one import name, so the one that was installed last overwrites half of the other,
    and pip cannot exclude one by the other.

    Raises:
        PlatformError: both are (names the two commands that mend it), or none. No retry.
    """
    found = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name, version_of)]
    if not found:
        raise PlatformError("ONNX Runtime is not installed; `pip install onnxruntime`")
    if len(found) > 1:
        raise PlatformError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; keep "
            "one: `pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install onnxruntime` "
            "(or `pip install onnxruntime-gpu` on a GPU machine)"
        )


def _is_installed(name: str, version_of: Callable[[str], str]) -> bool:
    try:
        version_of(name)
    except PackageNotFoundError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output as ONNX Runtime sees it.

    Attributes:
        name: of the tensor.
        datatype: of its elements.
        shape: with the batch dimension; a name or None where the size is open.
    """

    name: str
    datatype: Datatype
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded graph.

    Attributes:
        inputs: in graph order.
        outputs: in graph order.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    _session: Any

    def run(self, tensors: Tensors) -> Tensors:
        """Return the graph's outputs by name.

        Raises:
            ModelError: ONNX Runtime cannot run it on these tensors; a retry does not help.
        """
        names = [port.name for port in self.outputs]
        try:
            feed = {port.name: fed(tensors[port.name]) for port in self.inputs}
            return dict(zip(names, self._session.run(names, feed), strict=True))
        except Exception as error:  # ONNX Runtime has no common base for its own errors.
            raise ModelError(
                f"ONNX Runtime cannot run the graph: {first_line(error)}; mend the model"
            ) from error


def fed(tensor: Any) -> Any:
    """Return ``tensor`` as ONNX Runtime takes it: its strings are Python strings, not bytes."""
    if tensor.dtype != object:
        return tensor
    decoded = [v.decode() if isinstance(v, bytes) else v for v in tensor.ravel()]
    fed = tensor.copy()
    fed.ravel()[:] = decoded
    return fed


def open_session(
    graph: onnx.ModelProto,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    *,
    is_optimized: bool = True,
) -> Session:
    """Return ``graph`` loaded by ONNX Runtime.

    Args:
        graph: to load.
        providers: of computation, the preferred one first.
        is_optimized: False to run every node as it stands in the graph, fused with no other.

    Raises:
        ModelError: ONNX Runtime refuses the graph, or it has a tensor that no file can feed.
        PlatformError: a provider is not really in use (ONNX Runtime falls back in silence), or
            two distributions of ONNX Runtime are installed.
    """
    session = load(graph, providers, is_optimized=is_optimized)
    return Session(
        inputs=tuple(_port(node) for node in session.get_inputs()),
        outputs=tuple(_port(node) for node in session.get_outputs()),
        _session=session,
    )


def load(
    graph: onnx.ModelProto,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    *,
    is_optimized: bool = True,
) -> Any:
    """Return ONNX Runtime's own session on ``graph``; see `open_session`, but for the types."""
    check_one_onnxruntime()
    # Its Linux builds report usage and leave a file in the temporary folder unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415  (after the check: importing a broken mixture may crash)

    options = onnxruntime.SessionOptions()
    # Its errors come back as exceptions, which become sentences; it would print them besides.
    onnxruntime.set_default_logger_severity(_FATAL)
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not is_optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory(prefix="tritonbulk-") as folder:
        model = _loadable(graph, Path(folder))
        try:
            session = onnxruntime.InferenceSession(model, options, providers=list(providers))
        except Exception as error:
            raise ModelError(
                f"ONNX Runtime cannot load the graph: {first_line(error)}; mend the model"
            ) from error
    missing = set(providers) - set(session.get_providers())
    if missing:
        raise PlatformError(
            f"ONNX Runtime was asked for {', '.join(sorted(missing))} but fell back to "
            f"{', '.join(session.get_providers())}; install the libraries that provider needs"
        )
    return session


def _loadable(graph: onnx.ModelProto, folder: Path) -> bytes | str:
    """Return the graph as ONNX Runtime takes it: bytes, or a file in ``folder`` if too large."""
    files = model_files(graph)
    if len(files) == 1:
        return next(iter(files.values()))
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder / min(files, key=lambda name: len(files[name])))


def _port(node: Any) -> Port:
    name = _ORT_DATATYPES.get(node.type)
    if name is None:
        raise ModelError(
            f"tensor {node.name!r} has type {node.type}, which no file column can hold; change "
            "the model so that it takes and gives plain tensors"
        )
    return Port(node.name, datatype(name), tuple(node.shape))
