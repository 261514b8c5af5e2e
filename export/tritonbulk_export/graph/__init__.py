"""ONNX graphs: read from a file without trust, repaired, lowered to a target, written again.

`walk` finds what a model consists of, `external` reads and writes weights that stand beside the
model file, `repair` mends what exporters get wrong, `lowering` takes a graph down to the opset and
IR version of a Triton release.
"""

from tritonbulk_export.graph.external import model_files, read_model
from tritonbulk_export.graph.repair import (
    Repaired,
    dropped,
    renamed,
    repair,
    sign,
    without_zipmap,
)
from tritonbulk_export.graph.shapes import with_output_shapes

__all__ = [
    "Repaired",
    "dropped",
    "model_files",
    "read_model",
    "renamed",
    "repair",
    "sign",
    "with_output_shapes",
    "without_zipmap",
]
