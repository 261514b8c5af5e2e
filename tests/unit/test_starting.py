"""The command's first and last moments: signals, exit codes, one line an error."""

import signal
import subprocess
import sys

import click
import pytest

from tritonbulk.cli import main as cli
from tritonbulk.cli.common import size_bytes
from tritonbulk.cli.score import command as score
from tritonbulk.errors import OptionError

SCORE = ["score", "a b.parquet", "--model", "m", "--out", "s3://key:secret@bucket/x?sig=1"]
TO_GO_ON = "to go on: tritonbulk score 'a b.parquet' --model m --out s3://bucket/x\n"


def run(before, *words):
    """Run the command in a process of its own, in which ``before`` ran first."""
    code = f"import sys\n{before}\nsys.argv = ['tritonbulk', *{list(words)}]\n"
    code += "import runpy; runpy.run_module('tritonbulk', run_name='__main__')\n"
    call = [sys.executable, "-c", code]
    return subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("package", ["click", "pyarrow"])
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_while_packages_are_imported_says_how_to_go_on(package, number, code, word):
    """The import interrupts its own process, so there is no moment to hit."""
    interrupt = (
        "import signal\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {package!r}: signal.raise_signal({int(number)})\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    done = run(interrupt, *SCORE)
    assert (done.returncode, done.stderr) == (code, f"tritonbulk: {word}\n{TO_GO_ON}")
    if package == "click":
        other = run(interrupt, "verify", "out")
        assert (other.returncode, other.stderr) == (code, f"tritonbulk: {word}\n")
        in_json = run(interrupt, *SCORE, "--log-format", "json")
        assert "to go on" not in in_json.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_between_imports_and_the_run_does_too(monkeypatch, capsys, number, code):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    class Interrupted:
        def main(self, **_):
            signal.raise_signal(number)

    monkeypatch.setattr(cli, "command", Interrupted())
    monkeypatch.setattr(sys, "argv", ["tritonbulk", *SCORE])
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert ended.value.code == code
    assert capsys.readouterr().err.endswith(TO_GO_ON)


ABORT_LATE = (
    "import atexit, ctypes\n"
    "libc = ctypes.CDLL(None)\n"
    "libc.__cxa_atexit(libc.abort, None, None)\n"
    "atexit.register(lambda: print('and the rest'))\n"
)


def test_libraries_that_abort_at_the_end_do_not_change_the_exit_code():
    done = run(ABORT_LATE, "--version")
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["and the rest"])
    assert run(ABORT_LATE, "scorch").returncode == 2


def test_output_that_nobody_could_take_is_no_success():
    shut = "sys.stdout.flush(); sys.stdout = open('/dev/full', 'w')"
    assert run(shut, "--version").returncode == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["score", "--model", "m", "--scorch"], "(see tritonbulk score --help)"),
        (["score"], "Missing argument 'INPUT...' (see tritonbulk score --help)"),
        (["scorch"], "No such command 'scorch' (see tritonbulk --help)"),
    ],
)
def test_wrong_use_is_one_line(words, told):
    done = run("", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("tritonbulk: ")
    assert told in done.stderr


def test_resume_and_fresh_are_not_both_meant():
    words = ["rows.parquet", "--model", "m", "--out", "out", "--resume", "--fresh"]
    with pytest.raises(OptionError, match="--resume and --fresh contradict"):
        score.main(words, standalone_mode=False)


def test_sizes_have_units_in_any_case():
    assert [size_bytes(each) for each in ("1KB", "2mib", "3GB", "7")] == [
        1_000, 2 * 2**20, 3 * 10**9, 7,
    ]  # fmt: skip
    with pytest.raises(click.BadParameter, match="KiB, MiB, GiB"):
        size_bytes("1.5 lots")
