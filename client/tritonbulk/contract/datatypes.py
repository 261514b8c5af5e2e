"""Triton's tensor datatypes, and what they are in NumPy and Arrow."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pyarrow as pa

from tritonbulk.errors import ContractError


@dataclass(frozen=True, slots=True)
class Datatype:
    """One Triton datatype.

    Attributes:
        name: the wire name, such as ``FP32``.
        config_name: the name in ``config.pbtxt``, such as ``TYPE_FP32``.
        numpy: the NumPy dtype of an element; object (of bytes) for ``BYTES``.
        arrow: the Arrow type of a prediction column made of one element a row, which holds every
            value of the datatype exactly.
        item_bytes: bytes of one element on the wire; 0 for ``BYTES``, whose elements vary.
    """

    name: str
    config_name: str
    numpy: np.dtype[np.generic]
    arrow: pa.DataType
    item_bytes: int

    @property
    def is_float(self) -> bool:
        """True if NaN can be said in this datatype."""
        return self.name.startswith(("FP", "BF"))


def _numeric(name: str, numpy: str, arrow: pa.DataType) -> Datatype:
    dtype = np.dtype(numpy)
    return Datatype(name, f"TYPE_{name}", dtype, arrow, dtype.itemsize)


_ALL = (
    _numeric("BOOL", "bool", pa.bool_()),
    _numeric("UINT8", "uint8", pa.uint8()),
    _numeric("UINT16", "uint16", pa.uint16()),
    _numeric("UINT32", "uint32", pa.uint32()),
    _numeric("UINT64", "uint64", pa.uint64()),
    _numeric("INT8", "int8", pa.int8()),
    _numeric("INT16", "int16", pa.int16()),
    _numeric("INT32", "int32", pa.int32()),
    _numeric("INT64", "int64", pa.int64()),
    _numeric("FP16", "float16", pa.float16()),
    _numeric("FP32", "float32", pa.float32()),
    _numeric("FP64", "float64", pa.float64()),
    # The upper half of a float32, which Arrow does not have: columns hold the float32 itself.
    Datatype("BF16", "TYPE_BF16", np.dtype(ml_dtypes.bfloat16), pa.float32(), 2),
    # config.pbtxt says STRING where the wire says BYTES: the one pair of names that differs.
    Datatype("BYTES", "TYPE_STRING", np.dtype(object), pa.string(), 0),
)
_BY_NAME = {d.name: d for d in _ALL} | {d.config_name: d for d in _ALL}


def datatype(name: str) -> Datatype:
    """Return the datatype called ``name`` on the wire (``FP32``) or in a config (``TYPE_FP32``).

    Raises:
        ContractError: the datatype is unknown; a retry does not help.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        supported = ", ".join(d.name for d in _ALL)
        raise ContractError(
            f"tensor datatype {name} is not supported; change the model to one of {supported}"
        ) from None
