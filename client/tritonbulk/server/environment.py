"""The server's private environment: tritonserver, ONNX Runtime and the numpy that they need.

It lives in the user's cache folder, apart from the environment that tritonbulk runs in, because the
two cannot share numpy: the server's stubs were built for numpy 1, and pyarrow needs numpy 2. It is
made on first use from the hash-pinned list that ships in ``requirements/``, and used only if it is
complete: a marker is written last, and every installed version must be the pinned one. Whoever uses
it holds a shared lock, whoever makes or removes it an exclusive one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tritonbulk.errors import InstallError
from tritonbulk.server import pip
from tritonbulk.server.interpreter import (
    VERSIONS,
    Interpreter,
    check_platform,
    choose_interpreter,
)
from tritonbulk.server.locks import NEVER, locked

Say = Callable[[str], None]
REQUIREMENTS = Path(__file__).parent / "requirements"
MARKER = "tritonbulk-environment.json"
WAIT_DEADLINE_S = 1800.0
FREE_BYTES_MIN = 700 * 2**20


@dataclass(frozen=True, slots=True)
class EnvironmentInfo:
    """What is known about a private environment.

    Attributes:
        path: its folder.
        python: the Python version it is for, such as "3.11".
        versions: installed package → version.
        complete: whether a server can be started from it.
        library_folder: where the interpreter's libpython is, or None if the loader finds it.
    """

    path: Path
    python: str
    versions: Mapping[str, str]
    complete: bool
    library_folder: str | None

    @property
    def size_bytes(self) -> int:
        """What its files take on disk; looks at each of them."""
        files = (each for each in self.path.rglob("*") if not each.is_symlink())
        return sum(each.stat().st_size for each in files if each.is_file())

    @property
    def executable(self) -> Path:
        """The environment's Python."""
        return self.path / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        return _site_packages(self.path, self.python)

    @property
    def tritonserver(self) -> Path:
        """The folder of the server's own files: ``bin``, ``backends``, ``caches``, the stubs."""
        return self.site_packages / "pytriton" / "tritonserver"


def cache_root() -> Path:
    """Return the folder for all that tritonbulk keeps between runs; it need not exist.

    ``$TRITONBULK_CACHE``, else ``$XDG_CACHE_HOME/tritonbulk``, else ``~/.cache/tritonbulk``.
    """
    if own := os.environ.get("TRITONBULK_CACHE"):
        return Path(own).expanduser().absolute()
    if common := os.environ.get("XDG_CACHE_HOME"):
        return Path(common).expanduser().absolute() / "tritonbulk"
    return Path.home() / ".cache" / "tritonbulk"


def info() -> EnvironmentInfo | None:
    """Return the environment that the next start would use or mend, or None if there is none."""
    found = [_inspect(version) for version in VERSIONS if _path(version).exists()]
    return next((each for each in found if each.complete), found[0] if found else None)


@contextmanager
def in_use(say: Say, cancelled: threading.Event = NEVER) -> Iterator[EnvironmentInfo]:
    """Yield a complete environment, made first if need be, that nobody removes meanwhile.

    Args:
        say: told, line by line, what is being done if that takes long.
        cancelled: set by another thread to give up making it, or waiting for it.

    Raises:
        GivenUpError: ``cancelled`` was set.
        PlatformError: this machine cannot run the server.
        InstallError: the environment could not be made. A retry may help.
    """
    check_platform()
    ready = info()
    if ready is None or not ready.complete:
        ready = install(say=say, cancelled=cancelled)
    with _lock(ready.python, say, cancelled, shared=True):
        ready = _inspect(ready.python)
        if not ready.complete:
            raise InstallError(f"{ready.path} was removed by another process: start again.")
        yield ready


def install(
    *, say: Say, wheelhouse: Path | None = None, cancelled: threading.Event = NEVER
) -> EnvironmentInfo:
    """Make the private environment, unless it is there and complete, and return it.

    A second process that does this at the same moment waits for the first one.

    Args:
        say: told, line by line, what is being done.
        wheelhouse: a folder with all the wheels, for machines without a network.
        cancelled: set by another thread to give up.

    Raises:
        GivenUpError: ``cancelled`` was set.
        PlatformError: this machine cannot run the server.
        InstallError: no network, no space, a wheel is missing or not the pinned one. A retry may
            help.
    """
    check_platform()
    ready = info()
    if ready is not None and ready.complete:
        return ready
    interpreter = choose_interpreter()
    with _lock(interpreter.version, say, cancelled) as lock_fd:
        ready = _inspect(interpreter.version)
        if not ready.complete:
            _make(interpreter, wheelhouse, say, lock_fd, cancelled)
            ready = _inspect(interpreter.version)
    if not ready.complete:
        raise InstallError(f"{ready.path} is not what was pinned, though pip did not fail.")
    return ready


