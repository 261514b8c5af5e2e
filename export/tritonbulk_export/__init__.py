"""tritonbulk_export: turn a model into an entry that Triton serves and tritonbulk can feed.

One function a framework; each proves the result against the source model on real rows before
anything is published. `export_pipeline` chains entries, `rollback` serves an earlier version,
`lint_repository` says what Triton would refuse. Importing this package loads no framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tritonbulk_export.api import (
    export_catboost,
    export_jax,
    export_keras,
    export_lightgbm,
    export_onnx,
    export_sklearn,
    export_torch,
    export_transformers,
    export_xgboost,
)
from tritonbulk_export.serving import LoadTarget, Serving
from tritonbulk_export.spec import Exported, OutputParity, Parity, TargetOptions, Tolerance

if TYPE_CHECKING:
    from tritonbulk_export.chains.joining import export_pipeline
    from tritonbulk_export.lint import lint_repository
    from tritonbulk_export.releasing import rollback

__all__ = [
    "Exported",
    "LoadTarget",
    "OutputParity",
    "Parity",
    "Serving",
    "TargetOptions",
    "Tolerance",
    "export_catboost",
    "export_jax",
    "export_keras",
    "export_lightgbm",
    "export_onnx",
    "export_pipeline",
    "export_sklearn",
    "export_torch",
    "export_transformers",
    "export_xgboost",
    "lint_repository",
    "rollback",
]

_LATE = {
    "export_pipeline": "chains.joining",
    "lint_repository": "lint",
    "rollback": "releasing",
}
"""What needs protobuf or gRPC is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    """Return a public function of a module that is not imported yet."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
