"""Strings in Triton's byte format, beside what Triton's client library makes of them."""

from __future__ import annotations

import importlib
import struct
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import serialize_byte_tensor

import tritonbulk.server

# As tritonserver does for the process that runs the backend.
sys.path.append(str(Path(tritonbulk.server.__file__).parent / "backend"))
strings = importlib.import_module("ort_strings")

#: NUL, ASCII, and UTF-8 of two, three and four bytes; any mixture of sizes, or all of one.
TEXTS = st.text(st.sampled_from("\0aé日😀"), max_size=6)
ALIKE = st.integers(0, 6).flatmap(
    lambda size: st.lists(st.binary(min_size=size, max_size=size), min_size=1)
)
ALIKE_TEXTS = st.integers(0, 6).flatmap(
    lambda size: st.lists(st.text(st.sampled_from("\0ab"), min_size=size, max_size=size))
)
VALUES = st.lists(st.binary(max_size=6)) | ALIKE


def objects(*values: object) -> np.ndarray:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def encoded(*values: object) -> np.ndarray:
    """As the stub hands a tensor over."""
    written = serialize_byte_tensor(objects(*values))
    return np.frombuffer(written.item() if values else b"", np.uint8)


@given(VALUES)
def test_values_are_read_as_triton_reads_them(values: list[bytes]) -> None:
    read = strings.deserialize(encoded(*values))
    assert (read.dtype, read.shape) == (np.object_, (len(values),))
    assert read.tolist() == values
    assert {type(value) for value in read} <= {bytes}


@given(VALUES, st.data())
def test_a_tensor_that_ends_within_a_value_is_an_error(
    values: list[bytes], data: st.DataObject
) -> None:
    whole = encoded(*values, b"last")
    cut = whole[: -data.draw(st.integers(1, 7))]
    with pytest.raises(struct.error):
        strings.deserialize(cut)


def test_equal_strides_alone_do_not_make_equal_sizes() -> None:
    values = [b"", struct.pack("<I", 4) + b"four", b"four"]
    assert strings.deserialize(encoded(*values)).tolist() == values


@given(st.lists(TEXTS | st.binary(max_size=6) | st.integers()))
def test_values_are_written_as_triton_writes_them(values: list[object]) -> None:
    column = objects(*values).reshape(-1, 1)
    assert bytes(strings.serialize(column)) == encoded(*values).tobytes()


def test_arrays_in_another_order_are_written_in_c_order() -> None:
    words = objects("a", "b", "c", "d").reshape(2, 2)
    assert strings.serialize(words.T) == strings.serialize(objects("a", "c", "b", "d"))


def test_arrays_of_the_bytes_type_are_written_and_numbers_are_not() -> None:
    assert strings.serialize(np.array([b"ab", b"c"])) == strings.serialize(objects("ab", "c"))
    assert strings.serialize(np.ones(2)) is None


@pytest.fixture(scope="module")
def identity() -> ort.InferenceSession:
    """y = x, for strings of any number."""
    graph = '<ir_version: 10, opset_import: ["" : 20]> g (string[n] x) => (string[n] y)'
    model = onnx.parser.parse_model(f"{graph} {{ y = Identity(x) }}")
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@given(st.lists(TEXTS) | ALIKE_TEXTS)
def test_texts_pass_through_a_model_unchanged(
    identity: ort.InferenceSession, texts: list[str]
) -> None:
    read = strings.deserialize(encoded(*texts))
    (passed,) = identity.run(None, {"x": strings.decode(read)})
    assert passed.tolist() == texts
    assert bytes(strings.serialize(passed)) == encoded(*texts).tobytes()


def test_ascii_of_one_size_is_not_decoded_value_by_value() -> None:
    decoded = strings.decode(objects(b"a\0", b"bc").reshape(2, 1))
    assert (decoded.dtype, decoded.shape) == (np.dtype("V2"), (2, 1))
    assert decoded.tolist() == [[b"a\0"], [b"bc"]]


@pytest.mark.parametrize("values", [(b"ab", b"cde", b"f"), ("é".encode(), b"cd")])
def test_other_texts_are(values: tuple[bytes, ...]) -> None:
    assert strings.decode(objects(*values)).tolist() == [value.decode() for value in values]


@pytest.mark.parametrize("values", [(b"\xc3", b"\xa9"), (b"\xc3", b"\xa9longer")])
def test_what_is_not_utf_8_is_an_error(values: tuple[bytes, ...]) -> None:
    # Each has a part of one character, and together they have that character.
    with pytest.raises(UnicodeDecodeError, match="byte 0xc3 in position 0: unexpected end"):
        strings.decode(objects(*values))
