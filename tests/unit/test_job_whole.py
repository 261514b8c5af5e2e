"""Parts that go or change after they were written: found by the listing, told, repaired."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.unit.test_jobrun import asked, digests, program, rows
from tritonbulk.cli.job import status_command, verify_command
from tritonbulk.cli.score import _print_summary
from tritonbulk.errors import DamagedError, MissingError, OptionError, OutputError
from tritonbulk.job.commit import OpenJob, look
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.projection import project
from tritonbulk.result import counts_of_manifest, standing_result

__all__ = ["program", "rows"]  # fixtures

PART = "part-00000004.parquet"


def remove(out):
    (out / PART).unlink()


def truncate(out):
    (out / PART).write_bytes((out / PART).read_bytes()[:-1])


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
    ("harm", "told"),
    [(remove, "it is missing"), (truncate, "were written"), (add, "it is in no manifest")],
)
def test_a_finished_job_that_is_not_whole_is_told_and_repaired(program, rows, tmp_path, harm, told):
    out = tmp_path / "out"
    program.run(asked(rows, out=out))
    whole = digests(out)
    harm(out)
    with pytest.raises(DamagedError, match=rf"{told}.*delete _tritonbulk/manifest\.json"):
        program.run(asked(rows, out=out))
    shown = CliRunner().invoke(status_command, [str(out), "--json"])
    assert isinstance(shown.exception, DamagedError)
    assert told in json.loads(shown.stdout.splitlines()[0])["problems"][0]
    if harm is add:
        (out / "part-00000010.parquet").unlink()
        assert program.run(asked(rows, out=out)) == (0, 10, None)
        return
    (out / "_tritonbulk" / "manifest.json").unlink()
    assert program.run(asked(rows, out=out))[:2] == (1, 9)
    assert digests(out) == whole
    assert CliRunner().invoke(status_command, [str(out)], standalone_mode=False).return_value == 0


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
    assert "run the same command again to do the rest" in shown.stdout


def test_the_summary_of_a_finished_job_is_one_line(program, rows, tmp_path, capsys):
    program.run(asked(rows, out=tmp_path / "out"))
    capsys.readouterr()
    job = look(LocalStore(tmp_path / "out")).jobs[0]
    counts = counts_of_manifest(job.manifest)
    _print_summary(standing_result("out", job.file, counts, 0.1, 0.1, 10), "")
    assert capsys.readouterr().out == (
        "nothing to score: 1,000 rows in 10 parts, 0 failed, are in out\n"
    )


def test_an_interrupt_while_packages_are_imported_is_one_line():
    """The import interrupts its own process, so there is no moment to hit."""
    code = (
        "import signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'pyarrow': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "sys.argv = ['tritonbulk', '--help']\n"
        "import runpy; runpy.run_module('tritonbulk', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (130, "tritonbulk: interrupted\n")


def test_the_package_is_a_command():
    call = [sys.executable, "-m", "tritonbulk", "--help"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "score" in done.stdout) == (0, True)
