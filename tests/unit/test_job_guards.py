"""What a job refuses and finds: changed inputs, its own output as input, failed rows, damage."""

import os
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tritonbulk.checking import verify
from tritonbulk.dispatch import Failure
from tritonbulk.errors import (
    ChangedError,
    FailureLimitError,
    InputError,
    MissingError,
    ModelError,
    OutputError,
    StoppedError,
)
from tritonbulk.job.commit import look, open_job
from tritonbulk.job.manifest import StoredPart
from tritonbulk.job.protocol import follows_on, joins
from tritonbulk.job.statement import PartStatement
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.modelfiles import check_loaded, hash_model
from tritonbulk.options import ScoreOptions
from tritonbulk.segments import Segment
from tritonbulk.source import dataset as dataset_module
from tritonbulk.source import open_source
from tritonbulk.testing import MemoryStore, ScriptedTransport


def write(path, begin=0, rows=1_000):
    ids = np.arange(begin, begin + rows)
    table = pa.table({"id": ids, "x": ids.astype(np.float32)})
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".csv":
        pacsv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


def asked(*inputs, out, **more):
    given = {"segment_rows": 100, "batch_rows": 32, **more}
    return ScoreOptions(inputs=tuple(map(str, inputs)), model="m", out=out, **given)


def unfinish(out, *missing):
    (out / "_tritonbulk" / "manifest.json").unlink()
    for segment in missing:
        (out / f"part-{segment:08d}.parquet").unlink()


# Inputs that change


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_a_finished_file_that_grows_while_a_later_one_is_read_makes_no_part(
    program, tmp_path, extension
):
    """Of CSV it would number the segments after it, and all of them would be sealed."""
    a = write(tmp_path / "in" / f"a.{extension}", rows=300)
    b = write(tmp_path / "in" / f"b.{extension}", 300, rows=300)
    out = tmp_path / "out"
    program.run(asked(a, b, out=out))
    unfinish(out, 4, 5)
    before = sorted(path.name for path in out.glob("part-*"))
    options = asked(a, b, out=out)
    source = open_source(options.inputs)
    # It grows once the run has looked at it, before it reads.
    inputs = program.job_inputs(source, options, look(LocalStore(out)))
    write(a, rows=450)
    plan = program.make_plan(options, program.served(), source.schema, None, source.name)
    spec = program.make_spec(options, inputs, program.served(), plan, 100)
    job = open_job(LocalStore(out), spec, look(LocalStore(out)), lambda _: None)
    with pytest.raises(ChangedError, match="has changed since the run began") as changed:
        list(program.missing_segments(inputs, job, plan, 100, None))
    assert not changed.value.retry_helps
    assert sorted(path.name for path in out.glob("part-*")) == before


def part(segment, file, begin, end):
    stated = PartStatement("f", segment, file, begin, end, end - begin, 0, 0)
    return StoredPart(f"part-{segment}", stated, 1, "")


def test_a_segment_joins_the_parts_beside_it_or_is_refused():
    parts = {3: part(3, 0, 300, 350), 5: part(5, 1, 100, 200)}
    assert joins(parts, Segment(4, 1, 0, 100))
    assert joins(parts, Segment(4, 1, 0, 40, 60))
    assert not joins(parts, Segment(4, 1, 0, 90))
    assert not joins(parts, Segment(4, 0, 300, 50))
    assert not joins(parts, Segment(4, 1, 50, 50))
    assert not joins(parts, Segment(6, 1, 100, 50))
    assert joins(parts, Segment(6, 2, 0, 50))
    assert joins({}, Segment(0, 0, 0, 1))


def test_rows_that_are_numbered_otherwise_than_in_the_output_are_refused(
    program, tmp_path, monkeypatch
):
    rows, out = write(tmp_path / "rows.parquet"), tmp_path / "out"
    program.run(asked(rows, out=out))
    unfinish(out, 4)
    cut = dataset_module.cut

    def shifted(blocks, rows):
        for at, pieces in enumerate(cut(blocks, rows)):
            yield [piece.slice(0, 60) for piece in pieces] if at == 0 else pieces

    monkeypatch.setattr(dataset_module, "cut", shifted)
    with pytest.raises(ChangedError, match="not those that stand in the output"):
        program.run(asked(rows, out=out))


def test_strict_inputs_notice_a_change_that_keeps_size_and_time(program, tmp_path):
    rows, out = write(tmp_path / "rows.csv"), tmp_path / "out"
    kept, other = rows.stat().st_mtime_ns, tmp_path / "other.csv"

    def disturb(tensors):
        if tensors["x"][0] > 300 and not other.exists():
            other.write_bytes(rows.read_bytes())
            os.utime(other, ns=(kept, kept))
            other.replace(rows)
            other.touch()
        return {"y": tensors["x"] * 2}

    with pytest.raises(ChangedError, match="has changed since the run began"):
        program.run(asked(rows, out=out, strict_inputs=True), transport=ScriptedTransport(disturb))
    assert not (out / "_tritonbulk" / "manifest.json").exists()


