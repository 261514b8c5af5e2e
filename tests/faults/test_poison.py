"""P5: a poison row costs no neighbour its prediction, and a sick server convicts nobody. Live."""

import asyncio
import itertools
import os
import random
import threading

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.faults.conftest import check_output, write_rows
from tritonbulk.errors import FailureLimitError, ModelError
from tritonbulk.options import ScoreOptions
from tritonbulk.running import Observer
from tritonbulk.scoring import run_score

pytestmark = [pytest.mark.live, pytest.mark.ci]

FULL = bool(os.environ.get("TRITONBULK_TEST_FULL"))
KINDS = {
    "exception": (-1, 13, "ValueError: poison"),
    "INVALID_ARGUMENT": (-2, 3, "row refused"),
    "UNSUPPORTED": (-3, 12, "row refused"),
    "UNAVAILABLE": (-4, 14, "row refused"),
    "NOT_FOUND": (-5, 5, "row refused"),
    "CANCELLED": (-6, 1, "row refused"),
    "ALREADY_EXISTS": (-7, 6, "row refused"),
    "too few rows": (-8, 2, "came with shape"),
    "another dtype": (-9, 2, "came as FP64"),
    "no output": (-10, 2, "lacks output 'y'"),
    "out of memory": (-12, 13, "Unable to allocate"),
}
SLOW_KINDS = ("UNAVAILABLE", "CANCELLED")
"""What looks like a lost connection is sent alone, row by row: at most two rows of it."""

RATES = (0.0001, 0.01, 0.5) if not FULL else (0.0001, 0.001, 0.01, 0.1, 0.25, 0.5)
PLACES = ("first", "last", "anywhere")
CASES = [
    (kind, rate, place)
    for kind, rate, place in itertools.product(KINDS, RATES, PLACES)
    if rate < 0.5 or (kind not in SLOW_KINDS and (FULL or place == "anywhere"))
]
ROWS = 160


def score(path, out, endpoint, model="echo", **given):
    options = ScoreOptions(
        inputs=(str(path),),
        model=model,
        out=out,
        endpoints=(endpoint,) if endpoint else (),
        input_map={"x": ("x",)},
        **{"failed_fraction_max": 1.0, "segment_rows": 1024, "max_outage_s": 60.0, **given},
    )
    return asyncio.run(run_score(options))


class Neighbour(threading.Thread):
    """Another client of the same model, whose rows are innocent but for some of its own."""

    def __init__(self, address, seed=0):
        super().__init__(daemon=True)
        self._channel = grpc.insecure_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self.right = self.wrong = self.failed = 0

    def run(self):
        while not self._stopped.wait(0.004):
            x = np.float32(-1 if self._random.random() < 0.05 else self._random.randint(1, 1000))
            request = service_pb2.ModelInferRequest(model_name="echo", model_version="1")
            request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
            request.raw_input_contents.append(x.tobytes())
            try:
                answer = self._stub.ModelInfer(request, timeout=30)
            except grpc.RpcError:
                self.failed += x > 0
            else:
                is_right = answer.raw_output_contents[0] == np.float32(2 * x).tobytes()
                self.right, self.wrong = self.right + is_right, self.wrong + (not is_right)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self.join()
        self._channel.close()


def test_the_neighbours_of_poison_are_scored(echo_server, tmp_path, capsys):
    convicted = 0
    with Neighbour(echo_server.grpc) as neighbour:
        for number, (kind, rate, place) in enumerate(CASES):
            word, code, text = KINDS[kind]
            count = max(1, int(rate * ROWS))
            where = {
                "first": range(count),
                "last": range(ROWS - count, ROWS),
                "anywhere": random.Random(number).sample(range(ROWS), count),
            }[place]
            poison = dict.fromkeys(where, word)
            path = write_rows(tmp_path / f"{number}.parquet", ROWS, poison)
            result = score(path, tmp_path / f"out{number}", echo_server.grpc)
            found = check_output(tmp_path / f"out{number}", ROWS, poison)
            assert result.rows_failed == count, (kind, rate, place)
            for row in where:
                assert found["_tritonbulk_status"][row] == code, kind
                assert text in found["_tritonbulk_error"][row]
            convicted += count
    assert neighbour.right > 20
    assert not neighbour.wrong
    with capsys.disabled():
        print(
            f"\nP5, live: {len(CASES)} cases, {convicted} rows convicted, false convictions 0; the "
            f"other client: {neighbour.right} right, {neighbour.failed} failed with their batch"
        )


@pytest.mark.parametrize(
    ("word", "text", "rows"),
    [
        (-13, "the process that runs the model died each time", 8),
        (-14, "the server died each time", 8),
    ],
)
def test_rows_that_kill_the_embedded_server_are_found(echo_models, tmp_path, word, text, rows):
    path = write_rows(tmp_path / "rows.parquet", rows, {5: word})
    said = []
    options = ScoreOptions(
        inputs=(str(path),),
        model="echo",
        out=tmp_path / "out",
        repository=echo_models,
        input_map={"x": ("x",)},
        batch_rows=4,
    )
    result = asyncio.run(run_score(options, Observer(said.append)))
    assert result.rows_failed == 1
    found = check_output(tmp_path / "out", rows, {5: word})
    assert found["_tritonbulk_error"][5].startswith(text)
    assert any("died; starting it again" in line for line in said)


