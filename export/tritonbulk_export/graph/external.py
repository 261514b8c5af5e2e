"""Model files: read without trusting what they say about other files, written for Triton.

Weights may stand in files beside the model, and the model says where. What it says is believed
only for one plain name in the model's own folder: no path, no link, no second name of some other
file, no bytes outside the file. The file is opened once, and what was checked is what is read.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto

from tritonbulk.errors import InputError, ModelError
from tritonbulk_export.graph.walk import element_bytes, has_only_text, tensors
from tritonbulk_export.names import first_line

MODEL_FILE_BYTES_MAX = (1 << 31) - 1
"""One protobuf message holds no more."""
EXTERNAL_BYTES_MAX = 64 << 30
INLINE_BYTES_MAX = 1 << 30
"""Weights above this are published in a file of their own, well below protobuf's limit."""
ALIGN_BYTES = 4096
"""Where external tensors begin: at a page, so that runtimes can map them."""

_DATA_FILE = "model.data"
_PLAIN_NUMBER_DIGITS = 19


def read_model(path: Path) -> onnx.ModelProto:
    """Return the model in ``path`` with all weights in it.

    Args:
        path: an ONNX file of at most 2 GiB; external data lies beside it, at most 64 GiB.

    Raises:
        InputError: the file is missing, no ONNX model, or names external data that may not be read;
            names tensor, file and reason. No retry.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(_file_bytes(path))
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"model file {path} cannot be read ({error.strerror}); give the path of an ONNX file"
        ) from error
    except Exception as error:  # protobuf's decoder errors have no common base
        raise InputError(
            f"model file {path} is no ONNX model ({first_line(error)}); give the path of an ONNX "
            "file"
        ) from error
    if not model.graph.node:
        raise InputError(f"{path} is no ONNX model, or an empty one; give the path of an ONNX file")
    if not has_only_text(model):
        raise InputError(f"model file {path} is broken: a text in it is not UTF-8")
    left = EXTERNAL_BYTES_MAX
    for tensor in tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            left -= _load(tensor, path.parent, left)
        else:
            # Without effect where the data is inside; not to be passed on all the same.
            tensor.ClearField("external_data")
            _check_size(tensor, len(tensor.raw_data) if tensor.HasField("raw_data") else None)
    return model


def model_files(
    graph: onnx.ModelProto, name: str = "model.onnx", inline_bytes_max: int | None = None
) -> Mapping[str, bytes]:
    """Return the files that hold ``graph``, by their path in the version's folder.

    The same graph gives the same bytes. One file if the weights allow it; else a folder ``name``
    with ``name`` and ``model.data`` in it, which is how Triton wants external data.

    Args:
        graph: to write.
        name: of the model file.
        inline_bytes_max: weights up to this stay in it; None takes `INLINE_BYTES_MAX`.

    Raises:
        ModelError: the graph without its weights is larger than 2 GiB; no retry.
    """
    most = INLINE_BYTES_MAX if inline_bytes_max is None else inline_bytes_max
    if sum(len(tensor.raw_data) for tensor in tensors(graph)) <= most:
        return {name: _serialized(graph)}
    outside = onnx.ModelProto()
    outside.CopyFrom(graph)
    data = bytearray()
    for tensor in outside.graph.initializer:
        if len(tensor.raw_data) < ALIGN_BYTES:
            continue
        data.extend(bytes(-len(data) % ALIGN_BYTES))
        entries = {"location": _DATA_FILE, "offset": len(data), "length": len(tensor.raw_data)}
        data.extend(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    return {f"{name}/{name}": _serialized(outside), f"{name}/{_DATA_FILE}": bytes(data)}


def _serialized(graph: onnx.ModelProto) -> bytes:
    try:
        return graph.SerializeToString(deterministic=True)
    except Exception as error:  # the protobuf implementations raise different classes here
        raise ModelError(
            f"the graph does not fit one ONNX file of at most 2 GiB ({first_line(error)}); make it "
            "smaller"
        ) from error


def _file_bytes(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"model file {path} is no regular file; give the path of an ONNX file")
        if found.st_size > MODEL_FILE_BYTES_MAX:
            raise InputError(
                f"model file {path} has {found.st_size} bytes, more than the 2 GiB of one ONNX "
                "file; save it with its weights beside it"
            )
        return _read(descriptor, 0, found.st_size)
    finally:
        os.close(descriptor)


def _load(tensor: TensorProto, folder: Path, bytes_max: int) -> int:
    """Put the external data of ``tensor`` into it and return how many bytes that was."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"tensor {tensor.name!r} keeps its data in {location!r}"
    if not location or location in (".", "..") or set(location) & {"/", "\\", "\0"}:
        raise InputError(
            f"{where}, which is no plain name of a file beside the model; save the model again "
            "with one data file beside it"
        )
    if tensor.data_type == TensorProto.STRING:
        raise InputError(f"{where}, but a data file cannot hold texts; save the model again")
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Without waiting for a writer, should it be a pipe.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(location, flags, dir_fd=parent)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        is_link = (folder / location).is_symlink()
        raise InputError(
            f"{where}, which {'is a link' if is_link else f'cannot be opened ({reason})'}; put a "
            f"plain file of that name into {folder}"
        ) from error
    finally:
        os.close(parent)
    try:
        offset, length = _range(tensor, entries, os.fstat(descriptor), where)
        if length > bytes_max:
            raise InputError(f"{where}: more than {EXTERNAL_BYTES_MAX >> 30} GiB of external data")
        data = _read(descriptor, offset, length)
    finally:
        os.close(descriptor)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = data
    return length


def _range(
    tensor: TensorProto, entries: Mapping[str, str], found: os.stat_result, where: str
) -> tuple[int, int]:
    """Return offset and length of the data, both inside the file; refuse anything else."""
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{where}, which is no regular file; put a plain file there")
    if found.st_nlink != 1:
        raise InputError(
            f"{where}, which has {found.st_nlink} names (hard links) and may be some other file; "
            "put a copy there"
        )
    offset = _number(entries.get("offset", "0"), "offset", where)
    default = str(max(found.st_size - offset, 0))
    length = _number(entries.get("length", default), "length", where)
    if offset + length > found.st_size:
        raise InputError(
            f"{where} at {offset} to {offset + length}, but the file has {found.st_size} bytes; "
            "it is cut off or belongs to another model"
        )
    _check_size(tensor, length)
    return offset, length


def _number(text: str, what: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _PLAIN_NUMBER_DIGITS):
        raise InputError(f"{where} with {what} {text[:40]!r}, which is no number of bytes")
    return int(text)


def _check_size(tensor: TensorProto, length: int | None) -> None:
    """Check that ``length`` bytes are what the tensor's shape and type say; None is not checked."""
    if any(size < 0 for size in tensor.dims):
        raise InputError(
            f"tensor {tensor.name!r} has shape {list(tensor.dims)}; the file is broken"
        )
    size = element_bytes(tensor.data_type)
    if length is None or not size:
        return
    expected = math.ceil(math.prod(tensor.dims) * size)
    if length != expected:
        raise InputError(
            f"tensor {tensor.name!r} of shape {list(tensor.dims)} has {length} bytes of data "
            f"instead of {expected}; the file is broken"
        )


def _read(descriptor: int, offset: int, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = os.pread(descriptor, min(length - len(data), 1 << 26), offset + len(data))
        if not part:
            raise InputError("a model file became shorter while it was read; export again")
        data.extend(part)
    return bytes(data)
