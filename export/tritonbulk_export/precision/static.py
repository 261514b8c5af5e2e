"""Static INT8: scales are measured on calibration rows and written into the graph as Q/DQ pairs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from tritonbulk.errors import ModelError
from tritonbulk_export.names import first_line
from tritonbulk_export.precision.ports import with_opset_at_least
from tritonbulk_export.runtime import fed
from tritonbulk_export.spec import Tensors

OPERATORS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_OPSET = 13
_BATCH_ROWS = 32


def to_static_int8(
    model: onnx.ModelProto, preset: str, calibration: Tensors
) -> tuple[onnx.ModelProto, list[str]]:
    """Return ``model`` with Q/DQ pairs around its products, and what was done.

    Args:
        model: repaired, in float32.
        preset: ``cpu`` (unsigned activations, signed weights a channel) or ``trt`` (both signed and
            symmetric, a pair for each reader, biases in float: what TensorRT takes).
        calibration: rows to measure activations on.

    Raises:
        ModelError: the graph has none of the operators, or cannot be quantized; no retry.
    """
    if not any(node.op_type in OPERATORS for node in model.graph.node):
        raise ModelError(
            f"--precision int8 would change nothing: the graph has no {', '.join(OPERATORS)}; "
            "export it as fp32"
        )
    from onnxruntime import quantization as ort  # noqa: PLC0415  (0.2 s, for INT8 alone)

    is_for_trt = preset == "trt"
    options = {
        "ActivationSymmetric": is_for_trt,
        "WeightSymmetric": True,
        "DedicatedQDQPair": is_for_trt,
        "QuantizeBias": not is_for_trt,
    }
    with TemporaryDirectory(prefix="tritonbulk-") as folder:
        target = Path(folder) / "int8.onnx"
        source = Path(folder) / "fp32.onnx"
        onnx.save(with_opset_at_least(model, _OPSET), source)
        # It advises preprocessing, which would fuse operators of its own into the graph.
        logging.disable(logging.WARNING)
        try:
            ort.quantize_static(
                str(source),
                str(target),
                _Reader(calibration),
                quant_format=ort.QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                per_channel=True,
                activation_type=ort.QuantType.QInt8 if is_for_trt else ort.QuantType.QUInt8,
                weight_type=ort.QuantType.QInt8,
                calibrate_method=ort.CalibrationMethod.MinMax,
                extra_options=options,
            )
        except Exception as error:  # its errors have no common base
            raise ModelError(
                f"the graph cannot be quantized ({first_line(error)}); export it as fp32"
            ) from error
        finally:
            logging.disable(logging.NOTSET)
        quantized = onnx.load(target)
    pairs = sum(node.op_type == "DequantizeLinear" for node in quantized.graph.node)
    if not pairs:
        raise ModelError("--precision int8 changed nothing of the graph; export it as fp32")
    rows = len(next(iter(calibration.values())))
    return quantized, [f"{pairs} Q/DQ pairs, preset {preset}, calibrated on {rows} rows"]


class _Reader:
    """Calibration rows as the quantizer wants them: one batch a call, then None."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._batches = self._slices()

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)

    def _slices(self) -> Iterator[dict[str, Any]]:
        rows = len(next(iter(self._tensors.values())))
        for start in range(0, rows, _BATCH_ROWS):
            part = slice(start, start + _BATCH_ROWS)
            yield {name: fed(tensor[part]) for name, tensor in self._tensors.items()}
