"""Graphs that fix their batch, or mix its rows: refused with exit code 4, and the node is named."""

from __future__ import annotations

import numpy as np
from onnx import helper

from tests.export_corpus.corpus import ROWS, UNPROVED, graph

ROW = "float[1,4] row = {1, 2, 3, 4}"
NORM = ", ".join(f"float[4] {name} = {{1, 1, 1, 1}}" for name in "wbmv")
EIGHT = "float[2,4] b = {1, 2, 3, 4, 5, 6, 7, 8}"
TWO_FOUR = "int64[2] s = {2, 4}"


def baked(name, says, body, constants="", **options):
    return graph(f"baked-{name}", UNPROVED, says, body, constants, **options)


def leak(name, says, body, constants="", **options):
    return graph(f"leak-{name}", UNPROVED, says, body, constants, **options)


def as_training(model):
    node = model.graph.node[0]
    node.attribute.append(helper.make_attribute("training_mode", 1))


def with_five_outputs(model):
    node = model.graph.node[0]
    node.output.extend(["m1", "v1", "m2", "v2"])


BAKED = [
    baked(
        "reshape", "node Reshape keep has a fixed batch size", "[keep] y = Reshape(x, s)",
        "int64[2] s = {1, 4}", ends="(float[1,4] x) => (float[1,4] y)",
    ),
    baked(
        "reshape-open-width", "node Reshape keep has a fixed", "[keep] y = Reshape(x, s)",
        "int64[2] s = {4, -1}", ends="(float[4,4] x) => (float[4,4] y)",
    ),
    baked(
        "expand-behind-add", "node Expand wide has a fixed",
        "[wide] e = Expand(row, s) [sum] y = Add(x, e)", f"{TWO_FOUR}, {ROW}",
    ),
    baked(
        "expand-behind-three-nodes", "node Expand wide has a fixed",
        "[wide] e = Expand(row, s) [twice] t = Mul(e, two) [less] u = Sub(t, row) "
        "[sum] y = Add(x, u)",
        f"{TWO_FOUR}, {ROW}, float two = {{2}}",
    ),
    baked(
        "tile", "node Tile many has a fixed", "[many] e = Tile(row, s) [sum] y = Add(x, e)",
        "int64[2] s = {3, 1}, float[1,4] row = {1,2,3,4}",
    ),
    baked(
        "constant-of-shape", "node ConstantOfShape zero has a fixed",
        "[zero] e = ConstantOfShape(s) [sum] y = Add(x, e)", TWO_FOUR,
    ),
    baked("slice-one-row", "node Slice first", "[first] y = Slice(x, zero, one, zero)",
          "int64[1] zero = {0}, int64[1] one = {1}"),
    baked("slice-some-rows", "node Slice some", "[some] y = Slice(x, zero, end, zero)",
          "int64[1] zero = {0}, int64[1] end = {5}"),
    baked("buffer", r"constant 'b' of shape \[2, 4\], which node Add sum reads",
          "[sum] y = Add(x, b)", EIGHT),
    baked(
        "buffer-behind-nodes", r"constant 'b' of shape \[2, 4\], which node Mul twice reads",
        "[twice] t = Mul(b, two) [sum] y = Add(x, t)", f"{EIGHT}, float two = {{2}}",
    ),
    baked(
        "constant-node", "node Constant held has a fixed",
        "[held] e = Constant <value = float[2,4] {1, 2, 3, 4, 5, 6, 7, 8}>() [sum] y = Add(x, e)",
    ),
    baked("gather-rows", "node Gather pick", "[pick] y = Gather<axis = 0>(x, i)",
          "int64[3] i = {0, 1, 2}"),
    baked("split-rows", "node Split cut", "[cut] y, z = Split<axis = 0>(x, s)",
          "int64[2] s = {2, 2}", ends="(float[N,4] x) => (float[N,4] y, float[N,4] z)"),
    baked("flatten-rows", "node Reshape flat", "[flat] y = Reshape(x, s)", "int64[2] s = {-1, 2}",
          ends="(float[N,4] x) => (float[N,2] y)"),
    baked("pad-rows", "node Pad more", "[more] y = Pad(x, p)", "int64[4] p = {0, 0, 1, 0}"),
    baked("reduce-all", "node ReduceSum total reduces over rows",
          "[total] y = ReduceSum<keepdims = 1>(x)", ends="(float[N,4] x) => (float[1,1] y)"),
    baked("reduce-rows", "node ReduceMean mean reduces over rows",
          "[mean] y = ReduceMean<keepdims = 1>(x, a)", "int64[1] a = {0}",
          ends="(float[N,4] x) => (float[1,4] y)"),
    baked("transposed", "node Transpose turn", "[turn] y = Transpose(x)",
          ends="(float[N,4] x) => (float[4,N] y)"),
    baked("rows-twice", "node Concat both", "[both] y = Concat<axis = 0>(x, x)"),
    baked("constant-output", "node Expand wide has a fixed",
          "[copy] y = Identity(x) [wide] z = Expand(row, s)",
          f"{TWO_FOUR}, {ROW}",
          ends="(float[N,4] x) => (float[N,4] y, float[2,4] z)"),
    baked(
        "in-a-branch", "node If choose",
        "flag = Constant <value = bool {1}>() [choose] y = If (flag) <"
        "then_branch = t () => (float[N,4] a) { a = Reshape(x, s) }, "
        "else_branch = e () => (float[N,4] c) { c = Identity(x) }>",
        "int64[2] s = {1, 4}",
    ),
]  # fmt: skip

