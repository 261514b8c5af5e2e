"""What the doctor finds, each with its fix."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from tritonbulk.cli.doctor import command
from tritonbulk.doctor import examine, machine
from tritonbulk.doctor.finding import Finding, worst
from tritonbulk.doctor.model import judge_model
from tritonbulk.errors import OptionError
from tritonbulk.job.protocol import Put
from tritonbulk.job.stores import object as object_store


def found(*given, **more):
    return {each.check: each for each in asyncio.run(examine(*given, **more))}


def judged(text, instances=1):
    settings = text_format.Parse(text, model_config_pb2.ModelConfig())
    return {each.check: each for each in judge_model("a", settings, instances)}


def test_a_dead_address_is_a_problem_with_its_fix():
    result = CliRunner().invoke(
        command, ["--endpoint", "127.0.0.1:1", "--model", "m", "--json"], standalone_mode=False
    )
    assert result.return_value == 3
    told = json.loads(result.stdout)
    assert told["verdict"] == "problem"
    (problem,) = [each for each in told["findings"] if each["level"] == "problem"]
    assert (problem["check"], problem["about"]) == ("endpoint", "127.0.0.1:1")
    assert "gRPC port" in problem["fix"]


def test_a_name_that_is_not_resolved_is_a_problem():
    assert found(("dns:///no.such.invalid:8001",))["endpoint"].level == "problem"


def test_a_model_without_a_server_is_wrong_use():
    result = CliRunner().invoke(command, ["--model", "m"], standalone_mode=False)
    assert isinstance(result.exception, OptionError)


@pytest.mark.parametrize(
    ("text", "check", "level", "word"),
    [
        ("max_batch_size: 8 dynamic_batching { }", "batching", "ok", "up to 8 rows"),
        ("max_batch_size: 8 dynamic_batching { }", "queue", "ok", "no bound"),
        ("max_batch_size: 8", "batching", "warning", "no dynamic batching"),
        ("max_batch_size: 0", "batching", "warning", "not batched"),
        ("max_batch_size: 8 ensemble_scheduling { }", "batching", "ok", "ensemble"),
        (
            "max_batch_size: 8 dynamic_batching { default_queue_policy { max_queue_size: 16 } }",
            "queue", "warning", "at most 16 requests",
        ),
        (
            "max_batch_size: 8 dynamic_batching { priority_levels: 2 }",
            "queue", "warning", "without a bound",
        ),
    ],
)  # fmt: skip
def test_a_configuration_is_judged(text, check, level, word):
    one = judged(text)[check]
    assert (one.level, word in one.text) == (level, True)
    assert one.fix or level == "ok"


def test_a_configuration_that_is_not_told_is_unknown():
    assert [each.level for each in judge_model("a", None, 0)] == ["unknown"]


@pytest.mark.live
def test_a_real_server_and_a_model_that_batches(triton, tmp_path):
    told = found((triton.grpc,), "varying", out=str(tmp_path / "out"))
    levels = {name: each.level for name, each in told.items()}
    assert levels == dict.fromkeys(
        ["memory", "packages", "endpoint", "version", "model", "batching", "queue", "instances",
         "channel", "create", "clock", "disk"], "ok"
    )  # fmt: skip
    assert "the embedded one" in told["version"].text
    assert not list(tmp_path.iterdir())


@pytest.mark.live
def test_a_real_server_without_batching_or_model(triton):
    told = found((triton.grpc,), "halve")
    assert "no dynamic batching" in told["batching"].text
    assert worst(told.values()) == "warning"
    told = found((triton.grpc,), "none")
    assert told["model"].level == "problem"
    assert "no model none" in told["model"].text


class Narrow(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server behind gRPC's own limit of 4 MiB, as proxies have it."""

    def ServerLive(self, request, context):  # noqa: N802
        return service_pb2.ServerLiveResponse(live=True)


def test_a_limit_on_the_way_is_found():
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Narrow(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        told = found((f"127.0.0.1:{port}",))
    finally:
        server.stop(None)
    assert told["version"].level == "unknown"
    assert told["channel"].level == "problem"
    assert "RESOURCE_EXHAUSTED" in told["channel"].text


def test_an_object_store_is_looked_at_and_left_as_it_was(bucket, monkeypatch):
    told = found(out=f"{bucket}/scored")
    assert (told["create"].level, told["clock"].level) == ("ok", "ok")
    assert object_store.ObjectStore(f"{bucket}/scored").names("_tritonbulk") == []
    now = object_store.time.time
    monkeypatch.setattr(object_store.time, "time", lambda: now() + 1_000)
    told = found(out=f"{bucket}/scored")
    assert told["clock"].level == "warning"
    assert "s behind this machine's" in told["clock"].text


def test_a_store_that_replaces_is_a_problem(bucket, monkeypatch):
    monkeypatch.setattr(object_store.ObjectStore, "create", lambda *_: Put.CREATED)
    told = found(out=f"{bucket}/scored?secret=1")
    assert told["create"].level == "problem"
    assert "--single-writer" in told["create"].fix
    assert "secret=1" not in str(told)


def test_a_full_disk_and_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("tritonbulk.doctor.output.DISK_BYTES_MIN", 2**70)
    assert found(out=str(tmp_path))["disk"].level == "warning"
    (tmp_path / "file").write_text("")
    assert found(out=str(tmp_path / "file"))["create"].level == "problem"


def test_two_onnxruntimes_are_a_problem(monkeypatch):
    class Named:
        def __init__(self, name):
            self.metadata = {"Name": name}

    monkeypatch.setattr(
        machine, "distributions", lambda: map(Named, ["numpy", "onnxruntime", "onnxruntime_gpu"])
    )
    told = found()["packages"]
    assert told.level == "problem"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in told.fix


def test_little_memory_is_told_of_by_the_group_that_has_it(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(f"{300 * 2**20}\n")
    (tmp_path / "memory.current").write_text(f"{200 * 2**20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {50 * 2**20}\n")
    monkeypatch.setattr(machine, "_GROUPS", ((tmp_path, "memory.max", "memory.current"),))
    assert machine.free_memory_bytes() == 150 * 2**20
    assert found()["memory"].level == "warning"


def test_the_worst_counts():
    levels = ("ok", "warning", "unknown")
    assert worst(Finding("a", level, "", "") for level in levels) == "warning"
    assert worst([]) == "ok"
