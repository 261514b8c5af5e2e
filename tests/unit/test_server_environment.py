from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from tritonbulk.errors import InstallError
from tritonbulk.server import environment, pip
from tritonbulk.server.locks import GivenUpError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded server is for Linux")

INSTALL = """
import sys
from pathlib import Path
from tritonbulk.server import environment
environment.REQUIREMENTS = Path(sys.argv[1])
environment.install(say=lambda line: print(line, flush=True), wheelhouse=Path(sys.argv[2]))
"""


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a cache of the test's own and pin the environment to one tiny wheel in a wheelhouse."""
    monkeypatch.setenv("TRITONBULK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "requirements")
    monkeypatch.setattr(environment, "FREE_BYTES_MIN", 0)
    wheel = tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    files = {
        "pytriton/tritonserver/bin/tritonserver": b"",
        "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        record = ""
        for name, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record += f"{name},sha256={digest.decode()},{len(content)}\n"
            archive.writestr(name, content)
        archive.writestr("tiny-1.0.dist-info/RECORD", record + "tiny-1.0.dist-info/RECORD,,\n")
    pin(tmp_path / "requirements", hashlib.sha256(wheel.read_bytes()).hexdigest())
    return wheel.parent


def pin(requirements: Path, digest: str) -> None:
    requirements.mkdir(exist_ok=True)
    for name in ("py311.txt", "py312.txt", "py313.txt"):
        (requirements / name).write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")


def install(wheelhouse: Path) -> environment.EnvironmentInfo:
    return environment.install(say=lambda _line: None, wheelhouse=wheelhouse)


def install_elsewhere(wheelhouse: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INSTALL, str(environment.REQUIREMENTS), str(wheelhouse)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_an_environment_is_complete_only_with_marker_interpreter_and_pinned_versions(
    wheelhouse: Path,
) -> None:
    assert environment.info() is None
    made = install(wheelhouse)
    assert made.complete
    assert made.versions["tiny"] == "1.0"
    assert made.size_bytes > 0
    assert environment.info() == made

    marker = made.path / environment.MARKER
    marker.rename(made.path / "aside")
    assert not complete(), "without its marker it was interrupted"
    (made.path / "aside").rename(marker)
    assert complete()

    binary = made.tritonserver / "bin" / "tritonserver"
    binary.rename(made.path / "aside")
    assert not complete(), "without the server it is of no use"
    (made.path / "aside").rename(binary)
    assert complete()

    metadata = made.site_packages / "tiny-1.0.dist-info"
    metadata.rename(made.site_packages / "tiny-2.0.dist-info")
    (made.site_packages / "tiny-2.0.dist-info" / "METADATA").write_text(
        "Name: tiny\nVersion: 2.0\n"
    )
    assert not complete(), "somebody installed something into it"

    assert install(wheelhouse).versions["tiny"] == "1.0"
    made.executable.unlink()
    assert not complete(), "its interpreter was removed"


def complete() -> bool:
    found = environment.info()
    assert found is not None
    return found.complete


def test_two_processes_that_need_it_at_once_make_it_once(wheelhouse: Path) -> None:
    processes = [install_elsewhere(wheelhouse) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("making the server's environment" in output for output in outputs) == 1
    assert sum("waiting for another process" in output for output in outputs) == 1
    assert complete()


def test_an_interrupted_installation_is_made_again(wheelhouse: Path) -> None:
    interrupted = install_elsewhere(wheelhouse)
    assert interrupted.stdout is not None
    assert "making" in interrupted.stdout.readline()
    folder = environment.cache_root() / "server"
    give_up_at = time.monotonic() + 60
    while not list(folder.glob("py*/bin/python")):
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    interrupted.kill()
    interrupted.wait()
    interrupted.stdout.close()
    assert not complete()
    assert install(wheelhouse).complete


def test_a_half_written_package_does_not_break_what_looks_at_the_environment(
    wheelhouse: Path,
) -> None:
    made = install(wheelhouse)
    (made.site_packages / "torn-1.0.dist-info").mkdir()
    assert complete()
    (made.path / environment.MARKER).unlink()
    assert not complete()
    assert install(wheelhouse).complete


def test_waiting_for_it_and_making_it_can_be_given_up(
    wheelhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = install_elsewhere(wheelhouse)
    assert other.stdout is not None
    assert "making" in other.stdout.readline()
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(GivenUpError):
        environment.install(say=print, wheelhouse=wheelhouse, cancelled=cancelled)
    other.communicate(timeout=120)
    environment.remove(say=print)
    with pytest.raises(GivenUpError):
        environment.install(say=print, wheelhouse=wheelhouse, cancelled=cancelled)
    assert not complete()
    assert install(wheelhouse).complete


def test_a_wheel_that_is_not_the_pinned_one_is_refused(wheelhouse: Path) -> None:
    pin(environment.REQUIREMENTS, "0" * 64)
    with pytest.raises(InstallError, match="a wheel is not the pinned one"):
        install(wheelhouse)
    assert not complete()


def test_a_full_disk_is_told_before_anything_is_written(
    wheelhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "FREE_BYTES_MIN", 2**60)
    with pytest.raises(InstallError, match="make room or set TRITONBULK_CACHE"):
        install(wheelhouse)


def test_what_a_server_runs_from_is_not_removed(wheelhouse: Path) -> None:
    install(wheelhouse)
    with environment.in_use(print) as home:
        with pytest.raises(InstallError, match="stop it first"):
            environment.remove(say=print)
        assert home.executable.exists()
    assert environment.remove(say=print) == 1
    assert environment.info() is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TRITONBULK_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/tritonbulk"),
        ({"HOME": "/c"}, "/c/.cache/tritonbulk"),
    ],
)
def test_the_cache_is_where_the_variables_say(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRITONBULK_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.cache_root() == Path(expected)


@pytest.mark.parametrize(("python", "numpy"), [("3.11", "1"), ("3.12", "1"), ("3.13", "2")])
def test_the_shipped_pins_are_hashed_for_both_machines_and_name_no_place(
    python: str, numpy: str
) -> None:
    text = (environment.REQUIREMENTS / f"py{python.replace('.', '')}.txt").read_text()
    pins = environment.pinned_versions(python)
    assert pins["numpy"].split(".")[0] == numpy
    assert pins["onnxruntime"] == "1.31.1"
    assert pins["nvidia-pytriton"] == "0.7.0"
    assert "://" not in text
    for name in ("numpy", "onnxruntime", "nvidia-pytriton", "protobuf"):
        block = text.partition(f"{name}==")[2].partition("==")[0]
        assert block.count("--hash=sha256:") == 2, name


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("NewConnectionError: Failed to establish", "cannot be reached"),
        ("NameResolutionError: Failed to resolve", "cannot be reached"),
        ("ERROR: No matching distribution found for numpy==1.26.4\n", "No matching distribution"),
        ("", "it printed nothing"),
    ],
)
def test_what_pip_prints_becomes_a_cause(output: str, words: str) -> None:
    assert words in pip.explain(output)


def test_no_network_is_one_sentence(wheelhouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(InstallError, match="cannot be reached") as caught:
        environment.install(say=print)
    assert "\n" not in str(caught.value)
