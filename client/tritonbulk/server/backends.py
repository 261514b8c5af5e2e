"""The backend folder that a server loads its code from, and whether that code can be loaded.

A start has a folder of its own: Triton refuses symbolic links to libraries and Python files, but
the stub has to be one, since it finds its libraries relative to where it is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tritonbulk.errors import InstallError, PlatformError
from tritonbulk.server.diagnosis import missing_library
from tritonbulk.server.environment import EnvironmentInfo

BACKEND_SOURCE = Path(__file__).parent / "backend"
STUB = "triton_python_backend_stub"
PREFLIGHT_DEADLINE_S = 20.0
PREFLIGHT_WORDS = "Expected 9 arguments"


def make_backends(environment: EnvironmentInfo, folder: Path) -> None:
    """Fill ``folder`` with Triton's Python backend and our ``onnxruntime`` backend on top of it.

    Raises:
        OSError: it cannot be written.
    """
    python = folder / "python"
    shutil.copytree(
        environment.tritonserver / "backends" / "python",
        python,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    stubs = environment.tritonserver / "python_backend_stubs"
    (python / STUB).symlink_to(stubs / environment.python / STUB)
    shutil.copytree(
        BACKEND_SOURCE, folder / "onnxruntime", ignore=shutil.ignore_patterns("__pycache__")
    )


def server_environment(environment: EnvironmentInfo, temporary: Path) -> dict[str, str]:
    """Return the environment variables for tritonserver: ours, with its own Python first on PATH.

    The stub takes its packages from the first ``python3`` on PATH and its libpython from the
    loader; anything in our ``LD_LIBRARY_PATH`` would go before what the server ships. ONNX Runtime
    is told not to report its use to its maker, and any temporary file goes with the start.
    """
    variables = dict(os.environ)
    variables.pop("LD_LIBRARY_PATH", None)
    # The server starts its stubs by way of a shell, and waits for ever where there is none.
    path = [str(environment.executable.parent), variables.get("PATH", ""), os.defpath]
    variables["PATH"] = os.pathsep.join(filter(None, path))
    if environment.library_folder is not None:
        variables["LD_LIBRARY_PATH"] = environment.library_folder
    variables["TMPDIR"] = str(temporary)
    variables["ORT_DISABLE_TELEMETRY"] = "1"
    return variables


def preflight(stub: Path, variables: Mapping[str, str]) -> None:
    """Run the stub without arguments, since a server whose stub cannot be loaded waits for ever.

    Args:
        stub: the stub as the server will find it.
        variables: the environment variables that it will get.

    Raises:
        PlatformError: a library is missing; the text names it.
        InstallError: the stub does not run for another reason.
    """
    try:
        done = subprocess.run(
            [str(stub)],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PREFLIGHT_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallError(f"{stub.resolve()} does not run ({error}): {_MEND}.") from error
    if library := missing_library(done.stdout):
        raise PlatformError(
            f"The embedded server cannot load {library}: install that library, or run "
            "`tritonbulk server remove` if the Python it was installed for is gone."
        )
    if PREFLIGHT_WORDS not in done.stdout:
        words = done.stdout.strip() or f"exit code {done.returncode}"
        raise InstallError(f"{stub.resolve()} does not run ({words}): {_MEND}.")


_MEND = "run `tritonbulk server remove` and start again"