LEAKS = [
    leak("softmax", "node Softmax soft mixes rows", "[soft] y = Softmax<axis = 0>(x)"),
    leak("log-softmax", "node LogSoftmax soft mixes rows", "[soft] y = LogSoftmax<axis = 0>(x)"),
    leak("mean-of-batch", "node ReduceMean mean mixes rows",
         "[mean] m = ReduceMean<keepdims = 1>(x, a) [less] y = Sub(x, m)", "int64[1] a = {0}"),
    leak("largest-of-all", "node ReduceMax peak mixes rows",
         "[peak] m = ReduceMax<keepdims = 0>(x) [part] y = Div(x, m)"),
    leak("running-sum", "node CumSum run mixes rows", "[run] y = CumSum(x, a)", "int64 a = {0}"),
    leak("training-norm", "node BatchNormalization norm is in training mode",
         "[norm] y = BatchNormalization(x, w, b, m, v)",
         NORM,
         change=as_training),
    leak("training-norm-of-old", "node BatchNormalization norm is in training mode",
         "[norm] y = BatchNormalization(x, w, b, m, v)",
         NORM,
         opset=9, change=with_five_outputs),
    leak("dropout", "node Dropout drop is in training mode", "[drop] y = Dropout(x, r, t)",
         "float r = {0.5}, bool t = {1}"),
    leak("random", "the model draws random numbers", "r = RandomNormalLike(x) y = Add(x, r)"),
    leak("attention-over-batch", "node (MatMul pairs|Softmax weight|MatMul mix) mixes rows",
         "[turn] t = Transpose(x) [pairs] p = MatMul(x, t) [weight] w = Softmax<axis = 1>(p) "
         "[mix] y = MatMul(w, x)"),
    leak("number-of-rows", "node Div share mixes rows",
         "s = Shape(x) n = Gather(s, z) f = Cast<to = 1>(n) [share] y = Div(x, f)",
         "int64 z = {0}"),
    leak("rows-reversed", "node Slice turn mixes rows", "[turn] y = Slice(x, a, b, z, m)",
         "int64[1] a = {-1}, int64[1] b = {-1000000}, int64[1] z = {0}, int64[1] m = {-1}"),
    leak("rows-shifted", "node (Slice head|Concat roll) mixes rows",
         "head = Slice(x, z, o, z) tail = Slice(x, o, e, z) "
         "[roll] y = Concat<axis = 0>(tail, head)",
         "int64[1] z = {0}, int64[1] o = {1}, int64[1] e = {1000000}"),
    leak("sorted-rows", "node TopK sort mixes rows",
         "s = Shape(x) n = Slice(s, z, o) [sort] y, i = TopK<axis = 0>(x, n)",
         "int64[1] z = {0}, int64[1] o = {1}"),
    leak("scale-of-batch", "node DynamicQuantizeLinear scale mixes rows .it takes one scale",
         "[scale] q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)"),
    leak("second-output", "output 'z' of a row changes.*node Softmax soft",
         "y = Relu(x) [soft] z = Softmax<axis = 0>(x)",
         ends="(float[N,4] x) => (float[N,4] y, float[N,4] z)"),
    leak("in-transposed-form", "node Softmax soft mixes rows",
         "t = Transpose(x) [soft] u = Softmax<axis = 1>(t) y = Transpose(u)"),
    leak("equal-sample-rows", "node ReduceMean mean mixes rows",
         "[mean] m = ReduceMean<keepdims = 1>(x, a) [less] y = Sub(x, m)", "int64[1] a = {0}",
         rows=np.repeat(ROWS[:1], 40, axis=0)),
    leak("nan-sample-rows", "node ReduceMean mean mixes rows",
         "[mean] m = ReduceMean<keepdims = 1>(x, a) [less] y = Sub(x, m)", "int64[1] a = {0}",
         rows=np.full((40, 4), np.nan, np.float32)),
    leak("one-sample-row", "node Softmax soft mixes rows", "[soft] y = Softmax<axis = 0>(x)",
         rows=ROWS[:1]),
    leak("loose-tolerance", "node Softmax soft mixes rows", "[soft] y = Softmax<axis = 0>(x)",
         options=["--atol", "100", "--rtol", "100"]),
    leak("waived-parity", "node Softmax soft mixes rows", "[soft] y = Softmax<axis = 0>(x)",
         options=["--waive", "values=wished away", "--waive", "flips=too"]),
    leak("constant-answers", "cannot be seen", "z = Mul(x, zero) y = Add(z, one)",
         "float zero = {0}, float one = {1}"),
    leak("nan-answers", "cannot be seen", "z = Sub(x, x) y = Div(z, z)"),
]  # fmt: skip
