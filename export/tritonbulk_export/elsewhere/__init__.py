"""The published files in the very ONNX Runtime of the target's container.

`checking` fetches that release's wheel into a folder of its own, once, and asks `probe` there, in
another process, for the answers to the golden rows.
"""

from tritonbulk_export.elsewhere.checking import check_runtime

__all__ = ["check_runtime"]
