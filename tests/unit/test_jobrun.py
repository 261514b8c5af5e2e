"""Whole runs of a job on a local folder, over a scripted server."""

import asyncio
import hashlib
import json
import os
import re
import shlex
import subprocess
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tritonbulk.checking import status, verify
from tritonbulk.dispatch import Failure
from tritonbulk.errors import DamagedError, OptionError, OutputError, SourceError
from tritonbulk.job.commit import look
from tritonbulk.job.statement import read_part
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.job.stores.opening import open_store
from tritonbulk.jobrun import asked_of
from tritonbulk.modelfiles import hash_model
from tritonbulk.options import ScoreOptions
from tritonbulk.profile import Profile
from tritonbulk.projection import project
from tritonbulk.source import identity
from tritonbulk.testing import ScriptedTransport

ROWS = 1_000


@pytest.fixture
def rows(tmp_path):
    return write(tmp_path / "rows.parquet")


def write(path, begin=0, rows=ROWS):
    ids = np.arange(begin, begin + rows)
    table = pa.table({"id": ids, "x": ids.astype(np.float32)})
    if path.suffix == ".csv":
        pacsv.write_csv(table, path)
    else:
        pq.write_table(table, path, row_group_size=130)
    return path


def asked(*inputs, out, **more):
    given = {"segment_rows": 100, "batch_rows": 32, **more}
    return ScoreOptions(inputs=tuple(map(str, inputs)), model="m", out=out, **given)


class Counting(ScriptedTransport):
    """A server that counts rows, and stops the process at one of them if asked to."""

    def __init__(self, dies_at=None):
        super().__init__(self.double)
        self.rows, self.dies_at = 0, dies_at

    def double(self, tensors):
        self.requests.clear()
        self.rows += len(tensors["x"])
        if self.dies_at is not None and self.rows > self.dies_at:
            raise KilledError
        return {"y": tensors["x"] * 2}


class KilledError(BaseException):
    pass


