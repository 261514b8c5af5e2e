"""tritonbulk_export: turn a model into an entry that Triton serves and tritonbulk can feed.

`export_onnx`, `export_sklearn` and `export_lightgbm` prove the result against the source model on
real rows before anything is published. Importing this package loads no framework.
"""

from tritonbulk_export.api import export_lightgbm, export_onnx, export_sklearn
from tritonbulk_export.spec import Exported, OutputParity, Parity, TargetOptions, Tolerance

__all__ = [
    "Exported",
    "OutputParity",
    "Parity",
    "TargetOptions",
    "Tolerance",
    "export_lightgbm",
    "export_onnx",
    "export_sklearn",
]
