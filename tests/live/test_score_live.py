"""`score` and `bench` as a user runs them, through the real server."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import tritonbulk
from tritonbulk.job.statement import read_part
from tritonbulk.options import ScoreOptions
from tritonbulk.running import Observer
from tritonbulk.scoring import run_score

pytestmark = pytest.mark.live

TRITONBULK = [sys.executable, "-m", "tritonbulk.cli.main"]
MAP = "x=a,b,c,d"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A file of 10,000 rows with an id and four columns for `double`."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    values = np.arange(40_000, dtype=np.float32).reshape(-1, 4)
    columns = {name: values[:, index] for index, name in enumerate("abcd")}
    pq.write_table(pa.table({"id": np.arange(10_000), **columns}), path, row_group_size=3_000)
    return path


def run(*arguments, **options):
    return subprocess.run(
        [*TRITONBULK, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


def score(rows, triton, out, *more):
    base = ("score", rows, "--model", "double", "--endpoint", triton.grpc, "--out", out)
    return run(*base, *(more or ("--input-map", MAP)))


def fails(done, code, *words):
    """Check that a command ended with a code and one sentence that has the words."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    complaint = done.stderr.strip().splitlines()[-1]
    assert all(word in complaint for word in words), complaint


def test_every_row_comes_back_in_order_with_its_prediction(rows, triton, tmp_path):
    out = tmp_path / "out"
    done = score(
        rows, triton, out, "--input-map", MAP, "--segment-rows", 4_000, "--batch-rows", 4, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.glob("*.parquet")) == [
        f"part-{index:08d}.parquet" for index in range(3)
    ]
    table = ds.dataset(out).to_table()
    assert table["id"].to_pylist() == list(range(10_000))
    assert table["y"].to_pylist()[1234] == [4 * 1234 * 2 + 2 * i for i in range(4)]
    assert set(table["_tritonbulk_status"].to_pylist()) == {0}
    assert table["_tritonbulk_error"].null_count == 10_000
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["rows_in"] == result["rows_scored"] == result["rows_ok"] == 10_000
    assert result["rows_failed"] == 0
    assert result["requests"] == 2_500
    assert result["batch_rows"] == 4
    assert 4 <= result["in_flight_max"] <= 64
    load = result["bottleneck"]["load"]
    assert 0 < load["instances"] <= 1, "the server tells how busy the model was"
    assert 0 < load["compute_ms"] <= load["round_trip_ms"]
    assert f"bottleneck: {result['bottleneck']['stage']} (" in done.stdout
    assert result["model"] == "double"
    assert result["model_version"] == "1"
    assert result["endpoints"] == [triton.grpc]
    assert result["transport"] == "unary", "the choice for narrow rows"
    assert result["output"] == str(out)
    assert f"report: {result['report']}" in done.stdout
    assert "All 10,000 rows have a prediction" in Path(result["report"]).read_text()
    assert result["seconds"] > 0
    assert result["cpu_seconds_client"] > 0
    assert result["rows_per_second"] == pytest.approx(10_000 / result["seconds"], rel=1e-3)


def as_csv(rows, folder):
    pacsv.write_csv(pq.read_table(rows), folder / "rows.csv")
    return folder / "rows.csv"