def digests(out):
    files = [*out.glob("part-*"), *(out / "_tritonbulk").glob("*.json")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_a_run_that_died_costs_only_what_was_missing(program, tmp_path, name):
    path = write(tmp_path / name)
    program.run(asked(path, out=tmp_path / "clean"))
    out = tmp_path / "out"
    with pytest.raises(KilledError):
        program.run(asked(path, out=out), transport=Counting(dies_at=650))
    before = len(list(out.glob("part-*")))
    assert 1 <= before <= 7
    server = Counting()
    assert program.run(asked(path, out=out), transport=server)[:2] == (10 - before, before)
    assert server.rows == ROWS - 100 * before
    assert digests(out) == digests(tmp_path / "clean")
    assert ds.dataset(out).to_table()["y"].to_pylist() == [2.0 * row for row in range(ROWS)]
    assert not (out / "_tritonbulk" / "tmp").exists()


def test_done_segments_of_parquet_are_not_read(program, rows, tmp_path, monkeypatch):
    out = tmp_path / "out"
    program.run(asked(rows, out=out))
    for segment in (4, 6):
        (out / f"part-{segment:08d}.parquet").unlink()
    (out / "_tritonbulk" / "manifest.json").unlink()
    read = []
    iterate = pq.ParquetFile.iter_batches

    def spy(self, size, groups=None, **more):
        for batch in iterate(self, size, groups, **more):
            read.append(batch["id"][0].as_py())
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert program.run(asked(rows, out=out))[:2] == (2, 8)
    assert min(read) == 390, "from the row group of the first missing row on"
    assert max(read) < 700, "to the last missing row"
    assert verify(LocalStore(out)).problems == ()


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_a_job_of_arrow_parts_is_continued_verified_and_projected(
    program, rows, tmp_path, extension
):
    form = {"out_format": "arrow", "vectors": "binary", "where": "id >= 450"}
    program.run(asked(rows, out=tmp_path / "clean", **form))
    out = tmp_path / "out"
    with pytest.raises(KilledError):
        program.run(asked(rows, out=out, **form), transport=Counting(dies_at=300))
    before = len(list(out.glob("part-*.arrow")))
    assert before < 10
    assert program.run(asked(rows, out=out, **form))[:2] == (10 - before, before)
    assert digests(out) == digests(tmp_path / "clean")
    store = LocalStore(out)
    assert verify(store).problems == ()
    names = sorted(store.names(""))
    assert names[:2] == ["part-00000000.arrow", "part-00000001.arrow"]
    data = store.read(names[4])
    stated = json.loads(pa.ipc.open_file(data).schema.metadata[b"tritonbulk.part"])
    assert stated["seal"] != "0" * 64, "readers of the file see the sealed one"
    assert (stated["rows"], stated["rows_filtered"]) == (50, 50)
    project(store, look(store).listed, tmp_path / f"all.{extension}")
    kind = {"jsonl": "json"}.get(extension, extension)
    read = ds.dataset(tmp_path / f"all.{extension}", format=kind).to_table()
    assert read["id"].to_pylist() == list(range(450, ROWS))
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    (out / names[4]).write_bytes(damaged)
    assert [names[4] in problem for problem in verify(store).problems] == [True]


def test_done_segments_and_row_groups_that_the_filter_removes_are_not_read(
    program, rows, tmp_path, monkeypatch
):
    out, options = tmp_path / "out", {"where": "id >= 450"}
    program.run(asked(rows, out=out, **options))
    for segment in (3, 6):
        (out / f"part-{segment:08d}.parquet").unlink()
    (out / "_tritonbulk" / "manifest.json").unlink()
    read = []
    iterate = pq.ParquetFile.iter_batches

    def spy(self, size, groups=None, columns=None, **more):
        for batch in iterate(self, size, groups, columns=columns, **more):
            if "x" in columns:
                read.append((batch["id"][0].as_py(), batch["id"][-1].as_py()))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert program.run(asked(rows, out=out, **options))[:2] == (2, 8)
    assert min(read)[0] == 390, "the row groups before are glanced at only"
    assert max(read)[0] < 700, "to the last missing row"
    assert verify(LocalStore(out)).problems == ()


def test_what_changes_values_or_bytes_is_told_before_a_server_is_asked(tmp_path):
    def told(**more):
        return asked_of(asked("rows", out="out", **more), hash_model(tmp_path, "m"))

    def measured(rows, in_flight):
        return told(batch_rows=None, profile=Profile("m", rows, in_flight, 1.0))

    one = told()
    others = {told(out_format="arrow"), told(vectors="binary"), measured(16, 4)}
    others.add(told(status_columns=False))
    assert len(others - {one}) == 4
    assert one == measured(32, 4) == measured(32, 8) == told(in_flight_max=3)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.onnx").write_bytes(b"x")
    assert told() != one
    assert asked_of(asked("rows", out="out"), None) == ""


def test_a_finished_job_says_so_and_scores_nothing(program, rows, tmp_path):
    out = tmp_path / "out"
    program.run(asked(rows, out=out))
    before, server = digests(out), Counting()
    began = time.perf_counter()
    assert program.run(asked(rows, out=out), transport=server) == (0, 10, None)
    assert time.perf_counter() - began < 60
    assert (server.rows, digests(out)) == (0, before)


@pytest.mark.parametrize("when", ["unfinished", "finished"])
def test_another_input_model_or_option_is_refused_with_the_difference(
    program, rows, tmp_path, when, monkeypatch
):
    monkeypatch.setattr(identity, "ENDS_BYTES", 1_000)  # as if the file were large
    out = tmp_path / "out"
    program.run(asked(rows, out=out))
    if when == "unfinished":
        (out / "_tritonbulk" / "manifest.json").unlink()
        (out / "part-00000003.parquet").unlink()
    before = digests(out)

    def refused(words, *inputs, model=None, **more):
        with pytest.raises(OutputError, match=words):
            program.run(asked(*(inputs or (rows,)), out=out, **more), model=model)
        assert digests(out) == before

    refused("model.version.*tritonbulk rollback m.* --to 1 ", model=program.served(version="2"))
    refused("model.digest.*put the old ones back", model=program.served(digest="sha256:9"))
    refused("model.config_digest.*configured otherwise", model=program.served(config="sha256:9"))
    refused("batch_rows 32 → 16", batch_rows=16)
    refused("segment_rows 100 → 50", segment_rows=50)
    refused("where null", where="id > 3")
    refused("limit_rows", limit_rows=30)
    refused('encoding "parquet-1" → "arrow-1"', out_format="arrow")
    refused('vectors "list" → "binary"', vectors="binary")
    refused('nan "keep" → "fail"', nan="fail")
    profile = Profile("m", batch_rows=16, in_flight=4, rows_per_second=1.0)
    refused("batch_rows 32 → 16", batch_rows=None, profile=profile)
    refused(r"output\[x\] removed", keep=("id",))
    refused(r"output\[score\] added; output\[y\] removed", rename={"y": "score"})
    refused("--only-new", rows, write(tmp_path / "more.parquet"))
    refused(r"sha256 null", strict_inputs=True)
    refused("nothing was deleted", fresh=True)
    status_ns = rows.stat().st_mtime_ns
    os.utime(rows, ns=(status_ns, status_ns + 1))
    refused("mtime_ns")


def test_one_changed_byte_of_an_input_is_refused(program, tmp_path):
    path, out = write(tmp_path / "rows.csv"), tmp_path / "out"
    program.run(asked(path, out=out))
    (out / "_tritonbulk" / "manifest.json").unlink()
    kept = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes().replace(b"123,123", b"123,124"))
    os.utime(path, ns=(kept, kept))
    with pytest.raises(OutputError, match="sha256"):
        program.run(asked(path, out=out))


