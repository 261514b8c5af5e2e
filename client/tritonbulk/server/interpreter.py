"""Which Python the server's private environment is made from.

The stubs inside the server are linked to one version of libpython each, so the interpreter must be
3.11, 3.12 or 3.13 *and* have its shared library: many builds are static. Version managers put
commands on PATH that exist and do not run, so every candidate is tried out.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tritonbulk.errors import PlatformError

VERSIONS = ("3.11", "3.12", "3.13")
GLIBC_MIN = (2, 35)
MACHINES = ("x86_64", "aarch64")
PROBE_DEADLINE_S = 20.0

PROBE = """
import ctypes, importlib.util, json, os, sys, sysconfig
name = sysconfig.get_config_var("INSTSONAME") or ""
folders = [sysconfig.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib")]
folder = next((f for f in folders if os.path.exists(os.path.join(f, name))), None)
loads = False
if ".so" in name:
    try:
        ctypes.CDLL(os.path.join(folder, name) if folder else name)
        loads = True
    except OSError:
        pass
print(json.dumps({
    "executable": sys.executable,
    "version": "%d.%d" % sys.version_info[:2],
    "library_folder": folder if loads else None,
    "library_loads": loads,
    "makes_environments": all(map(importlib.util.find_spec, ("venv", "ensurepip"))),
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that was run once.

    Attributes:
        executable: its path.
        version: such as "3.11".
        library_folder: where its libpython is, if not only where the loader looks anyway.
        library_loads: whether it has a shared libpython that can be loaded.
        makes_environments: whether it has venv and ensurepip.
    """

    executable: str
    version: str
    library_folder: str | None
    library_loads: bool
    makes_environments: bool


def check_platform() -> None:
    """Return if tritonserver can run on this machine.

    Raises:
        PlatformError: it is not Linux with glibc 2.35 or newer on x86-64 or aarch64.
    """
    elsewhere = "use --endpoint with a server that runs elsewhere"
    if sys.platform != "linux":
        raise PlatformError(
            f"The embedded server runs on Linux only, and this is {platform.system()}: {elsewhere}."
        )
    if platform.machine() not in MACHINES:
        raise PlatformError(
            f"The embedded server exists for {' and '.join(MACHINES)} only, and this machine is "
            f"{platform.machine()}: {elsewhere}."
        )
    library, version = platform.libc_ver()
    if library != "glibc" or _numbers(version) < GLIBC_MIN:
        needed = ".".join(map(str, GLIBC_MIN))
        found = f"{library} {version}".strip() or "another C library"
        raise PlatformError(
            f"The embedded server needs glibc {needed} or newer (Ubuntu 22.04, Debian 12, "
            f"Fedora 36, …), and this machine has {found}: {elsewhere}."
        )


def choose_interpreter() -> Interpreter:
    """Return the first of Python 3.11, 3.12, 3.13 that runs and has a loadable libpython.

    Looked for on PATH; this process's own interpreter is the last resort.

    Raises:
        PlatformError: there is none; the text names the package to install.
    """
    seen: list[Interpreter] = []
    for command in _candidates():
        found = probe(command)
        if found is None or found.version not in VERSIONS:
            continue
        if found.library_loads and found.makes_environments:
            return found
        seen.append(found)
    raise PlatformError(_advice(seen))


def probe(command: str) -> Interpreter | None:
    """Run a Python once and return what it says of itself; None if it does not run."""
    try:
        done = subprocess.run(
            [command, "-I", "-c", PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_DEADLINE_S,
            check=True,
        )
        return Interpreter(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def _candidates() -> Iterator[str]:
    folders = os.get_exec_path()
    for version in VERSIONS:
        for folder in folders:
            command = shutil.which(f"python{version}", path=folder)
            if command is not None:
                yield command
    yield sys.executable


def _advice(seen: list[Interpreter]) -> str:
    if not seen:
        return (
            "The embedded server needs Python 3.11, 3.12 or 3.13 on PATH and none of them runs: "
            "install python3.11, python3.11-venv and libpython3.11 (Debian, Ubuntu) or python3.11 "
            "and python3.11-libs (Fedora, RHEL)."
        )
    best = seen[0]
    if best.library_loads:
        return (
            f"{best.executable} has no venv module, which the embedded server needs: install "
            f"python{best.version}-venv."
        )
    shared = f"libpython{best.version}.so.1.0"
    return (
        f"{best.executable} has no shared library {shared}, which the embedded server needs: "
        f"install libpython{best.version} (Debian, Ubuntu) or python{best.version}-libs (Fedora, "
        f"RHEL), or put a Python on PATH that was built with --enable-shared."
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
