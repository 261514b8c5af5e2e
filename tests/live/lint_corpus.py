"""Entries that Triton loads and entries that it does not, for lint to judge beside the server.

Each case is a name and a function that writes entries, of which ``m`` is loaded. Nothing here says
what is right: the server does. (A Python entry without its file is not among them: it hangs the
server.)
"""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IO = """
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
"""
ONE = "instance_group { count: 1 }\n"
BATCHED = f'backend: "onnxruntime" max_batch_size: 8 {ONE}'
FULL = BATCHED + IO
ENSEMBLE_IO = 'platform: "ensemble" max_batch_size: 8' + IO
STEP = """step { model_name: "%s" model_version: -1
  input_map { key: "x" value: "%s" } output_map { key: "y" value: "%s" } }"""
PYTHON = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""
CUSTOM_DOMAIN = [helper.make_opsetid("", 20), helper.make_opsetid("my.ops", 1)]


def model(
    first="n", out=None, op="Add", kind=TensorProto.FLOAT, opset=20, ir=10, **options
) -> onnx.ModelProto:
    """Return a model that doubles [first, 4]."""
    x = helper.make_tensor_value_info("x", kind, [first, 4])
    y = helper.make_tensor_value_info("y", kind, [first, 4] if out is None else out)
    node = helper.make_node(op, ["x", "x"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y], **options)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def bf16_model(computed: str) -> onnx.ModelProto:
    """Return a model that casts to BF16 and back, and doubles ``h``, BF16, or ``b``, FP32."""
    graph = model()
    double = helper.make_node("Add", [computed, computed], ["d"])
    casts = [("x", "h", 16), ("h", "b", 1), ("d", "y", 1)]
    first, back, last = (helper.make_node("Cast", [a], [b], to=to) for a, b, to in casts)
    del graph.graph.node[:]
    graph.graph.node.extend([first, back, double, last])
    return graph


