"""Parts that go or change after they were written: found by the listing, told, repaired."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.unit.test_jobrun import asked, digests, rows, write
from tritonbulk.checking import status, verify
from tritonbulk.cli.job import status_command, verify_command
from tritonbulk.cli.score import _print_summary
from tritonbulk.errors import DamagedError, MissingError, OptionError, OutputError
from tritonbulk.job.commit import OpenJob, look
from tritonbulk.job.repair import listed_names
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.projection import project
from tritonbulk.result import counts_of_manifest, standing_result

__all__ = ["rows"]  # a fixture

PART = "part-00000004.parquet"
MANIFEST = r"_tritonbulk/manifest\.json"


def remove(out):
    (out / PART).unlink()


def truncate(out, name=PART):
    (out / name).write_bytes((out / name).read_bytes()[:-1])


def add(out):
    (out / "part-00000010.parquet").write_bytes((out / PART).read_bytes())


@pytest.mark.parametrize("harm", [remove, truncate])
def test_no_manifest_lists_a_part_that_changed_while_the_run_went_on(
    program, rows, tmp_path, monkeypatch, harm
):
    program.run(asked(rows, out=tmp_path / "clean"))
    out, finish = tmp_path / "out", OpenJob.finish
    monkeypatch.setattr(OpenJob, "finish", lambda job: (harm(out), finish(job))[1])
    with pytest.raises(MissingError, match=rf"{PART} has .* since it was written") as found:
        program.run(asked(rows, out=out))
    assert (found.value.exit_code, found.value.retry_helps) == (3, True)
    assert not (out / "_tritonbulk" / "manifest.json").exists()
    monkeypatch.setattr(OpenJob, "finish", finish)
    assert program.run(asked(rows, out=out))[:2] == (1, 9)
    assert digests(out) == digests(tmp_path / "clean")


@pytest.mark.parametrize(
    ("harm", "told", "mends"),
    [
        (remove, "it is missing", rf"restore {PART} from a copy, or delete {MANIFEST}"),
        (truncate, "were written", rf"restore {PART} from a copy, or delete {MANIFEST} and {PART}"),
        (add, "it is in no manifest", r"remove part-00000010\.parquet$"),
    ],
)
def test_a_finished_job_that_is_not_whole_is_told_and_repaired(
    program, rows, tmp_path, harm, told, mends
):
    out = tmp_path / "out"
    program.run(asked(rows, out=out))
    whole = digests(out)
    harm(out)
    with pytest.raises(DamagedError, match=f"{told}.*; {mends}"):
        program.run(asked(rows, out=out))
    for command in (status_command, verify_command):
        shown = CliRunner().invoke(command, [str(out), "--json"])
        assert isinstance(shown.exception, DamagedError)
        found = json.loads(next(line for line in shown.stdout.splitlines() if line[0] == "{"))
        assert len(found["problems"]) == 1
        assert re.match(mends, found["repair"])
        assert str(shown.exception).endswith(f"has 1 problem; {found['repair']}")
    assert status(LocalStore(out))[0].parts == (9 if harm is remove else 10)
    if harm is add:
        (out / "part-00000010.parquet").unlink()
        assert program.run(asked(rows, out=out)) == (0, 10, None)
        return
    (out / "_tritonbulk" / "manifest.json").unlink()
    (out / PART).unlink(missing_ok=True)
    assert program.run(asked(rows, out=out))[:2] == (1, 9)
    assert digests(out) == whole
    assert CliRunner().invoke(status_command, [str(out)], standalone_mode=False).return_value == 0


def test_what_verify_advises_for_a_finished_job_is_what_the_next_run_accepts(
    program, rows, tmp_path
):
    out, other, third = tmp_path / "out", tmp_path / "other", "part-00000003.parquet"
    program.run(asked(rows, out=out))
    whole = digests(out)
    program.run(asked(rows, out=other), model=program.served("2"))
    shutil.copy(other / PART, out / PART)
    shutil.copy(out / "part-00000002.parquet", out / third)
    (out / "part-00000007.parquet").unlink()
    repair = verify(LocalStore(out)).repair
    (gone,) = re.findall(r"or delete (.*) and run the same command again", repair)
    assert gone == f"_tritonbulk/manifest.json, {third} and {PART}"
    for name in re.split(", | and ", gone):
        (out / name).unlink()
    assert program.run(asked(rows, out=out))[:2] == (3, 7)
    assert digests(out) == whole


def test_what_verify_advises_for_an_unfinished_job_is_what_the_next_run_accepts(
    program, rows, tmp_path
):
    out, other, stray = tmp_path / "out", tmp_path / "other", "part-00000099.parquet"
    program.run(asked(rows, out=out))
    whole = digests(out)
    program.run(asked(rows, out=other), model=program.served("2"))
    (out / "_tritonbulk" / "manifest.json").unlink()
    shutil.copy(other / PART, out / PART)
    shutil.copy(out / "part-00000003.parquet", out / stray)
    (out / "part-00000002.parquet").unlink()
    truncate(out, "part-00000007.parquet")
    found = verify(LocalStore(out))
    assert found.problems == (
        f"{PART}: it is a part of another job",
        "part-00000007.parquet: its bytes do not match its seal",
        f"{stray}: it is the part of segment 3 under another name",
    )
    again = "run the same command again, which sets damaged parts aside and scores the rest"
    assert found.repair == f"remove {PART} and {stray}, then {again}"
    (told,) = status(LocalStore(out))
    assert (told.parts, told.parts_expected) == (9, 10)
    assert told.problems == (f"{stray}: the job has no such segment",)
    assert told.repair == f"remove {stray}, then run the same command again"
    assert [each.segments for each in told.owed] == [(2,)]
    for name, why in ((PART, "another job"), (stray, "segment 3 under another name")):
        with pytest.raises(OutputError, match=f"{name}: .*{why}; remove it"):
            program.run(asked(rows, out=out))
        (out / name).unlink()
    program.run(asked(rows, out=out))
    assert digests(out) == whole


def test_a_part_that_a_later_job_follows_is_restored(program, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a", "b"):
        write(folder / f"{name}.parquet")
        program.run(asked(folder, out=out, only_new=True))
    remove(out)
    found = verify(LocalStore(out))
    assert found.repair == f"restore {PART} from a copy, or score into another --out"
    write(folder / "c.parquet")
    with pytest.raises(DamagedError, match=f"{PART}: it is missing; {found.repair}"):
        program.run(asked(folder, out=out, only_new=True))
    shown = CliRunner().invoke(status_command, [str(out)])
    assert "2 jobs in all: 19 parts; 2,000 rows, 0 failed" in shown.stdout
    (folder / "a.parquet").unlink()
    write(folder / "b.parquet", rows=900)
    assert "restore the input " in verify(LocalStore(out)).repair


def test_many_names_are_cut_short():
    assert listed_names(["a"]) == "a"
    assert listed_names(list("abcdefgh")) == "a, b, c, d, e and 3 more"


def test_a_job_that_another_run_finishes_during_the_look_is_whole(program, rows, tmp_path):
    out = tmp_path / "out"
    program.run(asked(rows, out=out))

    class Stale(LocalStore):
        lists = 0

        def sizes(self, folder):
            Stale.lists += 1
            found = super().sizes(folder)
            if Stale.lists == 1:
                found.pop(PART)
            return found

    assert len(look(Stale(out)).parts) == 10
    assert Stale.lists == 2


def test_a_csv_that_cannot_hold_a_column_is_refused_before_the_first_row(program, tmp_path):
    table = pa.table({"x": np.ones(5, np.float32), "list": [[1, 2]] * 5})
    pq.write_table(table, tmp_path / "rows.parquet")
    single, out = tmp_path / "new" / "all.csv", tmp_path / "out"
    with pytest.raises(OptionError, match=r"'list' holds lists.*leave the column out with --keep"):
        program.run(asked(tmp_path / "rows.parquet", out=out, single_file=single))
    assert not out.exists()
    program.run(asked(tmp_path / "rows.parquet", out=out))
    with pytest.raises(OutputError, match="holds lists or bytes"):
        project(LocalStore(out), look(LocalStore(out)).listed, single)
    assert not single.parent.exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"single_file": "s3://bucket/all.csv"}, "one local file"),
        ({"single_file": "rows.parquet"}, "--single-file rows.parquet is an input"),
        ({"out": ""}, "--out is empty"),
        ({"memory_bytes": 10}, "--memory is 10 bytes; give 1MiB"),
    ],
)
def test_places_and_sizes_without_a_meaning_are_refused(options, told):
    if "single_file" in options:
        options = {"single_file": Path(options["single_file"])}
    with pytest.raises(OptionError, match=told):
        asked("rows.parquet", **{"out": "out", **options})


def test_verify_tells_an_unfinished_job_and_inputs_it_cannot_check(program, rows, tmp_path):
    out = tmp_path / "out"
    program.run(asked(rows, out=out, limit_rows=100))
    shown = CliRunner().invoke(verify_command, [str(out)], standalone_mode=False)
    assert "1 part with 100 rows is as it was written\nnot checked: " in shown.stdout
    assert "--limit left 900 of its rows unscored" in shown.stdout
    rows.unlink()
    shown = CliRunner().invoke(verify_command, [str(out)], standalone_mode=False)
    assert "rows.parquet: it has gone, or cannot be read" in shown.stdout
    (out / "_tritonbulk" / "manifest.json").unlink()
    shown = CliRunner().invoke(verify_command, [str(out)], standalone_mode=False)
    assert (shown.return_value, shown.exception) == (0, None)
    assert shown.stdout.endswith("run the same command again to do the rest\n")


def test_the_summary_of_a_finished_job_is_one_line(program, rows, tmp_path, capsys):
    program.run(asked(rows, out=tmp_path / "out"))
    capsys.readouterr()
    job = look(LocalStore(tmp_path / "out")).jobs[0]
    counts = counts_of_manifest(job.manifest)
    _print_summary(standing_result("out", job.file, counts, 0.1, 0.1, 10), "")
    assert capsys.readouterr().out == (
        "nothing to score: 1,000 rows in 10 parts, 0 failed, are in out\n"
    )
