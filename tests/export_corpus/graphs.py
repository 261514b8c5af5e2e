"""Graphs that cannot be published for other reasons, and graphs that are mended."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from tests.export_corpus.corpus import REFUSED, graph

Y = "y = Relu(x)"


def refused(name, says, body=Y, constants="", **options):
    return graph(f"refused-{name}", REFUSED, says, body, constants, **options)


def mended(name, says, body=Y, constants="", **options):
    return graph(f"mended-{name}", 0, says, body, constants, **options)


def with_output(shape, name="y"):
    def change(model):
        model.graph.output[0].CopyFrom(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        )

    return change


def two_outputs_of_one_name(model):
    model.graph.output.append(model.graph.output[0])


def without(field):
    def change(model):
        model.graph.ClearField(field)

    return change


def typed(place, data_type):
    def change(model):
        getattr(model.graph, place)[0].type.tensor_type.elem_type = data_type

    return change


def unshaped(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


def optional_input(model):
    inner = model.graph.input[0].type
    port = helper.make_value_info("x", helper.make_optional_type_proto(inner))
    model.graph.input[0].CopyFrom(port)
    model.graph.node.insert(0, helper.make_node("OptionalGetElement", ["x"], ["inner"]))
    model.graph.node[1].input[0] = "inner"


def doubled_constant(model):
    model.graph.initializer.append(model.graph.initializer[0])


def cyclic(model):
    model.graph.node[0].input[0] = "z"
    model.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))


def of_version(opset, ir):
    def change(model):
        model.opset_import[0].version, model.ir_version = opset, ir

    return change


def named(old, new):
    def change(model):
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for port in (*model.graph.input, *model.graph.output):
            port.name = new if port.name == old else port.name

    return change


def zipmap(model):
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    mapping = helper.make_map_type_proto(TensorProto.INT64, element)
    port = helper.make_value_info("y", helper.make_sequence_type_proto(mapping))
    model.graph.output[0].CopyFrom(port)


def doubled_opset(model):
    model.opset_import.append(helper.make_opsetid("ai.onnx", 15))


def noted(model):
    model.doc_string = "made by me in /home/somebody"
    for node in model.graph.node:
        note = node.metadata_props.add()
        note.key, note.value = "pkg.torch.onnx.stack_trace", "File /home/somebody/model.py, line 3"


def constants_as_inputs(model):
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )


def stale_inner_shapes(model):
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [7, 4]))


def trained(model):
    model.training_info.add().algorithm.name = "sgd"


def with_function(model):
    opset = [helper.make_opsetid("", 18)]
    node = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("local", "twice", ["a"], ["b"], [node], opset))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node[0].domain, model.graph.node[0].op_type = "local", "twice"


def without_main_opset(model):
    del model.opset_import[0]


REFUSED_GRAPHS = [
    refused("outputs-of-one-name", "2 outputs named 'y'", change=two_outputs_of_one_name),
    refused("values-of-one-name", "2 values named 'y'", "y = Relu(x) y = Neg(x)"),
    refused("constants-of-one-name", "2 initializers named 'c'", "y = Add(x, c)", "float c = {1}",
            change=doubled_constant),
    refused("no-nodes", "no ONNX model, or an empty one", change=without("node")),
    refused("no-outputs", "has no outputs", change=without("output")),
    refused("no-inputs", "has no inputs", "y = Relu(x)", "float[1,4] x = {1,2,3,4}",
            ends="() => (float[N,4] y)"),
    refused("scalar-input", "is a scalar", "y = Relu(x)", ends="(float x) => (float[N] y)"),
    refused("no-shape", "no declared shape", change=unshaped),
    refused("newer-operator", "Attention a cannot be lowered",
            "[a] y = Attention<q_num_heads = 1, kv_num_heads = 1>(x, x, x)", opset=24,
            ends="(float[N,3,4] x) => (float[N,3,4] y)"),
    refused("unknown-operator", "NoSuchOperator", "y = NoSuchOperator(x)"),
    refused("foreign-domain", "com.example", "y = com.example.Fancy(x)"),
    refused("sequence-output", "output 'y' is of sequence type", "y = SequenceConstruct(x)",
            ends="(float[N,4] x) => (seq(float[N,4]) y)"),
    refused("optional-input", "input 'x' is of optional type", change=optional_input),
    refused("complex-input", "complex", "y = Identity(x)",
            ends="(complex64[N,4] x) => (complex64[N,4] y)"),
    refused("newer-type", "FLOAT4E2M1, which came with IR version 11",
            "h = Cast<to = 23>(x) y = Cast<to = 1>(h)", opset=23, change=of_version(23, 11)),
    refused("cycle", "cannot load", change=cyclic),
    refused("undefined-value", "cannot load", "y = Relu(nowhere)"),
    refused("wrong-width", "takes 5 values a row", ends="(float[N,5] x) => (float[N,5] y)"),
    refused("unknown-release", "no release that export knows", options=["--triton", "19.01"]),
    refused("unknown-output-to-drop", "is no output of the model",
            options=["--drop-output", "nothing"]),
    refused("only-output-dropped", "without an output", options=["--drop-output", "y"]),
    refused("half-of-nothing", "would change nothing that costs time",
            options=["--precision", "fp16"]),
    refused("labels-missing", "no such column", options=["--labels", "truth"]),
]  # fmt: skip

MENDED_GRAPHS = [
    mended("zipmap", "ZipMap made maps",
           "p = Softmax(x) y = ai.onnx.ml.ZipMap<classlabels_int64s = [0, 1, 2, 3]>(p)",
           change=zipmap),
    mended("static-batch", "'x' was declared for 7 rows", ends="(float[7,4] x) => (float[7,4] y)"),
    mended("wrong-output-width", r"declared \[batch, 9\]; it is \[batch, 4\]",
           change=with_output(["N", 9])),
    mended("wrong-output-rank", r"declared \[batch, 4, 4\]; it is \[batch, 4\]",
           change=with_output(["N", 4, 4])),
    mended("label-of-one", "'y' was declared for 1 rows",
           "y = ArgMax<axis = 1, keepdims = 0>(x)", ends="(float[N,4] x) => (int64[1] y)"),
    mended("numbered-output", "tensor '23' is named 'output_23'", change=named("y", "23")),
    mended("numbered-slot", "tensor 'Identity:0' is named 'Identity'",
           change=named("y", "Identity:0")),
    mended("line-feed-in-name", "is named 'a_b_c'", change=named("y", 'a\nb"c')),
    mended("path-as-name", r"tensor '../../y' is named '.._.._y'", change=named("y", "../../y")),
    mended("foreign-letters", "is named 'pr_fung'", change=named("y", "prüfung")),
    mended("endless-name", "is named 'aaaa", change=named("y", "a" * 5000)),
    mended("name-of-dots", "is named 'output'", change=named("y", "..")),
    mended("doubled-opset", "opset imports of one domain", change=doubled_opset),
    mended("stack-traces", "notes of the exporter", change=noted),
    mended("constants-as-inputs", "1 inputs are constants", "y = Add(x, c)", "float c = {1}",
           change=constants_as_inputs),
    mended("stale-inner-shapes", "published", "h = Relu(x) s = Shape(h) y = Reshape(h, s)",
           change=stale_inner_shapes),
    mended("newer-opset-and-ir", "opset 26 is lowered to 22.*\n.*IR version 13 is lowered to 10",
           change=of_version(26, 13)),
    mended("newer-opset-for-newer-triton", "published", change=of_version(26, 13),
           options=["--triton", "26.07"]),
    mended("newer-ml-domain", "published", change=lambda model: of_ml(model, 6)),
    mended("training-information", "published", change=trained),
    mended("local-function", "1 local functions are inlined", change=with_function),
    mended("no-main-opset", "published",
           "y = ai.onnx.ml.Scaler<offset = [0.0, 0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0, 1.0]>(x)",
           change=without_main_opset),
    mended("unwanted-output", "published", "y = Relu(x) z = Neg(x)",
           ends="(float[N,4] x) => (float[N,4] y, float[N,4] z)", options=["--drop-output", "z"]),
    mended("input-handed-through", "published", "y = Relu(x)",
           ends="(float[N,4] x) => (float[N,4] y, float[N,4] x)"),
]  # fmt: skip


def of_ml(model: onnx.ModelProto, version: int) -> None:
    model.opset_import[1].version = version