def as_json_lines(rows, folder):
    with gzip.open(folder / "rows.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in pq.read_table(rows).to_pylist())
    return folder / "rows.jsonl.gz"


def as_pattern(rows, folder):
    table = pq.read_table(rows)
    for name, begin, end in (("b", 4_000, 10_000), ("a", 0, 4_000), ("_c", 0, 9)):
        pq.write_table(table.slice(begin, end - begin), folder / f"{name}.parquet")
    return folder / "*.parquet"


@pytest.mark.parametrize("laid_out", [as_csv, as_json_lines, as_pattern])
def test_every_kind_of_input_is_scored_alike(laid_out, rows, triton, tmp_path):
    (tmp_path / "in").mkdir()
    done = score(
        laid_out(rows, tmp_path / "in"), triton, tmp_path / "out", "--input-map", MAP, "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["rows_in"] == result["rows_ok"] == 10_000
    assert result["rows_filtered"] == 0
    table = ds.dataset(tmp_path / "out").to_table()
    assert table["id"].to_pylist() == list(range(10_000))
    assert table["y"].to_pylist()[1234] == [4 * 1234 * 2 + 2 * i for i in range(4)]


def test_a_filter_removes_rows_and_the_parts_say_how_many(rows, triton, tmp_path):
    done = score(
        rows, triton, tmp_path / "out", "--input-map", MAP, "--columns", "id,a,b,c,d", "--json",
        "--where", "id >= 4_000 and not a in (16_000, 16_004)", "--limit", 5_000,
        "--segment-rows", 4_000, "--keep", "id",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["rows_in"] == 5_000
    assert result["rows_scored"] == result["rows_ok"] == 998
    assert result["rows_filtered"] == 4_002
    assert "998 of 5,000 rows scored, 4,002 filtered out" in done.stdout
    parts = sorted((tmp_path / "out").glob("*.parquet"))
    tables = [pq.read_table(part) for part in parts]
    assert [len(table) for table in tables] == [0, 998]
    assert tables[1]["id"].to_pylist() == list(range(4_002, 5_000))
    removed = [read_part(part.read_bytes()).rows_filtered for part in parts]
    assert removed == [4_000, 2]


def test_vectors_may_be_bytes_in_arrow_files(rows, triton, tmp_path):
    out = tmp_path / "out"
    form = ("--out-format", "arrow", "--vectors", "binary", "--keep", "id", "--input-map", MAP)
    done = score(rows, triton, out, *form)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.glob("part-*")] == ["part-00000000.arrow"]
    table = ds.dataset(out, format="arrow").to_table()
    metadata = table.schema.field("y").metadata
    assert metadata == {b"tritonbulk.dtype": b"float32", b"tritonbulk.shape": b"4"}
    found = np.frombuffer(b"".join(table["y"].to_pylist()), np.float32)
    assert (found == np.arange(40_000, dtype=np.float32) * 2).all()


def test_bad_data_is_a_sentence_that_names_file_row_and_column(triton, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("a,b,c,d\n" + "1,2,3,4\n" * 600_000 + "1,2,three,4\n")
    fails(score(path, triton, tmp_path / "out", "--input-map", MAP, "--limit", 600_001), 2,
          "bad.csv", "'c'", "row 600002", "'three'")  # fmt: skip
    fails(score(path, triton, tmp_path / "x", "--input-map", MAP, "--where", "e > 1"), 2, "'e'")
    path.write_text("a,b,c,d\n1,2,3,4\n1e300,2,3,4\n")
    fails(score(path, triton, tmp_path / "y", "--input-map", MAP, "--where", "b == 2"), 2,
          "bad.csv, counted from row 0", "'a'", "overflows")  # fmt: skip


def test_the_library_scores_like_the_command_line(rows, triton, tmp_path):
    result = tritonbulk.score(
        rows, model="double", out=tmp_path / "out", endpoints=triton.grpc,
        input_map={"x": list("abcd")}, keep="id", rename={"y": "doubled"}, limit_rows=100,
        model_version=1, batch_rows="auto",
    )  # fmt: skip
    assert result.rows_in == result.rows_ok == 100
    assert result.model_version == "1"
    table = pq.read_table(tmp_path / "out")
    assert table.column_names == ["id", "doubled", "_tritonbulk_status", "_tritonbulk_error"]


def test_without_an_endpoint_the_embedded_server_is_started_and_stopped(
    rows, repository, tmp_path, traces
):
    done = run(
        "score", rows, "--model", "double", "--repository", repository, "--out", tmp_path / "out",
        "--input-map", MAP, "--keep", "", "--limit", 8,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "starting the embedded Triton server" in done.stderr
    assert pq.read_table(tmp_path / "out").column("y").to_pylist()[0] == [0, 2, 4, 6]
    assert traces.look() == []


def test_wrong_use_ends_with_a_sentence_and_2(rows, triton, tmp_path):
    out = tmp_path / "out"
    fails(score("none.parquet", triton, out), 2, "none.parquet", "does not exist")
    fails(
        run("score", rows, "--model", "nope", "--endpoint", triton.grpc, "--out", out),
        2, "nope", "does not serve",
    )  # fmt: skip
    fails(score(rows, triton, out, "--input-map", MAP, "--model-version", "7"), 2, "version 7")
    fails(
        score(rows, triton, out, "--input-map", MAP, "--model-version", "x"), 2, "--model-version"
    )
    fails(score(rows, triton, out, "--repository", "nowhere"), 2, "nowhere does not exist")
    fails(score(rows, triton, out, "--input-map", "x=a,b,c,z"), 2, "'z'")
    fails(score(rows, triton, out, "--input-map", "x=a,b"), 2, "takes 4 values", "2 columns")
    fails(score(rows, triton, out, "--input-map", "q=a"), 2, "'q'", "inputs are x")
    fails(score(rows, triton, out, "--batch-rows", "many"), 2, "many")
    fails(score(rows, triton, out, "--keep", "nothing"), 2, "--input-map x=")
    fails(score(rows, triton, out, "--input-map", MAP, "--batch-rows", 9), 2, "max_batch_size 4")
    fails(
        run("score", rows, "--model", "m", "--repository", tmp_path / "none", "--out", out),
        2, "model repository", "does not exist",
    )  # fmt: skip
    assert not out.exists(), "nothing was begun"
    out.mkdir()
    (out / "part-00000000.parquet").write_text("")
    fails(score(rows, triton, out), 2, "holds parts but no job")


def test_a_file_without_rows_gives_a_part_without_rows(rows, triton, tmp_path):
    empty = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(rows).slice(0, 0), empty)
    done = score(empty, triton, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "out")
    assert table.num_rows == 0
    assert table.column_names[-3:] == ["y", "_tritonbulk_status", "_tritonbulk_error"]


def test_paths_with_spaces_and_other_letters_work(rows, repository, tmp_path, monkeypatch):
    odd = tmp_path / "ü dir" / "re po"
    odd.parent.mkdir()
    odd.symlink_to(repository)
    (tmp_path / "tm p").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tm p"))
    done = run(
        "score", rows, "--model", "double", "--repository", odd, "--out", tmp_path / "o ü",
        "--input-map", MAP, "--limit", 8,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "o ü").num_rows == 8


def test_a_null_that_no_policy_allows_is_refused_before_its_batch_is_sent(triton, tmp_path):
    path = tmp_path / "nulls.parquet"
    pq.write_table(pa.table(dict.fromkeys("abcd", pa.array([1.0, None]))), path)
    fails(score(path, triton, tmp_path / "out"), 2, "'a'", "a null at row 1")
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_a_server_that_is_not_there_is_waited_for_and_then_an_outage(rows, tmp_path):
    done = run(
        "score", rows, "--model", "double", "--endpoint", "127.0.0.1:9", "--out", tmp_path / "out",
        "--max-outage", "1.5",
    )  # fmt: skip
    fails(done, 3, "127.0.0.1:9", "within 1.5 s")
    assert "waiting up to 1.5 s" in done.stderr


def test_an_endpoint_that_is_not_there_does_not_stop_the_others(
    rows, triton, tmp_path, monkeypatch
):
    monkeypatch.setattr("tritonbulk.session.READY_GRACE_S", 0.5)
    said = []
    options = ScoreOptions(
        inputs=(str(rows),), model="double", out=tmp_path / "out", limit_rows=100,
        endpoints=("127.0.0.1:9", triton.grpc), input_map={"x": tuple("abcd")},
    )  # fmt: skip
    result = asyncio.run(run_score(options, Observer(say=said.append)))
    assert result.rows_ok == 100
    assert any("going on without 127.0.0.1:9" in line for line in said)


def test_two_endpoints_share_one_run(rows, triton, tmp_path):
    done = run(
        "score", rows, "--model", "double", "--out", tmp_path / "out", "--input-map", MAP,
        "--endpoint", triton.grpc, "--endpoint", triton.grpc, "--batch-rows", 4, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rows_ok"] == 10_000
    assert ds.dataset(tmp_path / "out").to_table()["id"].to_pylist() == list(range(10_000))


@contextmanager
def small_disk(folder):
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_with_a_sentence_and_leaves_no_torn_part(rows, triton, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        out = disk / "out"
        fails(score(rows, triton, out), 3, "the disk is full")
        assert list(out.glob("part-*")) == []
        assert list((out / "_tritonbulk").rglob("*.parquet*")) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_soon_and_leaves_nothing_behind(
    number, code, repository, tmp_path, traces
):
    path = tmp_path / "many.parquet"
    pq.write_table(pa.table(dict.fromkeys("abcd", np.ones(1_000_000, np.float32))), path)
    command = [
        *TRITONBULK, "score", str(path), "--model", "double", "--repository", str(repository),
        "--out", str(tmp_path / "out"), "--input-map", MAP, "--batch-rows", "1",
        "--stop-grace", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    while "serving double" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in said
    assert "to go on: tritonbulk score" in said
    own = tmp_path / "out" / "_tritonbulk"
    assert not (own / "manifest.json").exists()
    (report,) = (own / "runs").glob("*.html")
    assert "The run ended before its time: stopped with" in report.read_text()
    assert traces.wait_until(lambda: traces.look() == [], deadline_s=5)


def test_the_sweep_measures_every_setting_and_saves_it(rows, triton, tmp_path):
    done = run(
        "bench", rows, "--model", "double", "--endpoint", triton.grpc, "--input-map", MAP,
        "--batch-rows", "1,4", "--in-flight", "1,8", "--trial-seconds", "0.2", "--repeats", "2",
        "--transport", "unary", "--out", tmp_path / "bench.json", "--price-per-hour", "2", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ceiling: " in done.stderr.partition("trial 1")[0], "the ceiling comes first"
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert f"report: {tmp_path / 'bench.html'}" in done.stdout
    assert "Throughput by latency" in (tmp_path / "bench.html").read_text()
    assert json.loads(done.stdout.splitlines()[-1]) == figures
    assert len(figures["trials"]) == 8
    assert {trial["transport"] for trial in figures["trials"]} == {"unary"}
    settings = [(c["setting"]["batch_rows"], c["setting"]["in_flight"]) for c in figures["cells"]]
    assert settings == [(1, 1), (1, 8), (4, 1), (4, 8)]
    for cell in figures["cells"]:
        rate = cell["rows_per_second"]
        assert 0 < rate["low"] <= rate["value"] <= rate["high"]
        assert cell["cpu_s_client_per_mrow"] > 0
        assert cell["cpu_s_server_per_mrow"] > 0, "the process that listens here is found"
        assert 1 <= cell["server"]["executed_batch_rows"] <= 4
    alone, crowded = figures["cells"][0]["server"], figures["cells"][1]["server"]
    assert alone["executed_batch_rows"] == 1
    assert crowded["executed_batch_rows"] > 1, "dynamic batching merges what waits"
    verdict = figures["verdict"]
    assert verdict["cost_per_million_rows"] > 0
    assert (verdict["instances"], verdict["max_batch_size"]) == (1, 4)

    profile = ("--profile", tmp_path / "bench.json", "--input-map", MAP, "--json")
    scored = score(rows, triton, tmp_path / "out", *profile)
    assert scored.returncode == 0, scored.stderr
    result = json.loads(scored.stdout.splitlines()[-1])
    pinned = {name: verdict[name] for name in ("batch_rows", "in_flight")}
    assert pinned == {name: result["profile"][name] for name in pinned}
    assert result["batch_rows"] == pinned["batch_rows"]
    assert f"the profile pins {pinned['batch_rows']} rows a request" in scored.stderr


def test_a_sweep_beyond_the_models_limit_is_refused_before_it_begins(rows, triton, tmp_path):
    done = run(
        "bench", rows, "--model", "double", "--endpoint", triton.grpc, "--input-map", MAP,
        "--batch-rows", "4,64", "--out", tmp_path / "bench.json",
    )  # fmt: skip
    fails(done, 2, "max_batch_size 4")
    assert list(tmp_path.iterdir()) == []
