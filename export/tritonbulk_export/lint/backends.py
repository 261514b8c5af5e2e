"""Which backend runs an entry and which file it reads, as Triton's core fills them in."""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk_export.lint.reading import Entry

ENSEMBLE = "ensemble"
ONNXRUNTIME = "onnxruntime"
TENSORRT = "tensorrt"
PYTHON = "python"
MODEL_FILES = {
    TENSORRT: "model.plan",
    ONNXRUNTIME: "model.onnx",
    "openvino": "model.xml",
    "pytorch": "model.pt",
    PYTHON: "model.py",
}
"""Default file by backend, in the order in which Triton looks for them."""

PLATFORMS = {
    "tensorrt_plan": TENSORRT,
    "onnxruntime_onnx": ONNXRUNTIME,
    "pytorch_libtorch": "pytorch",
}
COMPLETING = frozenset({ONNXRUNTIME, TENSORRT, PYTHON, "openvino", "pytorch", "tensorflow"})
"""Backends that may fill in inputs and outputs themselves."""


def backend_of(entry: Entry) -> str:
    """Return the entry's backend, ``ensemble``, or "" if Triton cannot tell."""
    config = entry.config
    if config.platform == ENSEMBLE:
        return ENSEMBLE
    if config.backend:
        return str(config.backend)
    if config.platform in PLATFORMS:
        return PLATFORMS[config.platform]
    if config.platform:
        return ""
    for backend, file in MODEL_FILES.items():
        if config.default_model_filename == file:
            return backend
    if config.default_model_filename or not entry.subfolders:
        return ""
    first = entry.folder / entry.subfolders[0]
    for backend, file in MODEL_FILES.items():
        path = first / file
        if path.exists() and not (backend == TENSORRT and path.is_dir()):
            return backend
    return entry.name.partition(".")[2]


def model_file(config: pb.ModelConfig, backend: str) -> str:
    """Return the name of the file in a version's folder; "" if it is not known."""
    return str(config.default_model_filename or MODEL_FILES.get(backend, ""))
