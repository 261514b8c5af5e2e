"""The TensorRT kit with a trtexec that knows no more options than the real one of that major."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.contract import InputTensor, OutputTensor, datatype
from tritonbulk.errors import InputError, ModelError, OptionError, OutputError
from tritonbulk_export import export_onnx
from tritonbulk_export.config import from_text
from tritonbulk_export.lint import errors_of, lint_repository
from tritonbulk_export.tensorrt.commands import (
    Build,
    Profile,
    build_command,
    gate_command,
    stale_command,
)
from tritonbulk_export.tensorrt.flags import FLAGS, REMOVED, check_flags
from tritonbulk_export.tensorrt.kit import write_kit
from tritonbulk_export.tensorrt.plans import publish_plans

FP32 = datatype("FP32")
INPUTS = (InputTensor("x", FP32, (16,)), InputTensor("mask", datatype("INT64"), (-1,)))
OUTPUTS = (OutputTensor("y", FP32, (1,)),)
SHAPES = {"x": (64, 16), "mask": (64, 8), "y": (64, 1)}
TAGS = {10: "26.05", 11: "26.07"}

FAKE_TRTEXEC = """#!{python}
import json, os, re, struct, sys
known = set({known!r})
sys.stdout.write("&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # trtexec\\n")
given = dict(a.removeprefix("--").partition("=")[::2] for a in sys.argv[1:])
if "help" in given:
    sys.exit(0)
