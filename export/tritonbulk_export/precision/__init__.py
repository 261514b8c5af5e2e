"""Precision: the graph itself is typed, since TensorRT 11 has no other way and it is testable here.

`half` makes float16 and bfloat16 of what can be, with casts at the borders; `static` quantizes by
calibration rows, `dynamic` by each row itself. `conversion` chooses between them.
"""

from tritonbulk_export.precision.conversion import Converted, calibration_positions, converted

__all__ = ["Converted", "calibration_positions", "converted"]
