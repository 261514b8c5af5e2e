"""The options of ``trtexec`` that a kit may use, by major version of TensorRT.

From ``samples/common/sampleOptions.cpp`` of NVIDIA/TensorRT (11.1, a892d222) and the guide to
migrating from 10 to 11. TensorRT 11 has no precision flags: every network is strongly typed, and
the graph says what is half. Both majors are given typed graphs, so neither dialect has them here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tritonbulk.errors import OptionError

_BOTH = frozenset(
    {
        "builderOptimizationLevel",
        "getPlanVersionOnly",
        "hardwareCompatibilityLevel",
        "help",
        "loadEngine",
        "loadInputs",
        "maxShapes",
        "memPoolSize",
        "minShapes",
        "onnx",
        "optShapes",
        "profile",
        "saveEngine",
        "shapes",
        "skipInference",
        "timingCacheFile",
        "verbose",
        "versionCompatible",
    }
)

FLAGS: Mapping[int, frozenset[str]] = MappingProxyType(
    {
        10: _BOTH | {"exportOutput", "stronglyTyped", "iterations", "warmUp", "duration"},
        11: _BOTH
        | {"accuracyAlgorithm", "accuracyThreshold", "atol", "loadRefOutputs", "rtol"}
        | {"exportOutput", "iterations", "warmUp", "duration"},
    }
)
"""Names of options, without the dashes."""

REMOVED = frozenset({"fp16", "bf16", "int8", "fp8", "int4", "best", "calib", "workspace"})
"""What older recipes pass: gone in 11 (``workspace`` in 10), and wrong for a typed graph."""


def check_flags(arguments: Sequence[str], major: int) -> None:
    """Check that ``trtexec`` of TensorRT ``major`` knows every option of a command line.

    Raises:
        OptionError: it does not; a retry does not help.
    """
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if not argument.startswith("--") or name not in FLAGS[major]:
            raise OptionError(f"trtexec of TensorRT {major} has no option {argument!r}")