def test_a_row_that_never_ends_is_found(echo_server, tmp_path):
    path = write_rows(tmp_path / "rows.parquet", 32, {9: -15})
    result = score(path, tmp_path / "out", echo_server.grpc, batch_rows=2, request_timeout_s=1.0)
    found = check_output(tmp_path / "out", 32, {9: -15})
    assert result.rows_failed == 1
    assert found["_tritonbulk_error"][9].startswith("there was no answer in time")


def test_nan_fails_its_row_where_that_is_asked_for(echo_server, tmp_path):
    path = write_rows(tmp_path / "rows.parquet", 64, {9: -11})
    assert score(path, tmp_path / "kept", echo_server.grpc).rows_failed == 0
    assert score(path, tmp_path / "out", echo_server.grpc, nan="fail").rows_failed == 1
    found = check_output(tmp_path / "out", 64, {9: -11})
    assert (found["y"][9], found["_tritonbulk_status"][9]) == (None, 2)
    assert found["_tritonbulk_error"][9] == "the model's prediction is not a number (NaN)"
    (reject,) = pq.read_table(tmp_path / "out" / "_tritonbulk" / "rejects.parquet").to_pylist()
    assert reject["_tritonbulk_row"] == 9


def test_rejects_are_listed_by_themselves(echo_server, tmp_path):
    path = write_rows(tmp_path / "rows.parquet", 200, {3: -1, 150: -2})
    for out in ("a", "b"):
        score(path, tmp_path / out, echo_server.grpc, segment_rows=64)
    first, second = (tmp_path / out / "_tritonbulk" / "rejects.parquet" for out in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    rows = pq.read_table(first).to_pylist()
    assert [(each["_tritonbulk_row"], each["id"], each["x"]) for each in rows] == [
        (3, 3, -1.0),
        (150, 150, -2.0),
    ]
    assert [each["_tritonbulk_status"] for each in rows] == [13, 3]
    assert "poison" in rows[0]["_tritonbulk_error"]
    # Of a run that died before it wrote them: the next one does, though the job is finished.
    expected = first.read_bytes()
    first.unlink()
    score(path, tmp_path / "a", echo_server.grpc, segment_rows=64)
    assert first.read_bytes() == expected
    assert rows[0]["_tritonbulk_input"].endswith("rows.parquet")


def test_a_name_stands_for_its_servers(echo_server, tmp_path):
    path = write_rows(tmp_path / "rows.parquet", ROWS)
    name = f"dns:///localhost:{echo_server.grpc.rpartition(':')[2]}"
    score(path, tmp_path / "out", name)
    check_output(tmp_path / "out", ROWS)


def test_limits_stop_a_run_and_say_so(echo_server, tmp_path):
    path = write_rows(tmp_path / "rows.parquet", ROWS, dict.fromkeys(range(40), -1))
    with pytest.raises(FailureLimitError, match="11 rows failed, and --max-failed-fraction allows"):
        score(path, tmp_path / "a", echo_server.grpc, failed_fraction_max=0.01)
    with pytest.raises(FailureLimitError, match="a row failed, and none may"):
        score(path, tmp_path / "b", echo_server.grpc, on_error="fail")


def test_a_file_of_nothing_but_poison_convicts_nobody(echo_server, tmp_path):
    for word, error in ((-1, FailureLimitError), (-2, ModelError)):
        path = write_rows(tmp_path / f"{word}.parquet", 20, dict.fromkeys(range(20), word))
        with pytest.raises(error):
            score(path, tmp_path / f"out{word}", echo_server.grpc)
        assert not list((tmp_path / f"out{word}").glob("part-*"))


@pytest.mark.skipif(not FULL, reason="some ten time-outs and restarts; make test-faults-full")
def test_a_row_that_never_ends_is_convicted_by_an_embedded_server(echo_models, tmp_path):
    path = write_rows(tmp_path / "rows.parquet", 640, {70: -16})
    said = []
    options = ScoreOptions(
        inputs=(str(path),),
        model="echo",
        out=tmp_path / "out",
        repository=echo_models,
        input_map={"x": ("x",)},
        request_timeout_s=6.0,
    )
    result = asyncio.run(run_score(options, Observer(said.append)))
    assert result.rows_failed == 1
    found = check_output(tmp_path / "out", 640, {70: -16})
    assert found["_tritonbulk_error"][70].startswith("there was no answer in time")
    restarts = [text for text in said if "answers nothing any more; starting it again" in text]
    assert len(restarts) >= 3, said
    assert not [text for text in said if "load the model again" in text]
