"""Shards: who scores which segments, and a job of many processes that ends as one of one."""

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import tritonbulk
from tritonbulk import scoring
from tritonbulk.checking import status, verify
from tritonbulk.cli.job import commit_command, status_command
from tritonbulk.committing import commit
from tritonbulk.dispatch import Failure
from tritonbulk.errors import (
    ChangedError,
    DamagedError,
    OptionError,
    OutputError,
    UnfinishedError,
)
from tritonbulk.job.extent import read_rows, rows_bytes, shard_counts, shards_name
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.job.stores.opening import open_store
from tritonbulk.options import ScoreOptions
from tritonbulk.running import Observer
from tritonbulk.shards import Others, Shard, Split, parse_shard
from tritonbulk.testing import ScriptedTransport

ROWS = 1_050


@pytest.fixture(params=["rows.parquet", "rows.csv"])
def rows(tmp_path, request):
    return write(tmp_path / request.param, ROWS)


def write(path, rows):
    ids = np.arange(rows)
    table = pa.table({"id": ids, "x": ids.astype(np.float32)})
    if path.suffix == ".csv":
        pacsv.write_csv(table, path)
    else:
        pq.write_table(table, path, row_group_size=130)
    return path


def asked(*inputs, out, shard=None, **more):
    given = {"segment_rows": 100, "batch_rows": 32, **more}
    shard = None if shard is None else Shard(*shard)
    return ScoreOptions(inputs=tuple(map(str, inputs)), model="m", out=out, shard=shard, **given)


def digests(out):
    files = [*out.glob("part-*"), out / "_tritonbulk" / "manifest.json"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


class DyingTransport(ScriptedTransport):
    def __init__(self, requests):
        super().__init__(self.answer)
        self.left = requests

    def answer(self, tensors):
        self.left -= 1
        if self.left < 0:
            raise KilledError
        return {"y": tensors["x"] * 2}


class KilledError(BaseException):
    pass


@settings(max_examples=200)
@given(st.integers(1, 40), st.none() | st.integers(0, 300), st.data())
def test_every_segment_is_one_shards_and_shares_are_even(count, segments, data):
    split = Split(count, segments)
    known = 200 if segments is None else segments
    own = [
        [s for s in range(known) if s not in Others(split, Shard(i, count))] for i in range(count)
    ]
    assert sorted(s for each in own for s in each) == list(range(known))
    sizes = [len(each) for each in own]
    assert max(sizes) - min(sizes) <= 1
    if segments is not None:  # a run of them each
        assert [s for each in own for s in each] == list(range(known))
        at = data.draw(st.integers(0, count - 1))
        assert all(split.owner(s) == at for s in own[at])


@pytest.mark.parametrize(
    ("text", "environment", "found"),
    [
        ("0/8", {}, Shard(0, 8)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, Shard(7, 8)),
        ("auto/2", {"CLOUD_RUN_TASK_INDEX": "1"}, Shard(1, 2)),
        ("8/8", {}, "the last one is 7/8"),
        ("auto/8", {}, "JOB_COMPLETION_INDEX"),
        ("auto/8", {"JOB_COMPLETION_INDEX": "8"}, "the last one is 7/8"),
        ("0/0", {}, "give 1 to"),
        ("3", {}, "give i/n"),
        ("-1/8", {}, "give i/n"),
    ],
)
def test_a_shard_is_named_from_0_or_by_the_scheduler(text, environment, found):
    if isinstance(found, Shard):
        assert parse_shard(text, environment) == found
        return
    with pytest.raises(OptionError, match=found):
        parse_shard(text, environment)


@pytest.mark.parametrize("more", [{"fresh": True}, {"single_file": Path("all.csv")}])
def test_what_only_the_whole_job_can_do_is_refused_to_a_shard(more):
    with pytest.raises(OptionError):
        asked("rows.parquet", out="out", shard=(0, 2), **more)


@pytest.mark.parametrize("count", [1, 3, 8, 20])
def test_shards_give_the_parts_and_manifest_of_one_undivided_run(program, rows, tmp_path, count):
    program.run(asked(rows, out=tmp_path / "whole"))
    out = tmp_path / "out"
    for index in reversed(range(count)):
        program.run(asked(rows, out=out, shard=(index, count)))
    assert not (out / "_tritonbulk" / "manifest.json").exists()
    done = commit(open_store(out))
    assert (done.parts, done.rows, done.was_finished) == (11, ROWS, False)
    assert digests(out) == digests(tmp_path / "whole")
    assert commit(open_store(out)).was_finished
    assert ds.dataset(out).to_table()["id"].to_pylist() == list(range(ROWS))


def test_killed_shards_are_named_and_owe_what_a_retry_makes(program, rows, tmp_path):
    program.run(asked(rows, out=tmp_path / "whole"))
    out = tmp_path / "out"
    for index in range(4):
        dies = DyingTransport(4) if index in (1, 3) else None
        with contextlib.suppress(KilledError):
            program.run(asked(rows, out=out, shard=(index, 4)), transport=dies)
    runner = CliRunner()
    shown = runner.invoke(commit_command, [str(out), "--json"], standalone_mode=False)
    assert isinstance(shown.exception, UnfinishedError)
    assert shown.exception.retry_helps
    assert "run these shards again, then commit" in str(shown.exception)
    owed = json.loads(shown.stdout)["owed"]
    assert [each["shard"]["index"] for each in owed] == [1, 3]
    assert all(each["segments_all"] in (2, 3) for each in owed)
    missing = {segment for each in owed for segment in each["segments"]}
    stand = {int(part.name[5:13]) for part in out.glob("part-*")}
    assert missing == set(range(11)) - stand
    told = runner.invoke(status_command, [str(out)], standalone_mode=False).stdout
    assert "run what is left, then tritonbulk commit: shard 1/4: segment" in told
    for index in (3, 1, 1):
        program.run(asked(rows, out=out, shard=(index, 4)))
    told = runner.invoke(status_command, [str(out)], standalone_mode=False).stdout
    assert "11 of 11 parts, all of them; tritonbulk commit finishes the job" in told
    done = runner.invoke(commit_command, [str(out), "--json"], standalone_mode=False)
    assert (done.return_value, json.loads(done.stdout.splitlines()[-1])["rows"]) == (0, ROWS)
    assert digests(out) == digests(tmp_path / "whole")
    assert verify(LocalStore(out)).problems == ()


def test_rows_missing_at_the_end_of_a_csv_are_missed(program, tmp_path):
    """The parts tile without a gap: only who has read to the end knows that there is more."""
    path, out = write(tmp_path / "rows.csv", 1_000), tmp_path / "out"
    for index in (0, 1):
        program.run(asked(path, out=out, shard=(index, 2)))
    (out / "part-00000009.parquet").unlink()
    with pytest.raises(UnfinishedError, match="shard 1/2: segment 9"):
        commit(open_store(out))
    (out / "_tritonbulk" / "rows.json").unlink()
    with pytest.raises(UnfinishedError, match="shard 0/2: has not come to the end"):
        commit(open_store(out))


def test_a_job_whose_rows_nobody_counted_is_not_committed(program, tmp_path):
    path, out = write(tmp_path / "rows.csv", 1_000), tmp_path / "out"
    program.run(asked(path, out=out))
    (out / "_tritonbulk" / "manifest.json").unlink()
    with pytest.raises(UnfinishedError, match="run the command of the job again"):
        commit(open_store(out))


def test_one_bit_of_what_was_counted_is_noticed():
    data = rows_bytes("sha256:1", [7, 9])
    assert read_rows(data, "sha256:1", "rows.json") == (7, 9)
    for place in range(len(data)):
        with pytest.raises(DamagedError):
            read_rows(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], "sha256:1", "r")


