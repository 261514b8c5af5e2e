"""A small network with the usual operators, whole, for tests of what is done to it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(3)
WIDTH, HIDDEN, CLASSES = 8, 64, 3
ROWS = RANDOM.normal(size=(600, WIDTH)).astype(np.float32)
TABLE = pa.table({f"f{n}": ROWS[:, n] for n in range(WIDTH)})


def port(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, array):
    return numpy_helper.from_array(np.asarray(array, dtype=np.float32), name)


def mlp(extra=(), outputs=None, opset=18):
    """Return linear, LayerNorm, GELU-like, linear, softmax."""
    random = np.random.default_rng(9)
    constants = [
        constant("w1", random.normal(size=(WIDTH, HIDDEN)) / np.sqrt(WIDTH)),
        constant("b1", random.normal(size=HIDDEN)),
        constant("gain", np.ones(HIDDEN)),
        constant("w2", random.normal(size=(HIDDEN, CLASSES)) / np.sqrt(HIDDEN)),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], name="first"),
        helper.make_node("LayerNormalization", ["h1", "gain"], ["h2"], name="norm"),
        helper.make_node("Tanh", ["h2"], ["h3"], name="act"),
        helper.make_node("MatMul", ["h3", "w2"], ["h4"], name="second"),
        helper.make_node("Softmax", ["h4"], ["probabilities"], name="last"),
        *extra,
    ]
    ends = outputs or [port("probabilities", ["batch", CLASSES])]
    graph = helper.make_graph(nodes, "g", [port("x", ["batch", WIDTH])], ends, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