def test_a_file_that_was_only_touched_is_the_same_or_its_time_can_be_put_back(
    program, tmp_path, monkeypatch
):
    folder, small, large = tmp_path / "in", tmp_path / "small", tmp_path / "large"
    folder.mkdir()
    path = write(folder / "a b.parquet")
    kept = path.stat().st_mtime_ns
    program.run(asked(folder, out=small, only_new=True))
    os.utime(path, ns=(1, 1))
    assert program.run(asked(folder, out=small, only_new=True)) == (0, 0, None)
    assert program.run(asked(folder, out=small)) == (0, 10, None)
    os.utime(path, ns=(kept, kept))
    monkeypatch.setattr(identity, "ENDS_BYTES", 1_000)
    program.run(asked(folder, out=large, only_new=True))
    os.utime(path, ns=(1, 1))
    with pytest.raises(OutputError, match="touch -d @") as refused:
        program.run(asked(folder, out=large, only_new=True))
    advised = re.search(r"\((touch -d [^)]*)\)", str(refused.value))
    subprocess.run(shlex.split(advised[1]), check=True)
    assert program.run(asked(folder, out=large, only_new=True)) == (0, 0, None)


def test_an_input_that_changes_under_the_run_stops_it(program, tmp_path):
    path, out = write(tmp_path / "rows.parquet"), tmp_path / "out"

    class Touching(Counting):
        def double(self, tensors):
            if self.rows > 300:
                os.utime(path, ns=(1, 1))
            return super().double(tensors)

    with pytest.raises(SourceError, match="has changed since the run began"):
        program.run(asked(path, out=out), transport=Touching())
    assert not (out / "_tritonbulk" / "manifest.json").exists()


def test_a_damaged_part_is_set_aside_and_scored_again(program, rows, tmp_path):
    out, said = tmp_path / "out", []
    program.run(asked(rows, out=out))
    before = digests(out)
    (out / "_tritonbulk" / "manifest.json").unlink()
    part = out / "part-00000002.parquet"
    part.write_bytes(part.read_bytes().replace(b"PAR1", b"PAR2"))
    assert program.run(asked(rows, out=out), say=said.append)[:2] == (1, 9)
    assert "part-00000002.parquet is damaged" in said[0]
    (aside,) = (out / "_tritonbulk" / "damaged").iterdir()
    assert aside.name.startswith(f"{part.name}.")
    assert digests(out) == before


def test_a_part_of_another_job_stops_the_run(program, rows, tmp_path):
    for name, version in (("a", "1"), ("b", "2")):
        program.run(asked(rows, out=tmp_path / name), model=program.served(version))
    foreign = tmp_path / "b" / "part-00000001.parquet"
    foreign.replace(tmp_path / "a" / foreign.name)
    (tmp_path / "a" / "_tritonbulk" / "manifest.json").unlink()
    with pytest.raises(OutputError, match="a part of another job"):
        program.run(asked(rows, out=tmp_path / "a"))


def test_a_run_that_is_asked_to_stop_commits_whole_segments_and_goes_on_later(
    program, rows, tmp_path
):
    out, stop = tmp_path / "out", asyncio.Event()

    class Stopping(Counting):
        def double(self, tensors):
            if self.rows > 300:
                stop.set()
            return super().double(tensors)

    made, _, digest = program.run(
        asked(rows, out=out, stop_grace_s=30), transport=Stopping(), stop=stop
    )
    assert digest is None
    assert 3 <= made < 10
    assert len(list(out.glob("part-*"))) == made
    assert program.run(asked(rows, out=out))[:2] == (10 - made, made)
    assert verify(LocalStore(out)).rows == ROWS


