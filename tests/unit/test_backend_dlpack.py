"""Arrays handed over by DLPack, taken up by numpy in the place of Triton's stub."""

from __future__ import annotations

import gc
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import tritonbulk.server

# As tritonserver does for the process that runs the backend.
sys.path.append(str(Path(tritonbulk.server.__file__).parent / "backend"))
dlpack = importlib.import_module("ort_dlpack")

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
TYPES = ["bool", *INTEGERS, "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", TYPES)
def test_an_exported_array_is_the_same_array_without_a_copy(dtype: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    taken = np.from_dlpack(dlpack.Exported(array))
    assert taken.dtype == array.dtype
    assert taken.tolist() == array.tolist()
    assert taken.ctypes.data == array.ctypes.data


def test_an_array_that_is_not_contiguous_is_copied_right() -> None:
    array = np.arange(12).reshape(3, 4).T
    assert np.from_dlpack(dlpack.Exported(array)).tolist() == array.tolist()


def test_an_empty_array_keeps_its_shape() -> None:
    assert np.from_dlpack(dlpack.Exported(np.empty((2, 0, 3)))).shape == (2, 0, 3)


def test_the_array_lives_as_long_as_its_consumer_and_no_longer() -> None:
    before = len(dlpack._exported)
    taken = np.from_dlpack(dlpack.Exported(np.arange(1000)))
    gc.collect()
    assert len(dlpack._exported) == before + 1
    assert taken.sum() == 499500
    del taken
    gc.collect()
    assert len(dlpack._exported) == before
