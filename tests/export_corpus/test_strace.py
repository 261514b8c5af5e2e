"""A hostile model opens nothing that is not its own and starts no program: seen by strace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.export_corpus.corpus import Broken, parsed, write_rows
from tests.export_corpus.files import EXTERNAL, FILES, save
from tests.export_corpus.graphs import MENDED_GRAPHS

FULL = os.environ.get("TRITONBULK_TEST_FULL") == "1"
HOSTILE = [*EXTERNAL, *FILES, *(case for case in MENDED_GRAPHS if "name" in case.name)]
SOME = {"external-parent", "external-absolute", "external-link"}
CASES = [case for case in HOSTILE if FULL or case.name in SOME]

CALL = re.compile(r"(?P<call>\w+)\((?:AT_FDCWD, |\d+, )?\"(?P<path>[^\"]*)\"(?P<rest>.*)")
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
TRACED = "open,openat,openat2,creat,execve,execveat,link,linkat,symlink,symlinkat,connect"
LIBRARIES = (
    "/usr/", "/lib", "/proc/", "/sys/", "/dev/null", "/dev/urandom", "/dev/tty", "/etc/ld.so.",
    "/etc/localtime", "/etc/os-release", "/etc/mime.types", "/etc/ssl/", "/etc/nsswitch.conf",
)  # fmt: skip

pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.timeout(1800),
]


def traced(case: Broken, folder: Path) -> tuple[int, list[tuple[str, str, str]]]:
    """Export ``case`` under strace; return the exit code and what was opened and started."""
    (folder / "model").mkdir(parents=True)
    case.write(folder / "model")
    write_rows(case.rows, folder / "rows.parquet")
    log = folder / "strace.log"
    done = subprocess.run(
        [
            "strace", "-f", "-qq", "-s", "4096", "-e", f"trace={TRACED}", "-o", str(log),
            str(Path(sys.executable).with_name("tritonbulk")), "export", "onnx",
            str(folder / "model" / "model.onnx"), "--name", "m",
            "--sample", str(folder / "rows.parquet"), "--repository", str(folder / "repository"),
            "--input-map", "x=f*", *case.options,
        ],
        capture_output=True, text=True, check=False, cwd=folder,
        env=os.environ | {"TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    calls = [
        (match["call"], match["path"], match["rest"])
        for line in log.read_text(errors="replace").splitlines()
        if (match := CALL.search(line))
    ]
    return done.returncode, calls


def roots(folder: Path) -> tuple[str, ...]:
    """Return where an export of a model in ``folder`` may read."""
    own: list[str | Path] = [
        sys.prefix,
        sys.base_prefix,
        *sysconfig.get_paths().values(),
        Path(__file__).parents[2],
    ]
    return (*LIBRARIES, *(f"{Path(path).resolve()}/" for path in own), *map(str, own), str(folder))


def outside(calls: list[tuple[str, str, str]], folder: Path) -> list[tuple[str, str]]:
    """Return what was opened outside the roots, or written outside ``folder``."""
    allowed = roots(folder)
    found = []
    for call, path, rest in calls:
        absolute = os.path.normpath(folder / path)
        writes = WRITES.search(rest) or not call.startswith(("open", "exec", "connect"))
        is_there = call.startswith("open") and "ENOENT" not in rest
        may_read = absolute.startswith(allowed)
        may_write = absolute.startswith((str(folder), "/dev/", "/proc/self/"))
        if (writes and not may_write) or (is_there and not may_read):
            found.append((call, absolute))
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_else_is_opened_and_no_program_is_started(case, tmp_path):
    folder = tmp_path / "inner"
    code, calls = traced(case, folder)
    assert code == case.code
    assert len(calls) > 100, "strace saw nothing"
    assert outside(calls, folder) == []
    secret = [path for _, path, _ in calls if path.endswith(("secret.bin", "/etc/passwd"))]
    assert secret == []
    programs = [path for call, path, _ in calls if call.startswith("execve")]
    assert len(programs) == 1
    assert not [path for call, path, _ in calls if call == "connect"]


def test_the_look_at_calls_finds_what_it_looks_for(tmp_path):
    calls = [
        ("openat", "/etc/shadow", ", O_RDONLY) = 3"),
        ("openat", "../secret.bin", ", O_RDONLY) = 3"),
        ("openat", "/usr/lib/x", ", O_WRONLY|O_CREAT) = 3"),
        ("openat", "/usr/lib/y", ", O_RDONLY) = 3"),
        ("openat", "/etc/shadow", ", O_RDONLY) = -1 ENOENT"),
        ("openat", "model/model.onnx", ", O_RDONLY) = 3"),
    ]
    folder = tmp_path / "inner"
    assert [path for _, path in outside(calls, folder)] == [
        "/etc/shadow", str(tmp_path / "secret.bin"), "/usr/lib/x",
    ]  # fmt: skip


def test_a_model_that_is_whole_is_exported_under_strace_too(tmp_path):
    case = Broken("whole", lambda folder: save(parsed("y = Relu(x)"), folder), 0, "", FILES[0].rows)
    code, calls = traced(case, tmp_path / "inner")
    assert (code, outside(calls, tmp_path / "inner")) == (0, [])
