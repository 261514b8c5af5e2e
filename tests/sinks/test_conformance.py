"""What every sink promises: the rows of a job are in it once, all or none of a commit's."""

import importlib
import shutil

import pyarrow as pa
import pytest

from tests.sinks import jobs
from tritonbulk.errors import DamagedError, OutputError, SinkError
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.sinks.publish import publish


def never(seconds):
    assert not seconds, "there is nothing to wait for"


def test_rows_are_those_of_the_parts_and_a_second_run_adds_none(out, place):
    first = publish(LocalStore(out), place.open(), sleep=never)
    assert (first.rows, first.parts, first.rows_before) == (jobs.ROWS, jobs.PARTS, 0)
    assert place.rows() == jobs.rows()
    again = publish(LocalStore(out), place.open(), sleep=never)
    assert (again.rows, again.parts, again.rows_before) == (0, 0, jobs.ROWS)
    assert place.rows() == jobs.rows()


def test_commits_of_any_size_go_on_where_the_last_one_ended(out, place):
    class FullError(Exception):
        pass

    class FailsAfterTwo:
        def __init__(self, sink):
            self.sink, self.name, self.commits = sink, sink.name, 0
            self.prepare, self.published = sink.prepare, sink.published

        def append(self, portion):
            if self.commits == 2:
                raise FullError
            self.commits += 1
            self.sink.append(portion)

    with pytest.raises(FullError):
        publish(LocalStore(out), FailsAfterTwo(place.open()), parts_per_commit=3, sleep=never)
    assert len(place.rows()) == 6 * jobs.SEGMENT_ROWS
    done = publish(LocalStore(out), place.open(), parts_per_commit=4, sleep=never)
    assert (done.parts, done.parts_before) == (4, 6)
    assert place.rows() == jobs.rows()


def test_an_increment_is_added_and_another_job_as_well(tmp_path, place):
    out = jobs.score(tmp_path)
    publish(LocalStore(out), place.open(), sleep=never)
    jobs.score(tmp_path, begins=(0, 5_000), only_new=True)
    done = publish(LocalStore(out), place.open(), sleep=never)
    assert (done.rows, done.rows_before) == (jobs.ROWS, jobs.ROWS)
    assert place.rows() == jobs.rows((0, 5_000))
    other = jobs.score(tmp_path, name="other", begins=(), where="id >= 5990")
    publish(LocalStore(other), place.open(), sleep=never)
    assert len(place.rows()) == 2 * jobs.ROWS + 10


@pytest.mark.parametrize("is_done", [True, False])
def test_a_lost_answer_doubles_nothing_and_leaves_nothing_out(out, place, is_done):
    class Lossy:
        def __init__(self, sink):
            self.sink, self.name, self.lost = sink, sink.name, 0
            self.prepare, self.published = sink.prepare, sink.published

        def append(self, portion):
            self.lost += 1
            if self.lost % 2 == 0:
                self.sink.append(portion)
                return
            if is_done:
                self.sink.append(portion)
            raise SinkError("no answer")

    said = []
    publish(
        LocalStore(out),
        Lossy(place.open()),
        parts_per_commit=5,
        say=said.append,
        sleep=lambda _: None,
    )
    assert place.rows() == jobs.rows()
    assert said
    assert "no answer" in said[0]


def test_a_commit_that_came_too_late_is_refused(out, place):
    sink = place.open()
    seen = []

    class Overtaken:
        name, prepare, published = sink.name, sink.prepare, sink.published

        def append(self, portion):
            seen.append(portion)
            if len(seen) == 1:
                publish(LocalStore(out), place.open(), sleep=never)
            sink.append(portion)

    done = publish(LocalStore(out), Overtaken(), sleep=lambda _: None)
    assert (done.rows, done.parts) == (0, 0), "all rows are the other run's"
    assert place.rows() == jobs.rows()
    assert len(seen) == 1, "after the refusal nothing is left to do"


def test_a_run_that_stalls_before_a_commit_of_no_rows_sets_nothing_back(
    tmp_path, kind, place, monkeypatch
):
    if kind in ("duckdb", "postgresql"):
        pytest.skip("runs wait for each other there")
    out = jobs.score(tmp_path, where="id >= 250 and id < 620")
    module = importlib.import_module(f"tritonbulk.sinks.{kind}")
    check_turn, turns = module.check_turn, []

    def stalled(*turn):
        check_turn(*turn)
        turns.append(turn)
        if len(turns) == 1:
            publish(LocalStore(out), place.open(), parts_per_commit=1, sleep=never)

    monkeypatch.setattr(module, "check_turn", stalled)
    done = publish(LocalStore(out), place.open(), parts_per_commit=1, sleep=lambda _: None)
    assert place.rows() == jobs.rows()[250:620]
    assert (done.rows, done.parts) == (0, 0), "all rows are the other run's"


def test_a_damaged_part_is_told_as_such_and_publishes_nothing(out, place, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    part = copy / "part-00000004.parquet"
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    with pytest.raises(DamagedError, match=r"part-00000004\.parquet is damaged"):
        publish(LocalStore(copy), place.open(), sleep=never)
    assert place.rows() == []


def test_a_table_that_lacks_a_column_is_refused_before_the_first_row(tmp_path, place):
    narrow = jobs.score(tmp_path, name="narrow", keep=("id",))
    wide = jobs.score(tmp_path, name="wide")
    publish(LocalStore(narrow), place.open(), sleep=never)
    with pytest.raises(OutputError, match="column"):
        publish(LocalStore(wide), place.open(), sleep=never)
    assert len(place.rows()) == jobs.ROWS


@pytest.mark.parametrize("options", [{"out_format": "arrow"}, {"vectors": "binary"}])
def test_parts_of_every_form_give_the_same_rows(tmp_path, place, options):
    out = jobs.score(tmp_path, **options)
    publish(LocalStore(out), place.open(), sleep=never)
    assert place.rows() == jobs.rows()


def test_a_job_without_rows_makes_an_empty_table(tmp_path, place):
    out = jobs.score(tmp_path, where="id < 0")
    done = publish(LocalStore(out), place.open(), sleep=never)
    assert (done.rows, done.parts) == (0, jobs.PARTS)
    assert place.read().num_rows == 0
    assert "vector" in place.read().column_names


def test_an_unfinished_job_is_not_published(out, place, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "_tritonbulk" / "manifest.json").unlink()
    with pytest.raises(OutputError, match="is unfinished"):
        publish(LocalStore(copy), place.open(), sleep=never)


def test_types_are_held_or_refused(kind, place):
    sink = place.open()
    table = {
        "u64": pa.uint64(),
        "u8": pa.uint8(),
        "half": pa.float16(),
        "when": pa.timestamp("s"),
        "day": pa.date64(),
        "texts": pa.list_(pa.string()),
        "nothing": pa.null(),
        "bytes": pa.binary(4),
        "flag": pa.bool_(),
    }
    sink.prepare(pa.schema(table))
    sink.prepare(pa.schema(table))  # what it has made, it takes
    if kind in ("delta", "iceberg", "postgresql"):
        with pytest.raises(OutputError, match="column 'odd' is map"):
            sink.prepare(pa.schema({**table, "odd": pa.map_(pa.string(), pa.int8())}))
