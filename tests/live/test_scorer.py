"""The scorer that engines are given: the rows of `score` through memory, in any process."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tritonbulk
from tests.conftest import write_poison_entry
from tritonbulk import EmbeddedTriton, Secret
from tritonbulk.access import Access
from tritonbulk.errors import (
    FailureLimitError,
    InputError,
    ModelError,
    OptionError,
    PlatformError,
)
from tritonbulk.scorer.pool import POOL

pytestmark = pytest.mark.live

POISONS = (100, 4000)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorer")
    write_poison_entry(folder / "poison", 64)
    with EmbeddedTriton(folder, stop_deadline_s=0) as running:
        yield running


def rows(count=5000, poisons=POISONS):
    values = np.arange(count, dtype=np.float32) + 1000
    values[[row for row in poisons if row < count]] = 13
    return pa.table({"id": np.arange(count), "x": values, "note": ["n"] * count})


def scorer(server, **options):
    return tritonbulk.Scorer("poison", endpoints=server.grpc, keep=["id"], **options)


def test_batches_come_out_as_score_writes_them(server, tmp_path):
    pq.write_table(rows(), tmp_path / "rows.parquet")
    tritonbulk.score(
        tmp_path / "rows.parquet",
        model="poison", out=tmp_path / "out", endpoints=[server.grpc], keep="id",
    )  # fmt: skip
    wanted = pq.read_table(next((tmp_path / "out").glob("part-*")))
    assert wanted["_tritonbulk_status"].to_pylist().count(0) == 4998
    for size in (7, 900, 5000):
        batches = rows().to_batches(max_chunksize=size)
        found = pa.Table.from_batches(scorer(server).score_batches(batches))
        assert found.equals(wanted.replace_schema_metadata(None)), size
    assert scorer(server).score(rows()).equals(wanted.replace_schema_metadata(None))
    assert scorer(server).output_schema(rows().schema).equals(wanted.schema)


def test_an_event_loop_may_await_many_at_once(server):
    each = scorer(server)

    async def stream():
        for batch in rows(3000).to_batches(max_chunksize=500):
            yield batch

    async def both():
        batches = rows(3000).to_batches(max_chunksize=300)
        return await asyncio.gather(*map(each.score_async, batches)), [
            batch
            async for batch in tritonbulk.score_batches_async(
                stream(), model="poison", endpoints=[server.grpc], keep="id"
            )
        ]

    gathered, streamed = asyncio.run(both())
    assert [len(batch) for batch in gathered] == [300] * 10
    assert pa.Table.from_batches(gathered).equals(each.score(rows(3000)))
    assert pa.Table.from_batches(streamed).equals(each.score(rows(3000)))


def test_copies_in_one_process_share_one_connection_and_forks_none(server):
    one = scorer(server)
    one.score(rows(100, ()))
    before = {each.name for each in threading.enumerate()}
    threads = [each for each in threading.enumerate() if each.name == "tritonbulk-scorer"]
    copy = pickle.loads(pickle.dumps(one))
    assert copy.score(rows(100, ()))["y"].to_pylist()[:2] == [2000, 2002]
    assert [e for e in threading.enumerate() if e.name == "tritonbulk-scorer"] == threads
    assert "tritonbulk-scorer" in before
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:  # what the parent has open is not the child's, and gRPC may hang there
        signal.alarm(30)
        said = [str(len(POOL._works))]
        for use in (lambda: copy.score(rows(100, ())), copy.pinned):
            try:
                use()
                said.append("scored")
            except PlatformError as error:
                said.append(str(error)[-23:])
        os.write(writer, " | ".join(said).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    assert os.read(reader, 99) == b"0 | 'spawn' or 'forkserver' | 'spawn' or 'forkserver'"


def test_other_processes_score_and_end(server):
    code = (
        "import pickle, sys, pyarrow as pa\n"
        "each = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "print(each.score(pa.table({'id': [1], 'x': pa.array([4.0], pa.float32())})).to_pylist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, pickle.dumps(scorer(server)).hex()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "'y': 8.0" in done.stdout
    assert done.stderr == ""


def test_memory_is_bounded_and_what_nobody_reads_is_dropped(server):
    taken = []

    def batches():
        for number in range(10_000):
            taken.append(number)
            yield rows(1000, ()).to_batches()[0]

    found = tritonbulk.score_batches(
        batches(), model="poison", endpoints=[server.grpc], memory_bytes=2**20
    )
    assert len(next(found)) > 0
    found.close()
    assert len(taken) < 200


def test_without_endpoints_a_server_is_started(tmp_path, repository):
    batch = pa.record_batch({"x": pa.array([[1.0] * 4] * 20, pa.list_(pa.float32(), 4))})
    (done,) = tritonbulk.score_batches([batch], model="double", repository=repository)
    assert done["y"].to_pylist() == [[2.0] * 4] * 20


def test_no_rows_have_columns_and_no_batches_have_none(server):
    assert list(scorer(server).score_batches([])) == []
    (none,) = scorer(server).score_batches([pa.RecordBatch.from_pylist([], rows(0).schema)])
    assert none.schema.names == ["id", "y", "_tritonbulk_status", "_tritonbulk_error"]
    assert scorer(server).score(rows(0, ())).num_rows == 0


def test_a_failure_is_raised_where_the_rows_came_from_and_a_later_call_works(server):
    strict = scorer(server, on_error="fail")
    with pytest.raises(FailureLimitError, match="thirteen"):
        strict.score(rows())
    assert strict.score(rows(50, ())).num_rows == 50
    plain = scorer(server, status_columns=False)
    with pytest.raises(FailureLimitError):
        plain.score(rows())
    both = [*rows(10, ()).to_batches(), *rows(10, ()).select(["id"]).to_batches()]
    with pytest.raises(InputError, match="no column 'x'"):
        list(scorer(server).score_batches(both))


def test_a_pinned_model_is_insisted_on(server):
    pinned = scorer(server).pinned()
    assert pinned.config.options.model_version == "1"
    assert pinned.score(rows(10, ())).num_rows == 10
    wrong = pickle.loads(pickle.dumps(pinned).replace(b"sha256:", b"sha257:"))
    with pytest.raises(ModelError, match="plan it anew"):
        wrong.score(rows(10, ()))


def test_each_host_has_its_endpoint(server):
    here = tritonbulk.Scorer("poison", endpoints={"*": server.grpc}, keep=["id"])
    assert here.score(rows(10, ())).num_rows == 10
    with pytest.raises(OptionError, match="no endpoint is given for this host"):
        tritonbulk.Scorer("poison", endpoints={"gpu-1": server.grpc}).score(rows(10, ()))


def test_secrets_stay_where_they_are(server, monkeypatch):
    with pytest.raises(OptionError, match="header_env"):
        scorer(server, access=Access(headers={"authorization": Secret("hush-hush")}))
    each = scorer(server, header_env={"authorization": "SCORER_TOKEN"})
    with pytest.raises(OptionError, match="SCORER_TOKEN is not set"):
        each.score(rows(10, ()))
    monkeypatch.setenv("SCORER_TOKEN", "hush-hush")
    assert b"hush-hush" not in pickle.dumps(each)
    assert each.score(rows(10, ())).num_rows == 10


def test_a_scorer_needs_endpoints_and_known_options():
    with pytest.raises(OptionError, match="needs endpoints"):
        tritonbulk.Scorer("m", endpoints=[])
    with pytest.raises(OptionError, match="has no option 'colour'"):
        tritonbulk.Scorer("m", endpoints="a:1", colour="red")
