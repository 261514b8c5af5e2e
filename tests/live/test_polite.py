"""Politeness against the real server: priorities decide who is served first, queues who yields."""

import asyncio
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.grpc as triton_grpc

from tests.conftest import write_python_entry
from tritonbulk.errors import OptionError
from tritonbulk.events import RequestEnded
from tritonbulk.options import ScoreOptions
from tritonbulk.polite import parse_yield_to
from tritonbulk.running import Observer
from tritonbulk.scoring import run_score
from tritonbulk.server.embedded import EmbeddedTriton

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

SLOW = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.02)
        tensors = [pb_utils.get_input_tensor_by_name(each, "x") for each in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", t.as_numpy())]) for t in tensors]
"""
CONFIG = """
backend: "python"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { count: 1 kind: KIND_CPU }
"""
LEVELS = """
dynamic_batching { priority_levels: 2 default_priority_level: 1 }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("polite")
    write_python_entry(folder / "plain", SLOW, CONFIG)
    write_python_entry(folder / "levels", SLOW, CONFIG + LEVELS)
    with EmbeddedTriton(folder, stop_deadline_s=0) as started:
        yield started


def score(server, folder, rows, **more):
    path = folder / "rows.parquet"
    pq.write_table(pa.table({"x": np.arange(rows, dtype=np.float32)}), path)
    said, windows = [], []
    options = ScoreOptions(
        inputs=(str(path),), out=folder / "out", endpoints=(server.grpc,), batch_rows=4,
        transport="unary", **more,
    )  # fmt: skip
    observer = Observer(said.append, note=windows.append)
    return asyncio.run(run_score(options, observer)), said, windows


class Online:
    """Somebody who asks one row at a time, and how long each answer took."""

    def __init__(self, server, model, priority=0, threads=1, pause_s=0.0):
        self.took_s = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(server.grpc, model, priority, pause_s))
            for _ in range(threads)
        ]

    def _ask(self, address, model, priority, pause_s):
        client = triton_grpc.InferenceServerClient(address)
        tensor = triton_grpc.InferInput("x", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
        while not self._stop.is_set():
            began = time.monotonic()
            client.infer(model, [tensor], priority=priority)
            self.took_s.append(time.monotonic() - began)
            self._stop.wait(pause_s)
        client.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def leave(self):
        """Ask nothing more."""
        self._stop.set()

    def __exit__(self, *_):
        self.leave()
        for thread in self._threads:
            thread.join()


def test_low_priority_lets_others_by(server, tmp_path):
    medians = {}
    for priority in (1, 2):
        (tmp_path / str(priority)).mkdir()
        with Online(server, "levels", priority=1, pause_s=0.01) as online:
            result, said, _ = score(
                server, tmp_path / str(priority), 400, model="levels", priority=priority,
                in_flight_max=16,
            )  # fmt: skip
        assert result.rows_ok == 400
        assert not [text for text in said if "priority" in text]
        medians[priority] = float(np.median(online.took_s))
    assert medians[2] < 0.6 * medians[1], medians


def test_a_priority_without_levels_is_said_and_one_too_high_is_refused(server, tmp_path):
    _, said, _ = score(server, tmp_path, 8, model="plain", priority=2)
    assert any("has no priority levels, so --priority 2 changes nothing" in text for text in said)
    (tmp_path / "second").mkdir()
    with pytest.raises(OptionError, match="has 2 levels"):
        score(server, tmp_path / "second", 8, model="levels", priority=3)


def test_a_run_yields_while_others_wait_and_goes_on_when_they_have_gone(server, tmp_path):
    with Online(server, "plain", threads=6) as online:
        threading.Timer(8, online.leave).start()
        result, said, events = score(
            server, tmp_path, 200, model="plain", in_flight_max=16,
            yield_to=parse_yield_to("p99=50ms"),
        )  # fmt: skip
    assert result.rows_ok == 200
    assert any("fewer requests are sent" in text for text in said)
    windows = [event.window for event in events if isinstance(event, RequestEnded)]
    assert 0 in windows, "six others wait 100 ms each: all is left to them"
    assert len(online.took_s) > 100


def test_a_run_that_nobody_feels_does_not_yield(server, tmp_path):
    result, said, _ = score(
        server, tmp_path, 600, model="plain", in_flight_max=2, yield_to=parse_yield_to("p99=2s")
    )
    assert result.rows_ok == 600
    assert not any("fewer requests" in text for text in said)