with open(os.environ["TRTEXEC_LOG"], "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
unknown = set(given) - known
if unknown or not all(a.startswith("--") for a in sys.argv[1:]):
    sys.exit("unknown option " + ", ".join(unknown))
if "saveEngine" in given:
    assert os.path.exists(given["onnx"])
    open(given["saveEngine"], "wb").write(b"plan of " + open(given["onnx"], "rb").read())
    open(given["timingCacheFile"], "ab").write(b"timed")
    sys.exit(int(os.environ.get("FAIL_BUILD", "0")))
assert open(given["loadEngine"], "rb").read().startswith(b"plan of")
if "getPlanVersionOnly" in given:
    sys.exit(int(os.environ.get("STALE", "0")))
for pair in given["loadInputs"].split(","):
    assert os.path.getsize(pair.partition(":")[2])
if "loadRefOutputs" in given:
    assert os.path.getsize(given["loadRefOutputs"].partition(":")[2])
    assert float(given["accuracyThreshold"]) > 0
    sys.exit(int(os.environ.get("WRONG", "0")))
folder = os.path.dirname(given["loadInputs"].partition(":")[2])
data = open(os.path.join(folder, "output_0.bin"), "rb").read()
values = [v + 7.0 * int(os.environ.get("WRONG", "0")) for (v,) in struct.iter_unpack("<f", data)]
json.dump([{{"name": "y", "dimensions": "x", "values": values}}], open(given["exportOutput"], "w"))
"""
VERSIONS = {10: ("101303", "10.13.3"), 11: ("110100", "11.1.0")}


def build(major, **options):
    profiles = options.pop("profiles", (Profile(1, 64, 256),))
    return Build(major, profiles, {"mask": (4, 8, 16)}, **options)


def test_the_build_of_tensorrt_11_has_no_precision_flag_and_saves_without_inference():
    assert build_command(build(11), INPUTS) == [
        "--onnx={onnx}",
        "--saveEngine={plan}",
        "--skipInference",
        "--minShapes=x:1x16,mask:1x4",
        "--optShapes=x:64x16,mask:64x8",
        "--maxShapes=x:256x16,mask:256x16",
        "--memPoolSize=workspace:4096",
        "--timingCacheFile={cache}",
        "--builderOptimizationLevel=3",
    ]


def test_the_build_of_tensorrt_10_is_strongly_typed_and_several_profiles_are_numbered():
    profiles = (Profile(1, 1, 8), Profile(1, 64, 256))
    command = build_command(build(10, profiles=profiles, portability="same"), INPUTS[:1])
    assert command == [
        "--onnx={onnx}",
        "--saveEngine={plan}",
        "--skipInference",
        "--profile=0",
        "--minShapes=x:1x16",
        "--optShapes=x:1x16",
        "--maxShapes=x:8x16",
        "--profile=1",
        "--minShapes=x:1x16",
        "--optShapes=x:64x16",
        "--maxShapes=x:256x16",
        "--memPoolSize=workspace:4096",
        "--timingCacheFile={cache}",
        "--builderOptimizationLevel=3",
        "--stronglyTyped",
        "--hardwareCompatibilityLevel=sameComputeCapability",
    ]


def test_the_gate_of_11_compares_by_itself_and_that_of_10_writes_answers():
    common = [
        "--loadEngine={plan}",
        "--shapes=x:64x16,mask:64x8",
        "--loadInputs=x:{golden}/input_0.bin,mask:{golden}/input_1.bin",
    ]
    assert gate_command(build(11), INPUTS, OUTPUTS, SHAPES) == [
        *common,
        "--loadRefOutputs=y:{golden}/output_0.bin",
        "--accuracyAlgorithm=l0",
        "--atol=0.01",
        "--rtol=0.01",
        "--accuracyThreshold=0.001",
    ]
    assert gate_command(build(10), INPUTS, OUTPUTS, SHAPES) == [
        *common,
        "--exportOutput={answers}",
        "--iterations=1",
        "--warmUp=0",
        "--duration=0",
    ]


@pytest.mark.parametrize("major", FLAGS)
def test_no_command_has_an_option_that_its_trtexec_does_not_know(major):
    commands = [
        build_command(build(major, portability="ampere+"), INPUTS),
        gate_command(build(major), INPUTS, OUTPUTS, SHAPES),
        stale_command(build(major)),
    ]
    for argument in (argument for command in commands for argument in command):
        name = argument.removeprefix("--").partition("=")[0]
        assert name in FLAGS[major]
        assert name not in REMOVED
    for name in REMOVED:
        with pytest.raises(OptionError):
            check_flags([f"--{name}"], major)
    assert "stronglyTyped" not in FLAGS[11]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Profile(2, 1, 8), "must grow"),
        (lambda: Profile(0, 1, 8), "must grow"),
        (lambda: Build(9, (Profile(1, 1, 1),), {}), "unknown"),
        (lambda: Build(11, (), {}), "1 to 8"),
        (lambda: build(11, wrong_share=0.0), "above 0"),
        (lambda: build_command(Build(11, (Profile(1, 1, 1),), {}), INPUTS), "--open-size mask"),
    ],
)
def test_builds_that_have_no_meaning_are_refused(make, words):
    with pytest.raises(OptionError, match=words):
        make()


def scorer(domain=""):
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1]),
    ]
    weights = [numpy_helper.from_array(np.ones((4, 1), np.float32), "w")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    opsets = [helper.make_opsetid("", 20)]
    if domain:
        nodes[0] = helper.make_node(
            "Scaler", ["x"], ["s"], domain=domain, scale=[0.1], offset=[0.0]
        )
        nodes.insert(1, helper.make_node("MatMul", ["s", "w"], ["h"]))
        opsets.append(helper.make_opsetid(domain, 3))
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def published(folder, model):
    onnx.save(model, str(folder / "m.onnx"))
    columns = {f"f{n}": np.linspace(n, n + 1, 40, dtype=np.float32) for n in range(4)}
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    export_onnx(
        folder / "m.onnx", name="m", sample=folder / "rows.parquet", repository=folder / "r",
        input_map=["x=f*"], max_batch_size=64,
    )  # fmt: skip


class Node:
    """A GPU node as the script sees it: trtexec and nvidia-smi, both of ours."""

    def __init__(self, folder, major):
        self.folder, self.log = folder, folder / "log"
        self.capability = "9.0"
        self.write(major)

    def write(self, major):
        known = sorted(FLAGS[major])
        text = FAKE_TRTEXEC.format(python=sys.executable, known=known, version=VERSIONS[major][0])
        self.program("trtexec", text)

    def program(self, name, text):
        (self.folder / "bin").mkdir(exist_ok=True)
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def build(self, kit, **variables):
        self.program("nvidia-smi", f"#!/bin/sh\necho '{self.capability}, NVIDIA H100'\n")
        self.log.write_text("")
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "TRTEXEC_LOG": str(self.log),
            **variables,
        }
        return subprocess.run(
            [sys.executable, "-I", str(kit / "build_plan.py"), str(kit)], env=environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def ran(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(params=sorted(FLAGS))
def major(request):
    return request.param


@pytest.fixture
def node(tmp_path, major):
    return Node(tmp_path, major)


@pytest.fixture
def kit(tmp_path, major):
    published(tmp_path, scorer())
    kit = write_kit("m", tmp_path / "kit", triton=TAGS[major], repository=tmp_path / "r")
    assert kit.tensorrt_major == major
    return kit.folder


def test_a_plan_is_built_judged_and_stamped_and_not_built_again(kit, node, major):
    done = node.build(kit)
    assert done.returncode == 0, done.stderr
    plan = kit / "plans" / "sm90" / "model.plan"
    assert done.stdout.strip() == str(plan)
    assert plan.read_bytes().startswith(b"plan of")
    stamp = json.loads((plan.parent / "plan.json").read_text())
    assert (stamp["tensorrt"], stamp["compute_capability"]) == (VERSIONS[major][1], "9.0")
    assert [len(node.ran()), "--skipInference" in node.ran()[0]] == [2, True]
    (cache,) = (kit / "cache").iterdir()
    assert cache.name == f"trt{VERSIONS[major][1]}-sm9.0.timing"
    assert not re.search(
        r"[{}]", json.dumps([each for command in node.ran() for each in command])[1:-1]
    )
    again = node.build(kit)
    assert again.returncode == 0
    assert [["--getPlanVersionOnly" in command for command in node.ran()]] == [[True]]


def test_a_plan_that_is_stale_damaged_or_of_other_options_is_built_again(kit, node):
    node.build(kit)
    assert node.build(kit, STALE="1").returncode == 0
    assert len(node.ran()) == 3
    (kit / "plans" / "sm90" / "model.plan").write_bytes(b"plan of damage")
    node.build(kit)
    assert len(node.ran()) == 2


def test_a_plan_that_answers_wrongly_or_was_not_built_is_not_kept(kit, node, tmp_path):
    for fault in ("WRONG", "FAIL_BUILD"):
        done = node.build(kit, **{fault: "1"})
        assert done.returncode == 1
        assert "error: " in done.stderr
        assert not (kit / "plans" / "sm90" / "plan.json").exists()
        with pytest.raises(InputError, match="no plan that was judged"):
            publish_plans(kit, repository=tmp_path / "r")


def test_another_tensorrt_or_a_changed_model_is_wrong_use(kit, node, major):
    node.write(21 - major)
    assert node.build(kit).returncode == 2
    node.write(major)
    (kit / "model" / "model.onnx").write_bytes(b"other")
    done = node.build(kit)
    assert done.returncode == 2
    assert "make the kit again" in done.stderr


def test_plans_of_two_gpus_become_one_entry_beside_the_onnx_one(kit, node, tmp_path):
    node.build(kit)
    first = publish_plans(kit, repository=tmp_path / "r")
    assert first.compute_capabilities == ("9.0",)
    node.capability = "8.0"
    node.build(kit)
    done = publish_plans(kit, repository=tmp_path / "r")
    assert done.compute_capabilities == ("8.0", "9.0")
    assert done.version > first.version
    assert not publish_plans(kit, repository=tmp_path / "r").published
    config = from_text((done.entry / "config.pbtxt").read_text())
    assert config.backend == "tensorrt"
    assert dict(config.cc_model_filenames) == {"8.0": "model.plan.sm80", "9.0": "model.plan.sm90"}
    assert config.max_batch_size == 64
    (group,) = config.instance_group
    assert (group.kind, list(group.profile)) == (group.KIND_GPU, ["0"])
    assert not errors_of(lint_repository(tmp_path / "r", has_gpu=True))
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"m", "m.trt"}


def test_a_damaged_plan_and_plans_of_two_tensorrts_are_not_published(kit, node, tmp_path):
    node.build(kit)
    plan = kit / "plans" / "sm90" / "model.plan"
    good = plan.read_bytes()
    plan.write_bytes(good + b"x")
    with pytest.raises(InputError, match="damaged"):
        publish_plans(kit, repository=tmp_path / "r")
    plan.write_bytes(good)
    node.capability = "8.0"
    node.build(kit)
    stamp = kit / "plans" / "sm80" / "plan.json"
    stamp.write_text(stamp.read_text().replace('"tensorrt": "1', '"tensorrt": "2'))
    with pytest.raises(ModelError, match="a server has one"):
        publish_plans(kit, repository=tmp_path / "r")


def test_what_tensorrt_cannot_parse_gets_no_kit(tmp_path):
    published(tmp_path, scorer("ai.onnx.ml"))
    with pytest.raises(ModelError, match="serve the ONNX entry"):
        write_kit("m", tmp_path / "kit", triton="26.07", repository=tmp_path / "r")
    assert not (tmp_path / "kit").exists()
    with pytest.raises(OutputError, match="no entry"):
        write_kit("gone", tmp_path / "kit", triton="26.07", repository=tmp_path / "r")
