"""File locks that end with the process: a lock that outlives its owner would be worse than none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.1

NEVER = threading.Event()
"""The event of work that nobody cancels; it is never set."""


class GivenUpError(Exception):
    """Work was given up because its event was set; the caller knows why."""


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file without waiting; closing every copy of ``fd`` gives it back.

    Returns:
        False if another owner holds it.
    """
    import fcntl  # noqa: PLC0415 - absent on Windows, where this module must still be importable

    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(
    path: Path,
    *,
    deadline_s: float,
    shared: bool = False,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: threading.Event = NEVER,
) -> Iterator[int]:
    """Hold the lock of ``path`` (made if it is missing) and yield its file descriptor.

    The file is never deleted: a waiting process would then lock a name that others no longer see.

    Args:
        path: the lock file; its folder must exist.
        deadline_s: how long to wait for other owners, in seconds.
        shared: whether other shared owners are let in.
        on_wait: called once, if there is something to wait for.
        cancelled: set by another thread to give up waiting.

    Raises:
        GivenUpError: ``cancelled`` was set.
        TimeoutError: the deadline passed.
        OSError: the file cannot be opened.
    """
    fd = _open(path)
    try:
        give_up_at = time.monotonic() + deadline_s
        if not try_lock(fd, shared=shared):
            on_wait()
            while not try_lock(fd, shared=shared):
                if time.monotonic() >= give_up_at:
                    raise TimeoutError(f"{path} is still locked after {deadline_s:g} s")
                if cancelled.wait(POLL_S):
                    raise GivenUpError
        yield fd
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError:
        # An environment that someone else installed for us can still be locked for reading.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
