"""Targets: what each release of the Triton container can load.

Which ONNX Runtime is in a container stands in ``docs/introduction/compatibility.md`` of
triton-inference-server/server. The newest opset, ``ai.onnx.ml`` and IR version of each ONNX Runtime
were measured: a Relu in every version from opset 18 and IR 8 up, opened with its wheel. TensorRT 11
came with 26.06 (onnxruntime_backend, commit bb4926b).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tritonbulk.errors import OptionError


@dataclass(frozen=True, slots=True)
class Release:
    """One release of the Triton container.

    Attributes:
        tag: year and month, as in the image's tag ``26.07-py3``.
        onnxruntime: version of ONNX Runtime in it.
        opset_max: newest opset of the ``ai.onnx`` domain that it loads.
        ml_opset_max: newest version of ``ai.onnx.ml`` that it loads.
        ir_max: newest IR version that it loads.
        tensorrt_major: of the TensorRT in it; from 11 on precision must be typed in the graph.
    """

    tag: str
    onnxruntime: str
    opset_max: int
    ml_opset_max: int
    ir_max: int
    tensorrt_major: int


_TABLE = (
    # tags, ONNX Runtime, opset, ai.onnx.ml, IR, TensorRT
    ("25.06 25.07", "1.22.0", 22, 5, 10, 10),
    ("25.08 25.09", "1.23.0", 23, 5, 11, 10),
    ("25.10", "1.23.1", 23, 5, 11, 10),
    ("25.11 25.12 26.01", "1.23.2", 23, 5, 11, 10),
    ("26.02", "1.24.1", 25, 5, 13, 10),
    ("26.03", "1.24.2", 25, 5, 13, 10),
    ("26.04 26.05", "1.24.4", 25, 5, 13, 10),
    ("26.06", "1.24.4", 25, 5, 13, 11),
    ("26.07", "1.27.0", 26, 5, 13, 11),
    ("26.08", "1.28.0", 26, 5, 13, 11),
)

RELEASES = {
    tag: Release(tag, runtime, opset, ml_opset, ir, tensorrt)
    for tags, runtime, opset, ml_opset, ir, tensorrt in _TABLE
    for tag in tags.split()
}

DEFAULT_RELEASE = RELEASES["25.06"]
"""The oldest in the table: what it loads, every newer one loads as well."""

_TAG = re.compile(r"(\d\d\.\d\d)(?:-py3.*)?")


def release(tag: str | None) -> Release:
    """Return the release with ``tag`` (``26.07``, or the image's ``26.07-py3``).

    Args:
        tag: None for the oldest in the table, whose graphs run in all.

    Raises:
        OptionError: the table does not have it; no retry.
    """
    if tag is None:
        return DEFAULT_RELEASE
    match = _TAG.fullmatch(tag)
    found = RELEASES.get(match[1]) if match else None
    if found is None:
        raise OptionError(
            f"--triton {tag!r} is no release that export knows; give one of {', '.join(RELEASES)} "
            "(for a newer one take the newest of these: ONNX Runtime loads what older ones loaded)"
        )
    return found
