"""What an embedded server serves, to whom, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from tritonbulk.errors import PlatformError, ServerGoneError, StartError, UsageError
from tritonbulk.server import backends, embedded, environment, flags, ports
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk.server.flags import Ports, ServerOptions
from tritonbulk.server.launch import Launch, launch_server
from tritonbulk.server.repository import has_gpu
from tritonbulk.server.runs import new_run

if TYPE_CHECKING:
    from tests.live.conftest import Traces

pytestmark = pytest.mark.live

GPU_CONFIG = 'backend: "onnxruntime"\ninstance_group { kind: KIND_GPU }\n'


def infer(triton: EmbeddedTriton, model: str) -> Any:
    with triton_grpc.InferenceServerClient(triton.grpc) as client:
        rows = triton_grpc.InferInput("x", [2, 4], "FP32")
        rows.set_data_from_numpy(np.full((2, 4), 3, np.float32))
        return client.infer(model, [rows]).as_numpy("y")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_onnx_and_python_entries_are_served(triton: EmbeddedTriton) -> None:
    assert (infer(triton, "double") == 6).all()
    assert (infer(triton, "halve") == 1.5).all()


def test_http_speaks_where_it_was_asked_for_and_metrics_always(triton: EmbeddedTriton) -> None:
    assert triton.http is not None
    with urlopen(f"http://{triton.http}/v2/health/ready", timeout=10) as answer:
        assert answer.status == 200
    with urlopen(f"http://{triton.metrics}/metrics", timeout=10) as answer:
        assert b"nv_inference_count" in answer.read()


def test_what_changes_the_server_asks_for_the_secret(triton: EmbeddedTriton) -> None:
    secret = dict(triton.admin_headers)
    wrong = dict.fromkeys(secret, "guess")
    with triton_grpc.InferenceServerClient(triton.grpc) as client:
        for call in (
            client.get_model_repository_index,
            client.get_system_shared_memory_status,
            client.get_trace_settings,
            client.get_log_settings,
        ):
            call(headers=secret)
            for headers in (None, wrong):
                with pytest.raises(triton_grpc.InferenceServerException, match="restricted"):
                    call(headers=headers)


def test_what_a_client_needs_is_open(triton: EmbeddedTriton) -> None:
    with triton_grpc.InferenceServerClient(triton.grpc) as client:
        assert client.is_server_ready()
        assert client.is_model_ready("double")
        assert client.get_server_metadata().version == "2.51.0"
        assert client.get_model_config("double").config.backend == "onnxruntime"
        assert client.get_inference_statistics("double").model_stats


def test_the_secret_does_not_stay_on_the_command_line(triton: EmbeddedTriton) -> None:
    (secret,) = triton.admin_headers.values()
    argv = Path(f"/proc/{triton.pid}/cmdline").read_text()
    assert "--grpc-restricted-protocol=" in argv
    assert secret not in argv


def test_a_living_server_passes_the_check(triton: EmbeddedTriton) -> None:
    triton.check()
    assert triton.log_tail(5)


def test_http_is_off_by_default_and_a_killed_stub_is_reported(
    double_repository: Path, traces: Traces
) -> None:
    with EmbeddedTriton(double_repository, stop_deadline_s=0) as triton:
        assert triton.http is None
        triton.check()
        (stub,) = traces.stubs()
        os.kill(stub, signal.SIGKILL)
        assert traces.wait_until(lambda: not traces.stubs(), 5)
        with triton_grpc.InferenceServerClient(triton.grpc) as client:
            assert client.is_model_ready("double"), "Triton does not notice; so we must"
        with pytest.raises(ServerGoneError, match=f"process {stub}"):
            triton.check()


def test_models_come_and_go_under_explicit_control_without_a_false_alarm(
    repository: Path,
) -> None:
    with (
        EmbeddedTriton(
            repository, models=(), model_control="explicit", stop_deadline_s=0
        ) as triton,
        triton_grpc.InferenceServerClient(triton.grpc) as client,
    ):
        headers = dict(triton.admin_headers)
        assert not client.is_model_ready("double")
        client.load_model("double", headers=headers)
        assert (infer(triton, "double") == 6).all()
        client.unload_model("double", headers=headers)
        give_up_at = time.monotonic() + 10
        while not [line for line in triton.log_tail(5) if "successfully unloaded" in line]:
            triton.check()
            assert time.monotonic() < give_up_at
        triton.check()


def test_one_model_of_several_can_be_served(repository: Path) -> None:
    with (
        EmbeddedTriton(repository, models=["halve"], stop_deadline_s=0) as triton,
        triton_grpc.InferenceServerClient(triton.grpc) as client,
    ):
        assert client.is_model_ready("halve")
        assert not client.is_model_ready("double")


def test_overrides_reach_the_server_and_leave_the_repository_as_it_is(
    tmp_path: Path, write_double: Callable[..., Path]
) -> None:
    write_double(tmp_path / "models" / "bare", None)
    write_double(tmp_path / "models" / "gpu", GPU_CONFIG)
    before = files_below(tmp_path)
    with (
        EmbeddedTriton(tmp_path / "models", instances=3, cpu=True, stop_deadline_s=0) as triton,
        triton_grpc.InferenceServerClient(triton.grpc) as client,
    ):
        for name in ("bare", "gpu"):
            (group,) = client.get_model_config(name).config.instance_group
            assert group.count == 3
            assert group.kind == group.KIND_CPU
            assert (infer(triton, name) == 6).all()
    assert files_below(tmp_path) == before


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_a_gpu_entry_without_a_gpu_is_refused_with_the_flag_that_helps(
    tmp_path: Path, write_double: Callable[..., Path]
) -> None:
    write_double(tmp_path / "gpu", GPU_CONFIG)
    with pytest.raises(UsageError, match=r"KIND_GPU.*--cpu"):
        EmbeddedTriton(tmp_path).start()


def test_a_broken_model_gives_tritons_own_cause(
    tmp_path: Path, write_double: Callable[..., Path]
) -> None:
    model = write_double(tmp_path / "m") / "1" / "model.onnx"
    model.write_bytes(b"this is not a model" * 20)
    with pytest.raises(StartError, match="failed to load 'm' version 1") as caught:
        EmbeddedTriton(tmp_path).start()
    assert "INVALID_PROTOBUF" in str(caught.value)
    assert caught.value.log_tail


def test_a_broken_configuration_gives_tritons_own_cause(
    tmp_path: Path, write_double: Callable[..., Path]
) -> None:
    write_double(tmp_path / "m", "max_batch_size: : 4")
    with pytest.raises(
        StartError, match=r"failed to read text proto from .*config.pbtxt"
    ) as caught:
        EmbeddedTriton(tmp_path, instances=2).start()
    assert "Expected integer, got: :" in str(caught.value)


def test_an_import_error_in_a_python_entry_is_named(
    tmp_path: Path, write_python: Callable[..., Path]
) -> None:
    write_python(tmp_path / "m", "import nothing_such")
    with pytest.raises(StartError, match="No module named 'nothing_such'"):
        EmbeddedTriton(tmp_path).start()


def test_a_path_without_a_shell_does_not_make_the_start_hang(
    double_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with EmbeddedTriton(double_repository, start_deadline_s=30, stop_deadline_s=0) as triton:
        assert (infer(triton, "double") == 6).all()


def test_a_given_port_that_stays_taken_is_an_error_and_never_replaced(repository: Path) -> None:
    with socket.create_server((flags.HOST, 0)) as owner:
        port = owner.getsockname()[1]
        with pytest.raises(StartError, match=rf"Port {port} .* still taken after 0.5 s") as caught:
            EmbeddedTriton(repository, grpc_port=port, port_wait_s=0.5).start()
    assert caught.value.exit_code == 3


def test_a_given_port_is_waited_for_while_its_owner_drains(tmp_path: Path) -> None:
    owner = socket.create_server((flags.HOST, 0))
    port = owner.getsockname()[1]
    timer = threading.Timer(1, owner.close)
    timer.start()
    with EmbeddedTriton(tmp_path, models=(), grpc_port=port, stop_deadline_s=0) as triton:
        assert triton.grpc == f"{flags.HOST}:{port}"
    timer.join()


def test_a_free_port_that_is_lost_before_the_server_takes_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((flags.HOST, 0)) as thief:
        lost = thief.getsockname()[1]
        picked: list[int] = []

        def pick(count: int) -> list[int]:
            free = ports.free_ports(count)
            picked.append(free[1])
            return [free[0], lost, *free[2:]] if len(picked) == 1 else free

        monkeypatch.setattr(embedded, "free_ports", pick)
        with EmbeddedTriton(tmp_path, models=(), stop_deadline_s=0) as triton:
            triton.check()
            assert len(picked) == 2
            assert triton.metrics == f"{flags.HOST}:{picked[1]}"


def stub_without_its_library(home: environment.EnvironmentInfo) -> Path:
    """Return a stub for a Python that nobody has any more."""
    return home.tritonserver / "python_backend_stubs" / "3.8" / backends.STUB


def test_a_stub_that_cannot_be_loaded_is_found_before_the_start(tmp_path: Path) -> None:
    with environment.in_use(print) as home:
        variables = backends.server_environment(home, tmp_path)
        with pytest.raises(PlatformError, match=r"cannot load libpython3\.8\.so\.1\.0"):
            backends.preflight(stub_without_its_library(home), variables)


def test_a_stub_that_cannot_be_loaded_never_makes_the_start_hang(
    double_repository: Path, traces: Traces
) -> None:
    started = time.monotonic()
    with environment.in_use(print) as home, new_run() as run:
        backends.make_backends(home, run.folder / "backends")
        stub = run.folder / "backends" / "python" / backends.STUB
        stub.unlink()
        stub.symlink_to(stub_without_its_library(home))
        grpc, metrics = ports.free_ports(2)
        options = ServerOptions(
            binary=home.tritonserver / "bin" / "tritonserver",
            repository=double_repository,
            backends=run.folder / "backends",
            caches=home.tritonserver / "caches",
            prefix=run.prefix,
            secret="secret",
        )
        variables = backends.server_environment(home, run.folder)
        launch = Launch(home.executable, variables, run, threading.Event())
        with pytest.raises(
            StartError, match=r"error while loading shared libraries: libpython3\.8"
        ):
            launch_server(options, launch, iter([Ports(grpc, metrics)]), deadline_s=60)
    assert time.monotonic() - started < 20
    assert not traces.look()


def test_the_asynchronous_twin_serves_and_stops(repository: Path, traces: Traces) -> None:
    async def serve() -> None:
        async with EmbeddedTriton(repository, models=["double"], stop_deadline_s=0) as triton:
            assert (await asyncio.to_thread(infer, triton, "double") == 6).all()

    asyncio.run(serve())
    assert not traces.look()


def test_a_cancelled_start_leaves_nothing(slow_repository: Path, traces: Traces) -> None:
    async def give_up() -> None:
        async with asyncio.timeout(1):
            async with EmbeddedTriton(slow_repository):
                raise AssertionError("this model takes a minute to load")

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert not traces.look()
