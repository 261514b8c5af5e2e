"""Files that are whole or absent: locks, staging, and the flushes that make a rename last."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tritonbulk.errors import OutputError, SinkError

LOCK_WAIT_S = 60.0
_LOCK_POLL_S = 0.05
_LOCK_NAME = ".tritonbulk.lock"


@contextmanager
def repository_lock(repository: Path, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold ``repository`` against other publishers; nothing is left behind, even after a kill.

    The lock is a file in the repository, where Triton looks at folders only. The system drops it
    when its holder dies.

    Raises:
        SinkError: someone else held it for ``wait_s``; a retry may help.
    """
    path = repository / _LOCK_NAME
    deadline = time.monotonic() + wait_s
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise SinkError(
                f"another export has held {repository} for {wait_s:.0f} s; wait for it, then run "
                "this again"
            )
        time.sleep(_LOCK_POLL_S)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock, or None if someone else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder may have unlinked the file between our open and our lock.
        if _is_same(descriptor, path):
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def staging_folder(repository: Path, parent: Path | None) -> Iterator[Path]:
    """Return an empty folder for putting an entry together; it is gone afterwards.

    It lies beside the repository or in ``parent``: never inside, since Triton takes every folder
    there for a model, and on the same file system, since only there a rename is atomic. What a
    killed export left in it is swept. Call it with `repository_lock` held.

    Raises:
        OutputError: ``parent`` is inside the repository or on another file system; no retry.
    """
    home = repository.parent if parent is None else parent.resolve()
    if home.is_relative_to(repository):
        raise OutputError(
            f"staging folder {home} is inside the repository {repository}, where Triton would take "
            "it for a model; give --staging a folder outside"
        )
    home.mkdir(parents=True, exist_ok=True)
    if home.stat().st_dev != repository.stat().st_dev:
        raise OutputError(
            f"staging folder {home} is not on the file system of {repository}, so publishing would "
            "not be atomic; give --staging a folder on the same one, outside the repository"
        )
    folder = home / f".{repository.name}.staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_file(path: Path, data: bytes) -> None:
    """Write ``data`` to the new file ``path`` and flush it to the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Flush the entries of folder ``path`` to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_folder(source: Path, target: Path) -> None:
    """Rename the flushed folder ``source`` to ``target``, which must not exist, for good."""
    sync_folder(source)
    with _one_file_system(target):
        source.rename(target)
    sync_folder(target.parent)


def move_into(source: Path, folder: Path) -> None:
    """Give ``folder`` the flushed file ``source``, in place of one of that name, in one step."""
    with _one_file_system(folder):
        source.replace(folder / source.name)
    sync_folder(folder)


@contextmanager
def _one_file_system(target: Path) -> Iterator[None]:
    """Say what to do where two folders of one device are two mounts, which only a rename shows.

    Raises:
        OutputError: they are; a retry does not help.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise OutputError(
            f"the staging folder is on another mount than {target.parent}, so publishing would not "
            "be atomic; give --staging a folder on the same one, outside the repository"
        ) from error


def replace_file(target: Path, data: bytes, staging: Path) -> None:
    """Give ``target`` the content ``data`` in one step: readers see the old or the new one."""
    staged = staging / target.name
    write_file(staged, data)
    staged.replace(target)
    sync_folder(target.parent)


def files_digest(files: Mapping[str, bytes]) -> str:
    """Return the digest of a model: that of its file, or of names and digests of its files.

    Args:
        files: content by path in the version's folder.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.
    """
    if len(files) == 1:
        return _sha256(next(iter(files.values())))
    lines = [f"{name} {_sha256(data)}\n" for name, data in sorted(files.items())]
    return _sha256("".join(lines).encode())


def read_files(folder: Path, name: str) -> Mapping[str, bytes]:
    """Return the files of model ``name`` in a version's ``folder``; none if it is not there."""
    path = folder / name
    found = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
