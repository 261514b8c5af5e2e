"""Real servers with a model that misbehaves when a row tells it to, and files of such rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tritonbulk.server.embedded import EmbeddedTriton

ECHO = """
import os, signal, time
import numpy as np
import triton_python_backend_utils as pb

REFUSALS = {
    -2: "INVALID_ARG", -3: "UNSUPPORTED", -4: "UNAVAILABLE", -5: "NOT_FOUND", -6: "CANCELLED",
    -7: "ALREADY_EXISTS",
}

def answer(x):
    y = 2 * x
    for word, code in REFUSALS.items():
        if (x == word).any():
            error = pb.TritonError("row refused", getattr(pb.TritonError, code))
            return pb.InferenceResponse([], error=error)
    if (x == -8).any():
        y = y[:-1]
    if (x == -9).any():
        y = y.astype(np.float64)
    if (x == -10).any():
        return pb.InferenceResponse([])
    if (x == -11).any():
        y = np.where(x == -11, np.float32(np.nan), y)
    return pb.InferenceResponse([pb.Tensor("y", y)])

class TritonPythonModel:
    def execute(self, requests):
        xs = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        words = {int(word) for x in xs for word in np.unique(x[x < 0])}
        if -1 in words:
            raise ValueError("poison")
        if -12 in words:
            np.empty(10**12)
        if -13 in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if -14 in words:
            os.kill(os.getppid(), signal.SIGKILL)
        if -15 in words:
            time.sleep(2.5)
        if -16 in words:
            time.sleep(100000)
        if PAUSE_S:
            time.sleep(PAUSE_S)
        return [answer(x) for x in xs]
"""
CONFIG = """
backend: "python"
max_batch_size: 16
input {{ name: "x" data_type: TYPE_FP32 dims: 1 }}
output {{ name: "y" data_type: TYPE_FP32 dims: 1 }}
instance_group {{ count: 1 kind: KIND_CPU }}
dynamic_batching {{ {batching} }}
"""
QUEUE = "default_queue_policy {{ max_queue_size: {} }}"


def write_echo(entry, write_python, batching="", pause_s=0.0):
    code = f"PAUSE_S = {pause_s}\n{ECHO}"
    write_python(entry, code, CONFIG.format(batching=batching))


@pytest.fixture(scope="session")
def echo_models(tmp_path_factory, write_python):
    """A repository: `echo` doubles, `slow` takes 5 ms, `queueN` has N places in its queue."""
    folder = tmp_path_factory.mktemp("echo")
    write_echo(folder / "echo", write_python, "max_queue_delay_microseconds: 1000")
    write_echo(folder / "slow", write_python, pause_s=0.005)
    for places in (1, 2, 4, 8):
        write_echo(folder / f"queue{places}", write_python, QUEUE.format(places), pause_s=0.005)
    return folder


@pytest.fixture(scope="session")
def echo_server(echo_models):
    """One server with all of them, which anybody may load and unload who has its header."""
    server = EmbeddedTriton(echo_models, model_control="explicit", stop_deadline_s=0).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def three_servers(echo_models):
    """Three servers of one model, which tests may kill, and must leave running."""
    servers = [
        EmbeddedTriton(echo_models, models=["slow"], stop_deadline_s=0).start() for _ in range(3)
    ]
    yield servers
    for server in servers:
        server.stop()


def write_rows(path, rows, poison=()):
    """Write rows 1, 2, … to a file; ``poison`` is row → word."""
    x = np.arange(1, rows + 1, dtype=np.float32)
    for row, word in dict(poison).items():
        x[row] = word
    pq.write_table(pa.table({"x": x, "id": np.arange(rows)}), path)
    return path


def read_output(out):
    """Return the rows of an output: id, x, y, status, error."""
    return pq.read_table(sorted(out.glob("part-*.parquet"))).to_pydict()


def check_output(out, rows, poison=()):
    """Every row is there once, in order, right or, if it is to blame, with its error."""
    found = read_output(out)
    assert found["id"] == list(range(rows)), "rows are lost, doubled or out of order"
    bad = dict(poison)
    failed = {row for row, status in enumerate(found["_tritonbulk_status"]) if status}
    assert failed == set(bad), (sorted(failed - set(bad))[:5], sorted(set(bad) - failed)[:5])
    wrong = [row for row in range(rows) if row not in bad and found["y"][row] != 2 * (row + 1)]
    assert not wrong, f"wrong predictions were written: {wrong[:5]}"
    return found