def remove(*, say: Say) -> int:
    """Delete every private environment, also incomplete ones and those of other versions.

    Returns:
        How many there were.

    Raises:
        InstallError: a server is running from one of them, or it cannot be deleted.
    """
    folders = [each for each in _root().glob("py*") if each.is_dir()]
    for folder in folders:
        try:
            with locked(folder.with_suffix(".lock"), deadline_s=0):
                say(f"removing {folder}")
                _delete(folder)
        except TimeoutError:
            raise InstallError(f"A server is running from {folder}: stop it first.") from None
        except OSError as error:
            raise InstallError(f"{folder} cannot be removed: {error.strerror}.") from error
    return len(folders)


def pinned_versions(python: str) -> dict[str, str]:
    """Return package → version as pinned for a Python version such as "3.11"."""
    lines = _requirements(python).read_text(encoding="utf-8").splitlines()
    pins = (line.removesuffix("\\").strip().split("==") for line in lines if "==" in line)
    return dict(pins)


def _make(
    interpreter: Interpreter,
    wheelhouse: Path | None,
    say: Say,
    lock_fd: int,
    cancelled: threading.Event,
) -> None:
    folder = _path(interpreter.version)
    free_bytes = shutil.disk_usage(folder.parent).free
    if free_bytes < FREE_BYTES_MIN:
        raise InstallError(
            f"The server's environment needs {FREE_BYTES_MIN // 2**20} MB and {folder.parent} has "
            f"{free_bytes // 2**20} MB free: make room or set TRITONBULK_CACHE to another folder."
        )
    say(f"making the server's environment, once: Python {interpreter.version}, 350 MB, {folder}")
    try:
        _delete(folder)
        pip.make_environment(interpreter.executable, folder, lock_fd, cancelled)
        requirements = _requirements(interpreter.version)
        python = folder / "bin" / "python"
        pip.install(python, requirements, wheelhouse, say, lock_fd, cancelled)
        marker = {"library_folder": interpreter.library_folder}
        temporary = folder / f"{MARKER}.tmp"
        temporary.write_text(json.dumps(marker), encoding="utf-8")
        temporary.rename(folder / MARKER)
    except OSError as error:
        raise InstallError(f"{folder} cannot be written: {error.strerror}.") from error
    say("the server's environment is ready")


def _delete(folder: Path) -> None:
    """Delete an environment, its marker first: half of one must not look complete."""
    (folder / MARKER).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _inspect(python: str) -> EnvironmentInfo:
    folder = _path(python)
    versions = {
        name.lower().replace("_", "-"): each.version
        for each in metadata.distributions(path=[str(_site_packages(folder, python))])
        # A distribution that was being written when its writer died has no name.
        if (name := each.metadata["Name"] if each.read_text("METADATA") else None)
    }
    marker: dict[str, str | None] | None = None
    with suppress(OSError, ValueError):
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    as_pinned = pinned_versions(python).items() <= versions.items()
    binary = _site_packages(folder, python) / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    runs = (folder / "bin" / "python").exists() and binary.exists()
    return EnvironmentInfo(
        path=folder,
        python=python,
        versions=versions,
        complete=marker is not None and as_pinned and runs,
        library_folder=marker["library_folder"] if marker else None,
    )


@contextmanager
def _lock(
    python: str, say: Say, cancelled: threading.Event, *, shared: bool = False
) -> Iterator[int]:
    path = _path(python).with_suffix(".lock")
    lock = locked(
        path,
        deadline_s=WAIT_DEADLINE_S,
        shared=shared,
        on_wait=lambda: say("waiting for another process that uses the server's environment"),
        cancelled=cancelled,
    )
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = stack.enter_context(lock)
        except TimeoutError as error:
            raise InstallError(f"{error}: end the process that holds it.") from None
        except OSError as error:
            raise InstallError(
                f"{path.parent} cannot be written ({error.strerror}): set TRITONBULK_CACHE."
            ) from error
        yield fd


def _root() -> Path:
    return cache_root() / "server"


def _path(python: str) -> Path:
    digest = hashlib.sha256(_requirements(python).read_bytes()).hexdigest()
    return _root() / f"py{python.replace('.', '')}-{digest[:12]}"


def _requirements(python: str) -> Path:
    return REQUIREMENTS / f"py{python.replace('.', '')}.txt"


def _site_packages(folder: Path, python: str) -> Path:
    return folder / "lib" / f"python{python}" / "site-packages"
