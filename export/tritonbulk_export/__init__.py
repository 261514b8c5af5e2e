"""tritonbulk_export: turn a model into an entry that Triton serves and tritonbulk can feed.

One function a framework; each proves the result against the source model on real rows before
anything is published. Importing this package loads no framework.
"""

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
from tritonbulk_export.spec import Exported, OutputParity, Parity, TargetOptions, Tolerance

__all__ = [
    "Exported",
    "OutputParity",
    "Parity",
    "TargetOptions",
    "Tolerance",
    "export_catboost",
    "export_jax",
    "export_keras",
    "export_lightgbm",
    "export_onnx",
    "export_sklearn",
    "export_torch",
    "export_transformers",
    "export_xgboost",
]