# The output as input


def test_an_output_below_the_input_folder_is_no_input(tmp_path):
    folder = tmp_path / "data"
    write(folder / "a.parquet")
    write(folder / "scored" / "part-00000000.parquet")
    write(folder / "all.parquet")
    written = (folder / "scored", folder / "all.parquet")
    for name in (folder, folder / "**"):
        found = open_source([str(name)], leave_out=written).files
        assert [Path(each.path).name for each in found] == ["a.parquet"]
    for name in (folder / "scored", folder / "scored" / "part-00000000.parquet"):
        with pytest.raises(InputError, match="lies where the output is written"):
            open_source([str(name)], leave_out=written)


def test_an_output_below_the_input_on_an_object_store_is_no_input(tmp_path, bucket):
    from tritonbulk.job.stores.object import ObjectStore  # noqa: PLC0415

    store, data = ObjectStore(f"{bucket}/data"), write(tmp_path / "a.parquet").read_bytes()
    for name in ("a.parquet", "scored/part-00000000.parquet"):
        store.create(name, data)
    found = open_source([f"{bucket}/data"], leave_out=(f"{bucket}/data/scored",)).files
    assert [each.name for each in found] == [f"{bucket}/data/a.parquet"]


def test_files_that_are_no_parts_are_refused_beside_parts(program, tmp_path):
    rows, out = write(tmp_path / "rows.parquet"), tmp_path / "out"
    write(out / "other.parquet")
    with pytest.raises(OutputError, match=r"holds other\.parquet, which is no part"):
        program.run(asked(rows, out=out))
    assert [path.name for path in out.iterdir()] == ["other.parquet"]
    (out / "other.parquet").rename(out / "_other.parquet")
    assert program.run(asked(rows, out=out))[:2] == (10, 0)
    (out / "_other.parquet").rename(out / "other.parquet")
    assert verify(LocalStore(out)).problems == ("other.parquet: it is no part of a job",)


# Models


