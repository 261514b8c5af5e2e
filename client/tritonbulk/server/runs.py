"""What one start of a server owns, and how the next start finds what a killed one left.

Every start has a random token, which its shared memory and its processes carry. A lock file beside
the shared memory (``/dev/shm/tritonbulk_<token>.lock``) names its temporary folder and is held by
the owner and by its guard. So a lock that can be taken belongs to a start of which both are dead,
and only then is anything removed: never what belongs to a living start or to another user.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tritonbulk.server import guard
from tritonbulk.server.locks import try_lock

NAME = "tritonbulk_"
FOLDER_NAME = "tritonbulk-"


@dataclass(frozen=True, slots=True)
class Run:
    """One start of a server.

    Attributes:
        prefix: what the names of its shared memory begin with.
        folder: its temporary folder, readable by this user alone.
        lock_path: the file whose lock says that the start lives.
        lock_fd: that file, open and locked.
    """

    prefix: str
    folder: Path
    lock_path: Path
    lock_fd: int


@contextmanager
def new_run() -> Iterator[Run]:
    """Sweep what dead starts left, then yield a new run; at the end all that it owns is removed.

    Raises:
        OSError: no temporary folder or no shared memory can be written (disk full, read-only).
    """
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_NAME, dir=_temporary()))
    try:
        lock_path, lock_fd = _new_lock(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    run = Run(lock_path.name.removesuffix(".lock") + "_", folder, lock_path, lock_fd)
    try:
        yield run
    finally:
        _remove(run.prefix, folder, lock_path)
        os.close(lock_fd)


def is_plain(path: Path) -> bool:
    """Return whether tritonserver and its stubs can take a path.

    They split command lines at spaces and read other than ASCII letters in the C locale.
    """
    return re.fullmatch(r"[A-Za-z0-9_./+:@%=-]+", str(path)) is not None


def _temporary() -> Path:
    """Return the folder for temporary files, or ``/tmp`` where its name is not plain."""
    chosen = Path(tempfile.gettempdir())
    return chosen if is_plain(chosen) else Path("/tmp")  # noqa: S108  mkdtemp makes it private


def sweep() -> int:
    """End the processes and remove the files of this user's starts whose owner and guard are dead.

    Returns:
        How many such starts there were.
    """
    swept = 0
    for lock_path in guard.SHARED_MEMORY.glob(f"{NAME}*.lock"):
        try:
            fd = os.open(lock_path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if os.fstat(fd).st_uid == os.getuid() and try_lock(fd):
                _remove(lock_path.name.removesuffix(".lock") + "_", _folder_of(fd), lock_path)
                swept += 1
        finally:
            os.close(fd)
    return swept


def is_abandoned(name: str) -> bool:
    """Return whether a start that is dead and was swept gave this name to shared memory."""
    token = re.match(f"{NAME}[0-9a-f]{{16}}(?=_)", name)
    return token is not None and not (guard.SHARED_MEMORY / f"{token[0]}.lock").exists()


def _new_lock(folder: Path) -> tuple[Path, int]:
    while True:
        path = guard.SHARED_MEMORY / f"{NAME}{secrets.token_hex(8)}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Between these two lines a sweep may take the new file for a dead start's; then try again.
        try:
            if try_lock(fd) and path.exists():
                os.write(fd, json.dumps({"folder": str(folder)}).encode())
                return path, fd
        except OSError:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        os.close(fd)


def _folder_of(lock_fd: int) -> Path | None:
    """Return the temporary folder that a lock file names; None if the start did not get so far."""
    with suppress(ValueError, KeyError, TypeError):
        folder = Path(json.loads(os.pread(lock_fd, 65536, 0))["folder"])
        if folder.name.startswith(FOLDER_NAME):
            return folder
    return None


def _remove(prefix: str, folder: Path | None, lock_path: Path) -> None:
    if not guard.end_start(prefix):
        return  # A process that cannot be killed now is for a later sweep: keep what names it.
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    lock_path.unlink(missing_ok=True)
