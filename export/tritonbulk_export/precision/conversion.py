"""Which conversion a precision asks for, and what it is tested with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from tritonbulk.errors import InputError, ModelError
from tritonbulk_export.graph import sign
from tritonbulk_export.names import first_line
from tritonbulk_export.precision.dynamic import to_dynamic_int8
from tritonbulk_export.precision.half import BF16, FP16, to_half
from tritonbulk_export.precision.ports import with_opset_at_least
from tritonbulk_export.precision.static import to_static_int8
from tritonbulk_export.spec import Target, Tensors

_BF16_OPSET = 22
_CALIBRATION_ROWS_MIN = 16


@dataclass(frozen=True, slots=True)
class Converted:
    """A graph in another precision.

    Attributes:
        graph: to publish.
        tested: what is run here in its place: the same, but for bfloat16, which ONNX Runtime cannot
            run on a CPU and which is emulated by rounding.
        notes: sentences for people.
        is_verified: False if ``tested`` is not ``graph``.
    """

    graph: onnx.ModelProto
    tested: onnx.ModelProto
    notes: tuple[str, ...]
    is_verified: bool = True


def converted(model: onnx.ModelProto, target: Target, calibration: Tensors | None) -> Converted:
    """Return ``model`` in the precision of ``target``, which is not float32.

    Args:
        model: repaired, in float32.
        target: with the precision and its options.
        calibration: rows for static INT8; None for the others.

    Raises:
        ModelError: the precision would gain nothing or is impossible; no retry.
    """
    kind = target.precision
    if kind == "fp16":
        graph, notes = to_half(model, FP16, keep=target.keep_fp32, half_io=target.half_io)
    elif kind == "bf16":
        return _bfloat16(model, target)
    elif kind == "int8-dynamic":
        graph, notes = to_dynamic_int8(model)
    elif calibration is not None:
        graph, notes = to_static_int8(model, target.int8_preset, calibration)
    else:
        raise InputError("static INT8 needs calibration rows; give a larger sample")
    return Converted(_checked(graph), graph, tuple(notes))


def calibration_positions(rows: int, wanted: int) -> npt.NDArray[np.intp]:
    """Return which of ``rows`` sample rows to calibrate on: evenly spaced, at most half of them.

    Raises:
        InputError: that would be fewer than 16; no retry.
    """
    count = min(wanted, rows // 2)
    if count < _CALIBRATION_ROWS_MIN:
        raise InputError(
            f"static INT8 is calibrated on some rows and judged on others, and {rows} sample rows "
            f"are too few; give at least {2 * _CALIBRATION_ROWS_MIN}"
        )
    return np.unique(np.linspace(0, rows - 1, count).astype(np.intp))


def _bfloat16(model: onnx.ModelProto, target: Target) -> Converted:
    model = with_opset_at_least(model, _BF16_OPSET)
    graph, notes = to_half(model, BF16, keep=target.keep_fp32)
    tested, _ = to_half(model, BF16, keep=target.keep_fp32, emulated=True)
    notes.append("unverified: ONNX Runtime has no bf16 on CPUs, so its rounding was emulated")
    return Converted(_checked(graph), tested, tuple(notes), is_verified=False)


def _checked(graph: onnx.ModelProto) -> onnx.ModelProto:
    # Converters leave their names and notes as exporters do.
    sign(graph)
    try:
        onnx.checker.check_model(graph)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            f"the converted graph is not valid ({first_line(error)}); export it as fp32"
        ) from error
    return graph
