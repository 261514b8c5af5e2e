"""Model files that are damaged, or that want to read what is not theirs: refused with code 2."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.export_corpus.corpus import REFUSED, ROWS, Broken, parsed

WEIGHT = np.array([1, 2, 3, 4], dtype=np.float32)
BYTES = WEIGHT.tobytes()


def model_with(entries, data_type=TensorProto.FLOAT, dims=(4,)):
    """Return a model whose one weight stands outside, where ``entries`` say."""
    model = parsed("y = Add(x, w)")
    tensor = model.graph.initializer.add()
    tensor.name, tensor.data_type = "w", data_type
    tensor.dims.extend(dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return model


def save(model, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def outside(name, says, location, prepare=None, code=REFUSED, **entries):
    """Return the case of a weight in ``location``, which ``prepare`` puts there."""

    def write(folder: Path) -> None:
        (folder.parent / "secret.bin").write_bytes(BYTES)
        if prepare is not None:
            prepare(folder)
        place = location.replace("FOLDER", str(folder))
        save(model_with({"location": place, **entries}), folder)

    return Broken(f"external-{name}", write, code, says, ROWS)


def beside(data=BYTES):
    return lambda folder: (folder / "w.bin").write_bytes(data)


def link(folder):
    (folder / "w.bin").symlink_to(folder.parent / "secret.bin")


def hard_link(folder):
    os.link(folder.parent / "secret.bin", folder / "w.bin")


def pipe(folder):
    os.mkfifo(folder / "w.bin")


def file(name, says, data):
    return Broken(
        f"file-{name}",
        lambda folder: (folder / "model.onnx").write_bytes(data()),
        REFUSED,
        says,
        ROWS,
    )


def in_an_attribute(folder):
    model = parsed("c = Constant() y = Add(x, c)")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))
    save(model, folder)


def in_a_function(folder):
    model = parsed("y = Relu(x)")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    node = helper.make_node("Constant", [], ["b"], value=tensor)
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("local", "f", [], ["b"], [node], opset))
    save(model, folder)


def in_a_branch(folder):
    model = parsed(
        "flag = Constant <value = bool {1}>() y = If (flag) <"
        "then_branch = t () => (float[N,4] a) { a = Relu(x) }, "
        "else_branch = e () => (float[N,4] c) { c = Identity(x) }>"
    )
    tensor = model.graph.node[1].attribute[0].g.initializer.add()
    tensor.name, tensor.data_type = "w", TensorProto.FLOAT
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="..")
    save(model, folder)


def as_text(folder):
    (folder / "w.bin").write_bytes(BYTES)
    save(model_with({"location": "w.bin"}, TensorProto.STRING), folder)


def endless(folder):
    (folder / "w.bin").write_bytes(BYTES)
    save(model_with({"location": "w.bin"}, dims=(2**40, 2**20)), folder)


def raw_weight(dims, data):
    model = parsed("y = Add(x, w)")
    model.graph.initializer.append(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=data)
    )
    return model.SerializeToString()


def deep():
    """Return a message nested 5,000 deep, which protobuf itself would not write."""
    inner = b""
    for _ in range(5000):
        # GraphProto.node (1) > NodeProto.attribute (5) > AttributeProto.g (6)
        for field in (6, 5, 1):
            inner = bytes([field << 3 | 2]) + varint(len(inner)) + inner
    return bytes([7 << 3 | 2]) + varint(len(inner)) + inner


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def good():
    model = parsed("y = Add(x, w)")
    model.graph.initializer.append(numpy_helper.from_array(WEIGHT, "w"))
    return model.SerializeToString()


def folder_instead(folder):
    (folder / "model.onnx").mkdir()


def pipe_instead(folder):
    os.mkfifo(folder / "model.onnx")


PLAIN = "is no plain name of a file"
EXTERNAL = [
    outside("parent", PLAIN, "../secret.bin"),
    outside("absolute", PLAIN, "FOLDER/w.bin", beside()),
    outside("passwd", PLAIN, "/etc/passwd"),
    outside("zeros", PLAIN, "/dev/zero"),
    outside("subfolder", PLAIN, "sub/w.bin"),
    outside("dot", PLAIN, "."),
    outside("dots", PLAIN, ".."),
    outside("empty", PLAIN, ""),
    outside("backslash", PLAIN, "..\\secret.bin"),
    outside("null-byte", PLAIN, "w.bin\0.txt", beside()),
    outside("link", "which is a link", "w.bin", link),
    outside("hard-link", r"has 2 names \(hard links\)", "w.bin", hard_link),
    outside("pipe", "no regular file", "w.bin", pipe),
    outside("folder", "no regular file", "w.bin", lambda folder: (folder / "w.bin").mkdir()),
    outside("missing", "cannot be opened", "w.bin"),
    outside("huge-offset", "is no number of bytes", "w.bin", beside(), offset="9" * 400),
    outside("offset-beyond", "belongs to another model", "w.bin", beside(), offset=str(2**62)),
    outside("negative-offset", "is no number of bytes", "w.bin", beside(), offset="-4"),
    outside("offset-in-words", "is no number of bytes", "w.bin", beside(), offset="0x10"),
    outside("length-beyond", "the file has 16 bytes", "w.bin", beside(), length="64"),
    outside("length-negative", "is no number of bytes", "w.bin", beside(), length="-1"),
    outside("length-of-another-shape", r"of shape \[4\] has 8 bytes", "w.bin", beside(),
            length="8"),
    outside("shorter-file", r"of shape \[4\] has 12 bytes", "w.bin", beside(BYTES[:12])),
    outside("unknown-keys", "published", "w.bin", beside(), code=0, data_type="16", dims="9",
            __class__="os", checksum="0" * 40),
    Broken("external-in-attribute", in_an_attribute, REFUSED, PLAIN, ROWS),
    Broken("external-in-function", in_a_function, REFUSED, PLAIN, ROWS),
    Broken("external-in-branch", in_a_branch, REFUSED, PLAIN, ROWS),
    Broken("external-text", as_text, REFUSED, "cannot hold texts", ROWS),
    Broken("external-endless-shape", endless, REFUSED, "instead of", ROWS),
]  # fmt: skip

FILES = [
    file("empty", "no ONNX model", bytes),
    file("text", "no ONNX model", lambda: b"just some words\n" * 100),
    file("cut-off", "no ONNX model|broken|cannot load", lambda: good()[:-20]),
    file("pickle", "no ONNX model", lambda: b"\x80\x04\x95\x1a\x00\x00\x00cos\nsystem\n."),
    file("deep", "no ONNX model", deep),
    file("noise", "no ONNX model", lambda: np.random.default_rng(1).bytes(4096)),
    file("text-not-utf-8", "a text in it is not UTF-8", lambda: good().replace(b"Add", b"A\xffd")),
    file("too-few-bytes", r"has 8 bytes of data instead of 16", lambda: raw_weight([4], BYTES[:8])),
    file("too-many-bytes", r"has 16 bytes of data instead of 8", lambda: raw_weight([2], BYTES)),
    file("negative-size", "the file is broken", lambda: raw_weight([-4], BYTES)),
    file("huge-varint", "no ONNX model", lambda: bytes([7 << 3 | 2]) + struct.pack("<q", -1)),
    Broken("file-folder", folder_instead, REFUSED, "no regular file|Is a directory", ROWS),
    Broken("file-pipe", pipe_instead, REFUSED, "no regular file", ROWS),
    Broken("file-missing", lambda folder: None, REFUSED, "No such file", ROWS),
]