def test_shards_that_counted_other_rows_are_refused(program, tmp_path):
    path, out = write(tmp_path / "rows.csv", 500), tmp_path / "out"
    program.run(asked(path, out=out, shard=(0, 2)))
    record = out / "_tritonbulk" / "rows.json"
    fingerprint = json.loads((out / "_tritonbulk" / "job.json").read_text())["fingerprint"]
    record.write_bytes(rows_bytes(fingerprint, [499]))
    with pytest.raises(ChangedError, match="500 rows, and another shard has found 499"):
        program.run(asked(path, out=out, shard=(1, 2)))


def test_a_job_without_a_row_has_its_one_part_from_the_first_shard(program, tmp_path):
    path = write(tmp_path / "rows.parquet", 0)
    program.run(asked(path, out=tmp_path / "whole"))
    out = tmp_path / "out"
    for index in range(3):
        program.run(asked(path, out=out, shard=(index, 3)))
    assert commit(open_store(out)).parts == 1
    assert digests(out) == digests(tmp_path / "whole")


def test_a_shard_reads_only_its_own_rows_of_parquet(program, tmp_path, monkeypatch):
    path = write(tmp_path / "rows.parquet", 1_000)
    read = []
    iterate = pq.ParquetFile.iter_batches

    def spy(self, size, groups=None, **more):
        for batch in iterate(self, size, groups, **more):
            read.extend(batch["id"].to_pylist())
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    program.run(asked(path, out=tmp_path / "out", shard=(1, 4)))
    assert len(set(read)) < 500


def test_a_shard_leaves_damaged_parts_of_others_alone_and_commit_names_them(program, tmp_path):
    path, out = write(tmp_path / "rows.parquet", 1_000), tmp_path / "out"
    for index in (0, 1):
        program.run(asked(path, out=out, shard=(index, 2)))
    part = out / "part-00000008.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-9] + b"x" + whole[-8:])
    said = []
    program.run(asked(path, out=out, shard=(0, 2)), say=said.append)
    assert said == []
    with pytest.raises(UnfinishedError, match="shard 1/2: segment 8"):
        commit(open_store(out), say=said.append)
    assert "part-00000008.parquet is damaged" in said[0]
    program.run(asked(path, out=out, shard=(1, 2)), say=said.append)
    assert part.read_bytes() == whole
    assert commit(open_store(out)).rows == 1_000