def write_model(folder):
    for path, data in {
        "m/config.pbtxt": b"max_batch_size: 8",
        "m/1/model.onnx": b"one",
        "m/2/model.onnx": b"two",
        "m/1/__pycache__/x.pyc": b"",
        "step/1/model.onnx": b"step",
        "other/1/model.onnx": b"other",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def test_a_models_bytes_are_its_identity(tmp_path):
    write_model(tmp_path)
    first = hash_model(tmp_path, "m")
    assert set(first.digests) == {"m/config.pbtxt", "m/1/model.onnx", "m/2/model.onnx"}
    (tmp_path / "m/2/model.onnx").write_bytes(b"2")
    second = hash_model(tmp_path, "m")
    assert second.digests != first.digests
    assert second.of_version("m", "1") == first.of_version("m", "1")
    path = tmp_path / "m/1/model.onnx"
    kept = path.stat().st_mtime_ns
    path.write_bytes(b"eno")
    os.utime(path, ns=(kept, kept))
    third = hash_model(tmp_path, "m")
    assert third.of_version("m", "1") != first.of_version("m", "1")
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(b"one")
    path.symlink_to(tmp_path / "elsewhere")
    assert hash_model(tmp_path, "m").of_version("m", "1") == first.of_version("m", "1")


def test_the_steps_of_an_ensemble_are_part_of_it(tmp_path):
    write_model(tmp_path)
    (tmp_path / "m/config.pbtxt").write_text(
        'platform: "ensemble" ensemble_scheduling { step { model_name: "step" } '
        'step { model_name: "m" } }'
    )
    first = hash_model(tmp_path, "m")
    assert "step/1/model.onnx" in first.digests
    (tmp_path / "step/1/model.onnx").write_bytes(b"other")
    assert hash_model(tmp_path, "m").of_version("m", "1") != first.of_version("m", "1")


def test_a_model_that_changes_while_the_server_starts_is_refused(tmp_path):
    write_model(tmp_path)
    files = hash_model(tmp_path, "m")
    check_loaded(tmp_path, "m", files)
    (tmp_path / "m/1/model.onnx").write_bytes(b"changed")
    with pytest.raises(ModelError, match=r"m/1/model\.onnx changed while the server started"):
        check_loaded(tmp_path, "m", files)


def test_a_replaced_model_file_under_one_version_is_another_job(program, tmp_path):
    rows, out = write(tmp_path / "rows.parquet"), tmp_path / "out"
    write_model(tmp_path)
    program.run(asked(rows, out=out), files=hash_model(tmp_path, "m"))
    unfinish(out, 3)
    (tmp_path / "m/1/model.onnx").write_bytes(b"eno")
    with pytest.raises(OutputError, match=r"model\.files_digest.*put the old ones back"):
        program.run(asked(rows, out=out), files=hash_model(tmp_path, "m"))


# Failed rows

BAD = Failure(3, "INVALID_ARGUMENT", "no")


class Refusing(ScriptedTransport):
    """A model that refuses every row from one number to another."""

    def __init__(self, begin, end):
        super().__init__(lambda tensors: {"y": tensors["x"] * 2})
        self.begin, self.end = begin, end

    async def infer(self, request, timeout_s):
        from tritonclient.grpc import service_pb2  # noqa: PLC0415

        from tritonbulk.testing import decode_tensors  # noqa: PLC0415
        from tritonbulk.transport import AttemptFailedError  # noqa: PLC0415

        rows = decode_tensors(service_pb2.ModelInferRequest.FromString(request.to_bytes()))["x"]
        if ((rows >= self.begin) & (rows < self.end)).any():
            raise AttemptFailedError(BAD)
        return await super().infer(request, timeout_s)


def test_failed_rows_of_earlier_runs_count_against_the_limit(program, tmp_path):
    rows, out = write(tmp_path / "rows.parquet"), tmp_path / "out"
    options = asked(rows, out=out, failed_fraction_max=0.02)
    program.run(options, transport=Refusing(100, 115), limited=True)
    unfinish(out, 5)
    with pytest.raises(FailureLimitError, match=r"21 rows failed.*allows 20"):
        program.run(options, transport=Refusing(500, 515), limited=True)
    assert program.run(options, transport=Refusing(500, 505), limited=True)[:2] == (1, 9)


def test_status_columns_are_left_out_where_no_row_fails(program, tmp_path):
    rows, out = write(tmp_path / "rows.parquet"), tmp_path / "out"
    options = asked(rows, out=out, status_columns=False)
    program.run(options)
    assert ds.dataset(out).to_table().column_names == ["id", "x", "y"]
    assert verify(LocalStore(out)).problems == ()
    with pytest.raises(OutputError, match=r"_tritonbulk_error\] added \(--no-status\)"):
        program.run(asked(rows, out=out))
    other = asked(rows, out=tmp_path / "other", status_columns=False)
    with pytest.raises(FailureLimitError):
        program.run(other, transport=Refusing(500, 501), limited=True)
    with pytest.raises(FailureLimitError, match="without status columns"):
        program.run(other, transport=Refusing(500, 501))
    assert program.run(other)[2] is not None


# Damage, and ends


def test_verify_reads_the_parts_of_an_unfinished_job(program, tmp_path):
    rows, out = write(tmp_path / "rows.parquet"), tmp_path / "out"
    program.run(asked(rows, out=out))
    unfinish(out, 6)
    found = verify(LocalStore(out))
    assert (found.parts, found.rows) == (9, 900)
    assert (found.problems, found.is_finished) == ((), False)
    data = bytearray((out / "part-00000003.parquet").read_bytes())
    data[40] ^= 1
    (out / "part-00000003.parquet").write_bytes(data)
    (out / "part-00000007.parquet").rename(out / "part-00000006.parquet")
    problems = verify(LocalStore(out)).problems
    assert [each.split(":")[0] for each in problems] == [
        "part-00000003.parquet",
        "part-00000006.parquet",
    ]


def test_parts_may_have_gaps_between_them_but_no_overlap():
    one = part(3, 0, 300, 400).statement
    assert follows_on(one, part(4, 0, 400, 500).statement)
    assert follows_on(one, part(9, 0, 900, 950).statement)
    assert follows_on(one, part(4, 1, 0, 50).statement)
    assert not follows_on(one, part(4, 0, 350, 400).statement)
    assert not follows_on(one, part(4, 1, 50, 60).statement)
    assert not follows_on(one, part(9, 0, 200, 300).statement)


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_whoever_is_no_longer_waited_for_gives_up(program, tmp_path, extension):
    left = threading.Event()

    def sleep(seconds):
        if left.wait(min(seconds, 0.01)):
            raise StoppedError("stopped")

    rows, out = write(tmp_path / f"rows.{extension}"), tmp_path / "out"
    program.run(asked(rows, out=out))
    unfinish(out)
    left.set()
    with pytest.raises(StoppedError):
        program.run(asked(rows, out=out), sleep=sleep)


def test_a_part_that_is_damaged_while_it_is_wanted_is_mended_by_the_next_run():
    import tests.unit.test_job as pure  # noqa: PLC0415

    store = MemoryStore()
    job = open_job(store, pure.SPEC, look(store), lambda _: None)
    store.objects["part-00000000.parquet"] = b"damaged"
    wanted = pure.statements()[0]
    with pytest.raises(MissingError, match="run the same command again") as damaged:
        job.commit(wanted, wanted.to_text().encode())
    assert damaged.value.retry_helps
    with pytest.raises(MissingError) as missing:
        job.finish()
    assert missing.value.retry_helps
