"""The small door: what is public, what importing it costs, what every command shows."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import tritonbulk

HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "sklearn",
    "lightgbm",
    "ray",
    "pyspark",
    "daft",
    "grpc",
    "pyarrow",
)


def test_all_names_what_is_public_and_every_name_is_there():
    assert sorted(tritonbulk.__all__) == list(tritonbulk.__all__)
    for name in tritonbulk.__all__:
        assert getattr(tritonbulk, name).__name__ == name
    assert set(tritonbulk.__all__) <= set(dir(tritonbulk))
    assert len(tritonbulk.__all__) <= 18


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nope"):
        _ = tritonbulk.nope


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_importing_it_loads_no_framework_and_nothing_slow():
    code = f"import sys, tritonbulk; print([m for m in {HEAVY} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_scoring_loads_no_framework():
    code = f"import sys, tritonbulk; tritonbulk.score, tritonbulk.Scorer; print([m for m in {HEAVY[:8]} if m in sys.modules])"  # noqa: E501
    assert run(code).strip() == "[]"


def test_importing_it_takes_under_half_a_second_of_cpu():
    # CPU time of the import alone: unlike wall time it does not depend on who else is at work.
    code = "import time; t = time.process_time(); import tritonbulk; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.5


def test_the_client_starts_where_there_is_no_linux():
    code = (
        "import sys\n"
        "for name in ('fcntl', 'resource', 'pwd', 'termios'): sys.modules[name] = None\n"
        "import tritonbulk.cli.score, tritonbulk.server.embedded; print('ok')"
    )
    assert run(code).strip() == "ok"


COMMANDS = sorted(entry.name for entry in entry_points(group="tritonbulk.commands"))


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_an_example(command):
    call = [sys.executable, "-m", "tritonbulk.cli.main", *command.split(), "--help"]
    shown = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert "Example" in shown
    assert "tritonbulk " in shown.partition("Example")[2]


def test_an_unknown_command_is_wrong_use():
    call = [sys.executable, "-m", "tritonbulk.cli.main", "scorch"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No such command 'scorch'" in done.stderr
