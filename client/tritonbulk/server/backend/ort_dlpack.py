"""Tensors between Triton's Python backend and numpy, right under numpy 1 and numpy 2.

Triton's stub was built against numpy 1: under numpy 2 its ``as_numpy`` and ``Tensor(name, array)``
give empty tensors without an error. DLPack does not pass through numpy's structures, so it is used
for everything but strings. numpy's own export cannot be handed to the stub (it dies, or reports a
wrong capsule name), hence the capsule built here by hand after the DLPack 0.x header ``dlpack.h``.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

_DLPACK_CPU = 1
#: numpy's ``dtype.kind`` → ``DLDataTypeCode``.
_TYPE_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
# PyCapsule_New keeps the pointer, not a copy: the bytes must live as long as the process.
_CAPSULE_NAME = b"dltensor"

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("type_code", ctypes.c_uint8),
        ("type_bits", ctypes.c_uint8),
        ("type_lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _DLManagedTensor(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_DLManagedTensor))
_DLManagedTensor._fields_ = (
    ("dl_tensor", _DLTensor),
    ("manager_ctx", ctypes.c_void_p),
    ("deleter", _Deleter),
)

#: What a capsule points to, by the address of its ``DLManagedTensor``, until the consumer is done.
_exported: dict[int, tuple[_DLManagedTensor, Any, np.ndarray]] = {}


def _delete(managed: Any) -> None:
    _exported.pop(ctypes.addressof(managed.contents), None)


# One callback for ever: a consumer may call it after the exporting object has gone.
_deleter = _Deleter(_delete)


class Exported:
    """A numpy array as an object that ``pb_utils.Tensor.from_dlpack`` accepts, without a copy.

    Every capsule made must be consumed: one that is not keeps its array for ever.

    Args:
        array: of a boolean, integer or floating type; copied only if it is not C-contiguous.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = np.ascontiguousarray(array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_DLPACK_CPU, 0)

    def __dlpack__(self, **_: object) -> Any:
        array = self._array
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = _DLTensor(
            data=array.ctypes.data,
            device_type=_DLPACK_CPU,
            ndim=array.ndim,
            type_code=_TYPE_CODES[array.dtype.kind],
            type_bits=array.dtype.itemsize * 8,
            type_lanes=1,
            shape=ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)),
        )
        managed = _DLManagedTensor(dl_tensor=tensor, deleter=_deleter)
        address = ctypes.addressof(managed)
        _exported[address] = (managed, shape, array)
        return _new_capsule(address, _CAPSULE_NAME, None)