def test_only_new_files_are_scored_and_the_chain_is_verified(program, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write(folder / "a.parquet")
    assert program.run(asked(folder, out=out, only_new=True))[:2] == (10, 0)
    assert program.run(asked(folder, out=out, only_new=True)) == (0, 0, None)
    write(folder / "b.parquet", begin=1_000, rows=250)
    server = Counting()
    assert program.run(asked(folder, out=out, only_new=True), transport=server)[:2] == (3, 0)
    assert server.rows == 250
    assert ds.dataset(out).to_table()["id"].to_pylist() == list(range(1_250))
    found = verify(LocalStore(out))
    assert (found.parts, found.rows, found.inputs_checked, found.problems) == (13, 1_250, 2, ())
    second = json.loads((out / "_tritonbulk" / "manifest-0001.json").read_bytes())
    first = (out / "_tritonbulk" / "manifest.json").read_bytes()
    assert second["follows"] == {
        "manifest_sha256": hashlib.sha256(first).hexdigest(),
        "segment_begin": 10,
    }
    assert [(job.parts, job.is_finished) for job in status(LocalStore(out))] == [
        (10, True),
        (3, True),
    ]
    write(folder / "c.parquet")
    with pytest.raises(OutputError, match=r"model\.version"):
        program.run(asked(folder, out=out, only_new=True), model=program.served("2"))


def test_verify_finds_what_is_damaged_missing_or_too_much(program, rows, tmp_path):
    out = tmp_path / "out"
    program.run(asked(rows, out=out))
    store = LocalStore(out)
    assert verify(store).problems == ()
    part = out / "part-00000005.parquet"
    whole = part.read_bytes()
    for position in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        part.write_bytes(damaged)
        assert "part-00000005.parquet" in verify(store).problems[0]
    part.unlink()
    assert verify(store).problems == ("part-00000005.parquet: it is missing",)
    part.write_bytes(whole)
    (out / "part-00000099.parquet").write_bytes(whole)
    assert verify(store).problems == ("part-00000099.parquet: it is in no manifest",)
    (out / "part-00000099.parquet").unlink()
    write(rows, rows=900)
    assert "900 rows, of which 1000 were scored" in verify(store).problems[0]
    manifest = out / "_tritonbulk" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows":1000', b'"rows":1001'))
    with pytest.raises(DamagedError, match=r"manifest\.json is damaged"):
        verify(store)


def test_parts_hold_nothing_that_differs_between_two_runs(program, rows, tmp_path):
    names = []
    for name in ("one", "two"):
        program.run(asked(rows, out=tmp_path / name), transport=Counting())
        names.append(digests(tmp_path / name))
        time.sleep(0.01)
    assert names[0] == names[1]
    assert read_part((tmp_path / "one" / "part-00000009.parquet").read_bytes()).row_end == ROWS


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_a_single_file_holds_all_rows_and_is_never_replaced(program, rows, tmp_path, extension):
    out, single = tmp_path / "out", tmp_path / "deep" / f"all.{extension}"
    program.run(asked(rows, out=out))
    store = LocalStore(out)
    listed = look(store).listed
    project(store, listed, single)
    read = ds.dataset(single, format={"jsonl": "json"}.get(extension, extension)).to_table()
    assert read["id"].to_pylist() == list(range(ROWS))
    assert read["y"].to_pylist() == [2.0 * row for row in range(ROWS)]
    before = single.read_bytes()
    project(store, listed, single)
    with pytest.raises(OutputError, match="exists and is not what this job gives"):
        project(store, listed[:-1], single)
    assert single.read_bytes() == before
    (out / "part-00000004.parquet").unlink()
    with pytest.raises(DamagedError, match=r"part-00000004\.parquet is damaged \(it is missing"):
        project(store, listed, tmp_path / f"again.{extension}")
    assert not (tmp_path / f"again.{extension}").exists()
    assert list(single.parent.iterdir()) == [single]


def test_a_single_file_in_the_output_is_refused(rows, tmp_path):
    with pytest.raises(OptionError, match="would see every row twice"):
        asked(rows, out=tmp_path / "out", single_file=tmp_path / "out" / "all.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for name in ("other/../out/all.csv", "link/all.csv"):
        with pytest.raises(OptionError, match="would see every row twice"):
            asked(rows, out=tmp_path / "out", single_file=tmp_path / name)
    with pytest.raises(OptionError, match="where parts alone stand"):
        asked(rows, out=tmp_path / "out", report=tmp_path / "link" / "report.html")


def test_what_others_named_or_said_is_no_formula_in_csv(program, tmp_path):
    x = np.arange(4, dtype=np.float32)
    table = pa.table({"x": x, "=1+1": ["=2+2", "b", "c", "d"]})
    pq.write_table(table, tmp_path / "rows.parquet")

    def refuse_two(given):
        refusal = Failure(3, "INVALID_ARGUMENT", "=HYPERLINK()")
        return refusal if (given["x"] < 2).any() else {"y": given["x"]}

    out = tmp_path / "out"
    options = asked(tmp_path / "rows.parquet", out=out, batch_rows=1, failed_fraction_max=1)
    program.run(options, transport=ScriptedTransport(refuse_two))
    listed = look(LocalStore(out)).listed
    project(LocalStore(out), listed, tmp_path / "guarded.csv")
    project(LocalStore(out), listed, tmp_path / "plain.csv", csv_guard=False)
    guarded, plain = (
        pacsv.read_csv(tmp_path / name).to_pydict() for name in ("guarded.csv", "plain.csv")
    )
    assert guarded["'=1+1"] == plain["=1+1"] == ["=2+2", "b", "c", "d"]
    assert guarded["_tritonbulk_error"][:2] == ["'=HYPERLINK()"] * 2
    assert plain["_tritonbulk_error"][:2] == ["=HYPERLINK()"] * 2


def test_lists_and_bytes_are_refused_in_csv(program, tmp_path):
    for name, value in (("list", [1, 2]), ("bytes", b"\xff\x00")):
        table = pa.table({"x": np.ones(5, np.float32), name: [value] * 5})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        program.run(asked(tmp_path / f"{name}.parquet", out=tmp_path / name))
        store = LocalStore(tmp_path / name)
        with pytest.raises(OutputError, match=f"column '{name}' holds lists or bytes"):
            project(store, look(store).listed, tmp_path / "all.csv")
        project(store, look(store).listed, tmp_path / f"{name}.jsonl")


def test_a_job_on_an_object_store_is_that_of_a_folder(program, tmp_path, bucket, rows):
    program.run(asked(rows, out=tmp_path / "clean"))
    out = f"{bucket}/deep/out"
    with pytest.raises(KilledError):
        program.run(asked(rows, out=out), transport=Counting(dies_at=650))
    made, before, _ = program.run(asked(rows, out=out))
    assert (made + before, before >= 1) == (10, True)
    store = open_store(out)
    local = LocalStore(tmp_path / "clean")
    assert store.names("") == local.names("")
    for name in (*store.names(""), "_tritonbulk/manifest.json"):
        assert store.read(name) == local.read(name)
    assert verify(store).problems == ()
    assert program.run(asked(rows, out=out)) == (0, 10, None)


def test_inputs_on_an_object_store_are_pinned_by_etag(program, tmp_path, bucket, rows):
    inputs = open_store(f"{bucket}/in")
    inputs.create("a.parquet", rows.read_bytes())
    where, out = f"{bucket}/in/a.parquet", tmp_path / "out"
    program.run(asked(where, out=out))
    (entry,) = look(LocalStore(out)).jobs[0].file.spec["inputs"]
    assert entry["etag"]
    assert (entry["name"], entry["mtime_ns"]) == (where, None)
    (out / "_tritonbulk" / "manifest.json").unlink()
    inputs.set_aside("a.parquet", "b.parquet", rows.read_bytes())
    inputs.create("a.parquet", write(tmp_path / "other.parquet", begin=1).read_bytes())
    with pytest.raises(OutputError, match=r"inputs\[s3://.*/in/a\.parquet\]\.etag"):
        program.run(asked(where, out=out))


def test_other_readers_see_a_plain_data_set(program, rows, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    out = tmp_path / "out"
    program.run(asked(rows, out=out))
    ((count, total),) = duckdb.sql(
        f"select count(*), sum(y) from read_parquet('{out}/*.parquet')"
    ).fetchall()
    assert (count, total) == (ROWS, float(sum(range(ROWS)) * 2))
    table = ds.dataset(out).to_table()
    assert table["id"].to_pylist() == list(range(ROWS))
    assert pq.read_table(out).equals(table)