def test_commit_makes_rejects_and_one_file_and_tells_of_failed_rows(program, tmp_path):
    path, out = write(tmp_path / "rows.parquet", 1_000), tmp_path / "out"

    def model(tensors):
        poison = (tensors["x"] == 777).any()
        return Failure(3, "INVALID_ARGUMENT", "no") if poison else {"y": tensors["x"] * 2}

    for index in range(3):
        program.run(asked(path, out=out, shard=(index, 3)), transport=ScriptedTransport(model))
    shown = CliRunner().invoke(
        commit_command,
        [str(out), "--single-file", str(tmp_path / "all.csv")],
        standalone_mode=False,
    )
    assert (shown.return_value, shown.exception) == (1, None)
    assert "1,000 rows in 10 parts, 1 failed" in shown.stdout
    assert pq.read_table(out / "_tritonbulk" / "rejects.parquet")["id"].to_pylist() == [777]
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1_001


def test_shards_of_an_increment_end_in_its_own_manifest(program, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write(folder / "a.csv", 250)
    for index in range(2):
        program.run(asked(folder, out=out, shard=(index, 2), only_new=True))
    commit(open_store(out))
    write(folder / "b.csv", 330)
    for index in range(3):
        program.run(asked(folder, out=out, shard=(index, 3), only_new=True))
    assert [job.shards for job in status(LocalStore(out))] == [(), (3,)]
    commit(open_store(out))
    assert [job.rows for job in status(LocalStore(out))] == [250, 330]
    assert verify(LocalStore(out)).problems == ()


def test_how_a_job_was_split_is_told_by_names_alone():
    names = [
        shards_name(increment, n).rpartition("/")[2] for increment, n in ((0, 8), (0, 3), (2, 5))
    ]
    assert shard_counts([*names, "other"], 0) == (3, 8)
    assert shard_counts(names, 2) == (5,)


def test_an_output_without_a_job_is_not_committed(tmp_path):
    with pytest.raises(OutputError, match="holds no job"):
        tritonbulk.commit(tmp_path / "out")
    with pytest.raises(OptionError, match="readers would see every row twice"):
        tritonbulk.commit(tmp_path / "out", single_file=tmp_path / "out" / "all.csv")


def test_shards_work_on_an_object_store(program, bucket, tmp_path):
    path = write(tmp_path / "rows.csv", 500)
    program.run(asked(path, out=tmp_path / "whole"))
    out = f"{bucket}/scored"
    for index in (1, 0, 1):
        program.run(asked(path, out=out, shard=(index, 2)))
    assert commit(open_store(out)).rows == 500
    store = open_store(out)
    found = {name: store.read(name) for name in store.names("")}
    found["manifest.json"] = store.read("_tritonbulk/manifest.json")
    assert {n: hashlib.sha256(data).hexdigest() for n, data in found.items()} == digests(
        tmp_path / "whole"
    )


@pytest.mark.live
def test_a_shard_that_saw_newer_files_joins_the_increment_that_was_begun(
    triton, tmp_path, monkeypatch
):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()

    def add(name):
        column = pa.array(np.arange(40), pa.float32())
        pq.write_table(pa.table(dict.fromkeys("abcd", column)), folder / f"{name}.parquet")

    def shard(text, **more):
        return tritonbulk.score(
            folder, model="double", out=out, endpoints=[triton.grpc], input_map={"x": list("abcd")},
            segment_rows=10, only_new=True, shard=text, columns="[a-d]", **more,
        )  # fmt: skip

    add("a")
    for text in ("0/2", "1/2"):
        shard(text)
    tritonbulk.commit(out)
    before = scoring.look(LocalStore(out))
    add("b")
    shard("0/2")
    add("c")
    looks = iter([before])
    look = scoring.look
    monkeypatch.setattr(scoring, "look", lambda *given: next(looks, None) or look(*given))
    said = []
    monkeypatch.setattr(scoring, "Observer", lambda: Observer(say=said.append))
    assert shard("1/2").job_rows == 20
    assert any("came since this increment was begun: 1;" in each for each in said)
    tries, contract = [], scoring.read_contract
    monkeypatch.setattr(
        scoring, "read_contract", lambda given: tries.append(given) or contract(given)
    )
    with pytest.raises(OutputError, match="output"):  # a refusal that another try does not change
        shard("1/2", keep="a")
    assert len(tries) == 1
    assert tritonbulk.commit(out).rows == 40
    assert verify(LocalStore(out)).problems == ()