def scalar_model() -> onnx.ModelProto:
    """Return a model that sums each row of [n, 4] to one scalar a row."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    axes = numpy_helper.from_array(np.array([1]), "axes")
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    graph = helper.make_graph([node], "g", [x], [y], [axes])
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def zipmap_model() -> onnx.ModelProto:
    """Return a model whose output is a sequence of maps."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    z = onnx.ValueInfoProto(name="z")
    map_type = z.type.sequence_type.elem_type.map_type
    map_type.key_type = TensorProto.INT64
    map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    node = helper.make_node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    graph = helper.make_graph([node], "g", [x], [z])
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def external_model(location: str, length: int = 16) -> onnx.ModelProto:
    """Return a model that adds four weights, which are in another file."""
    plain = model()
    weights = numpy_helper.from_array(np.ones(4, np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        weights.external_data.add(key=key, value=value)
    plain.graph.initializer.append(weights)
    plain.graph.node[0].input[1] = "w"
    return plain


def entry(folder: Path, config: str | None, onnx_model: onnx.ModelProto | bytes | None = None,
          version: str = "1", file: str = "model.onnx") -> Path:  # fmt: skip
    """Write an entry; the model that doubles where none is given."""
    (folder / version).mkdir(parents=True)
    data = model() if onnx_model is None else onnx_model
    data = data if isinstance(data, bytes) else data.SerializeToString()
    (folder / version / file).write_bytes(data)
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    return folder


def _configured(config: str | None, onnx_model=None, **options) -> Callable[[Path], None]:
    return lambda root: (entry(root / "m", config, onnx_model, **options), None)[1]


def _labels(root: Path, *, there: bool) -> None:
    text = FULL.replace('output { name: "y"', 'output { name: "y" label_filename: "labels.txt"')
    folder = entry(root / "m", text)
    if there:
        (folder / "labels.txt").write_text("a\nb\nc\nd\n")


def _warm_up(root: Path, rows: int = 8, dims: str = "4", file: bytes | None = b"\0" * 128,
             name: str = "x", kind: str = "TYPE_FP32", more: str = "") -> None:  # fmt: skip
    text = FULL + (
        f'model_warmup {{ name: "w" batch_size: {rows} inputs {{ key: "{name}" value {{ '
        f'data_type: {kind} dims: {dims} input_data_file: "x.bin" }} }} {more} }}'
    )
    folder = entry(root / "m", text)
    (folder / "warmup").mkdir()
    if file is not None:
        (folder / "warmup" / "x.bin").write_bytes(file)


def _external(root: Path, location: str, length: int = 16, name: str = "w.bin") -> None:
    folder = entry(root / "m", FULL, external_model(location, length))
    (folder / "1" / name).write_bytes(np.ones(4, np.float32).tobytes())
    (folder / "outside.bin").write_bytes(np.ones(4, np.float32).tobytes())


def _folder_model(root: Path) -> None:
    folder = entry(root / "m", FULL, external_model("w.bin"), version="1/model.onnx")
    (folder / "1/model.onnx/w.bin").write_bytes(np.ones(4, np.float32).tobytes())


def _link(root: Path) -> None:
    folder = entry(root / "m", FULL)
    path = folder / "1" / "model.onnx"
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "config.pbtxt").write_text("")
    path.rename(root / "elsewhere" / "real.onnx")
    path.symlink_to(root / "elsewhere" / "real.onnx")


def _ensemble(root: Path, scheduling: str, config: str = ENSEMBLE_IO, **inner: str) -> None:
    entry(root / "a", inner.get("a", FULL))
    entry(root / "b", inner.get("b", FULL))
    (root / "m" / "1").mkdir(parents=True)
    text = f"{config} ensemble_scheduling {{ {scheduling} }}"
    (root / "m" / "config.pbtxt").write_text(text)


def _ensembled(scheduling: str, config: str = ENSEMBLE_IO, **inner: str) -> Callable[[Path], None]:
    return lambda root: _ensemble(root, scheduling, config, **inner)


def _bare(folder: Path, config: str, *folders: str) -> None:
    folder.mkdir()
    for name in folders:
        (folder / name).mkdir()
    (folder / "config.pbtxt").write_text(config)


def _versions(config: str, *names: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for name in names:
            entry(root / "m", config, version=name)

    return write


def _python(config: str, file: str = "model.py") -> Callable[[Path], None]:
    return _configured(config, PYTHON.encode(), file=file)


_CHAIN = STEP % ("a", "x", "t") + STEP % ("b", "t", "y")
_GPU = "optimization { execution_accelerators { gpu_execution_accelerator { %s } } }"
_SEQUENCE = """sequence_batching { control_input { name: "s" control { kind: %s %s } } }"""

CASES: dict[str, Callable[[Path], None]] = {
    # what loads
    "full configuration": _configured(FULL),
    "no configuration": _configured(None),
    "empty configuration": _configured(""),
    "platform alone": _configured('platform: "onnxruntime_onnx"'),
    "no tensors": _configured(BATCHED),
    "no batching": _configured(
        'backend: "onnxruntime"'
        'input { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] }'
        'output { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] }'
    ),
    "BF16 that is held": _configured(FULL, bf16_model("b")),
    "BF16 that is computed with": _configured(FULL, bf16_model("h")),
    "batching and priorities": _configured(
        FULL + "dynamic_batching { priority_levels: 2 default_priority_level: 2 }"
    ),
    "queue policy": _configured(
        FULL + "dynamic_batching { default_queue_policy { max_queue_size: 8 } }"
    ),
    "narrower input": _configured(
        FULL, model(out=["n", 4]), file="model.onnx"
    ),
    "scalar a row": _configured(
        BATCHED + 'input { name: "x" data_type: TYPE_FP32 dims: 4 }'
        'output { name: "y" data_type: TYPE_FP32 dims: 1 reshape { shape: [ ] } }',
        scalar_model(),
    ),
    "scalar a row filled in": _configured(BATCHED, scalar_model()),
    "count of no instances": _configured(FULL.replace("count: 1", "count: 0")),
    "negative count": _configured(FULL.replace("count: 1", "count: -3")),
    "labels": lambda root: _labels(root, there=True),
    "warm-up": _warm_up,
    "warm-up of one row, repeated": lambda root: _warm_up(root, file=bytes(16)),
    "model in a folder": _folder_model,
    "model is a link": _link,
    "other version wanted too": _versions(FULL + "version_policy { specific { versions: [1, 7] } }", "1"),
    "left-over version unserved": _versions(
        FULL + "version_policy { specific { versions: 1 } }", "1", "2.tmp"
    ),
    "leading zero beside": _versions(FULL, "1", "007"),
    "first folder is no version": _versions("", "1", "007"),
    "18 digits": _versions(FULL, "202611220123456789"),
    "ensemble": _ensembled(_CHAIN),
    "python": _python(f'backend: "python" max_batch_size: 8 {ONE}' + IO),
    "accelerator for GPUs": _configured(FULL + _GPU % 'name: "cuda"'),
    "thread parameters": _configured(
        FULL + 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }'
    ),
    "sequences": _configured(
        f'backend: "python" max_batch_size: 8 {ONE}' + IO
        + _SEQUENCE % ("CONTROL_SEQUENCE_START", "fp32_false_true: [ 0, 1 ]"),
        PYTHON.encode(), file="model.py",
    ),
    # what does not
    "broken text": _configured("max_batch_size: what"),
    "unknown field": _configured(FULL + "max_batchsize: 8"),
    "two schedulers": _configured(FULL + "dynamic_batching { } sequence_batching { }"),
    "another name": _configured(FULL + 'name: "other"'),
    "nothing at all": lambda root: (root / "m" / "1").mkdir(parents=True),
    "no version": lambda root: _bare(root / "m", FULL),
    "only a leading zero": _versions(FULL, "01"),
    "left-over is the newest": _versions(FULL, "1", "2.tmp"),
    "no version of the policy": _versions(FULL + "version_policy { specific { versions: 7 } }", "1"),
    "latest none": _versions(FULL + "version_policy { latest { num_versions: 0 } }", "1"),
    "unknown backend": _configured('max_batch_size: 8 platform: "nonsense"' + IO),
    "file of another name": _configured(FULL, file="other.onnx"),
    "named file missing": _configured(FULL + 'default_model_filename: "other.onnx"'),
    "python without tensors": _python(f'backend: "python" max_batch_size: 8 {ONE}'),
    "platform and backend": _configured(FULL + 'platform: "tensorrt_plan"'),
    "negative batch": _configured(FULL.replace("max_batch_size: 8", "max_batch_size: -1")),
    "preferred too large": _configured(FULL + "dynamic_batching { preferred_batch_size: 9 }"),
    "preferred none": _configured(FULL + "dynamic_batching { preferred_batch_size: 0 }"),
    "priority without default": _configured(FULL + "dynamic_batching { priority_levels: 2 }"),
    "priority out of range": _configured(
        FULL + "dynamic_batching { priority_levels: 2 default_priority_level: 3 }"
    ),
    "policy of no level": _configured(
        FULL + "dynamic_batching { priority_levels: 1 default_priority_level: 1 "
        "priority_queue_policy { key: 2 value { max_queue_size: 1 } } }"
    ),
    "order across priorities": _configured(
        FULL + "dynamic_batching { priority_levels: 2 default_priority_level: 1 preserve_ordering: true }"
    ),
    "order and delay": _configured(
        FULL + "dynamic_batching { preserve_ordering: true default_queue_policy { "
        "default_timeout_microseconds: 5 timeout_action: DELAY } }"
    ),
    "GPUs of a CPU instance": _configured(FULL.replace("count: 1", "count: 1 kind: KIND_CPU gpus: 0")),
    "GPU instance": _configured(FULL.replace("count: 1", "count: 1 kind: KIND_GPU")),
    "profile": _configured(FULL.replace("count: 1", 'count: 1 profile: "0"')),
    "cached sequences": _configured(
        f'backend: "python" max_batch_size: 8 {ONE}' + IO + "sequence_batching { } response_cache { enable: true }",
        PYTHON.encode(), file="model.py",
    ),
    "sequence control twice": _configured(
        f'backend: "python" max_batch_size: 8 {ONE}' + IO
        + 'sequence_batching { control_input { name: "s" control { kind: CONTROL_SEQUENCE_START } } }',
        PYTHON.encode(), file="model.py",
    ),
    "unnamed tensor": _configured(FULL + "input { data_type: TYPE_FP32 dims: 4 }"),
    "no datatype": _configured(FULL.replace('name: "x" data_type: TYPE_FP32', 'name: "x"')),
    "no dimensions": _configured(FULL.replace('data_type: TYPE_FP32 dims: 4 }\noutput', "data_type: TYPE_FP32 }\noutput")),
    "dimension 0": _configured(FULL.replace("dims: 4 }\noutput", "dims: 0 }\noutput")),
    "reshape to another size": _configured(FULL.replace("dims: 4 }\noutput", "dims: 4 reshape { shape: 5 } }\noutput")),
    "empty reshape without batching": _configured(
        'backend: "onnxruntime"'
        'input { name: "x" data_type: TYPE_FP32 dims: 1 reshape { } }'
        'output { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] }'
    ),
    "image format": _configured(FULL.replace("dims: 4 }\noutput", "dims: 4 format: FORMAT_NHWC }\noutput")),
    "shape tensor": _configured(FULL.replace("dims: 4 }\noutput", "dims: 4 is_shape_tensor: true }\noutput")),
    "tensor twice": _configured(FULL + 'input { name: "x" data_type: TYPE_FP32 dims: 4 }'),
    "labels missing": lambda root: _labels(root, there=False),
    "batch input of nothing": _configured(
        FULL + 'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_FP32 source_input: "z" }'
    ),
    "no graph": _configured(FULL, b"not a model"),
    "opset too new": _configured(FULL, model(opset=29, ir=10)),
    "IR too new": _configured(FULL, model(ir=15)),
    "unknown operator": _configured(FULL, model(op="Nonsense")),
    "static batch": _configured(FULL, model(first=2)),
    "static batch filled in": _configured(BATCHED, model(first=2)),
    "static output alone": _configured(BATCHED, model(out=[1, 4])),
    "other input": _configured(FULL.replace('name: "x"', 'name: "z"')),
    "other output": _configured(FULL.replace('name: "y"', 'name: "z"')),
    "other datatype": _configured(FULL, model(kind=TensorProto.DOUBLE)),
    "other width": _configured(FULL.replace("dims: 4 }\noutput", "dims: 5 }\noutput")),
    "open output": _configured(FULL.replace('TYPE_FP32 dims: 4 }\n"""', "")[:-4] + "-1 }\n"),
    "batch counted twice": _configured(FULL.replace("dims: 4", "dims: [ -1, 4 ]")),
    "one input too many": _configured(FULL + 'input { name: "z" data_type: TYPE_FP32 dims: 4 }'),
    "ZipMap": _configured(BATCHED, zipmap_model()),
    "BF16": _configured(BATCHED, model(kind=TensorProto.BFLOAT16)),
    "data missing": lambda root: _external(root, "gone.bin"),
    "data outside": lambda root: _external(root, "../outside.bin"),
    "data absolute": lambda root: _external(root, str(root / "m" / "outside.bin")),
    "data too short": lambda root: _external(root, "w.bin", name="short.bin"),
    "unknown accelerator": _configured(FULL + _GPU % 'name: "warp"'),
    "execution mode": _configured(
        FULL + 'parameters { key: "execution_mode" value { string_value: "7" } }'
    ),
    "thread count in words": _configured(
        FULL + 'parameters { key: "intra_op_thread_count" value { string_value: "two" } }'
    ),
    "optional input": _configured(FULL.replace("dims: 4 }\noutput", "dims: 4 optional: true }\noutput")),
    "library missing": _configured(FULL + 'model_operations { op_library_filename: "gone.so" }'),
    "warm-up too large": lambda root: _warm_up(root, rows=9),
    "warm-up of another input": lambda root: _warm_up(root, name="z"),
    "warm-up without data": lambda root: _warm_up(root, file=None),
    "warm-up too short": lambda root: _warm_up(root, file=b"\0" * 8),
    "warm-up of another width": lambda root: _warm_up(root, dims="5", file=b"\0" * 160),
    "warm-up of another type": lambda root: _warm_up(root, kind="TYPE_INT64", file=b"\0" * 256),
    "ensemble without steps": _ensembled(""),
    "ensemble on instances": _ensembled(_CHAIN, ENSEMBLE_IO + ONE),
    "ensemble with a backend": _ensembled(_CHAIN, ENSEMBLE_IO + 'backend: "onnxruntime"'),
    "ensemble without scheduling": lambda root: _bare(root / "m", ENSEMBLE_IO, "1"),
    "step of no model": _ensembled(STEP % ("gone", "x", "y")),
    "output not written": _ensembled(STEP % ("a", "x", "t")),
    "tensor not used": _ensembled(_CHAIN + STEP % ("a", "x", "u")),
    "tensor never written": _ensembled(STEP % ("a", "t", "y")),
    "tensor written twice": _ensembled(_CHAIN + STEP % ("a", "x", "y")),
    "input of no step": _ensembled((STEP % ("a", "x", "y")).replace('key: "x"', 'key: "z"')),
    "output of no step": _ensembled((STEP % ("a", "x", "y")).replace('key: "y"', 'key: "z"')),
    "step takes less": _ensembled(_CHAIN, a=FULL.replace("max_batch_size: 8", "max_batch_size: 4")),
    "ensemble of another type": _ensembled(_CHAIN, ENSEMBLE_IO.replace("FP32", "INT32")),
    "ensemble of another width": _ensembled(_CHAIN, ENSEMBLE_IO.replace("dims: 4", "dims: 5")),
    "step does not load": _ensembled(_CHAIN, b=FULL.replace("dims: 4", "dims: 5")),
    "step of a missing version": _ensembled(_CHAIN.replace("model_version: -1", "model_version: 9")),
    "ensemble of itself": _ensembled(STEP % ("m", "x", "y")),
}  # fmt: skip
"""Folders of a repository by what they are about; the entry to load is always ``m``."""
