"""Local folders: written aside, synced, linked without replacing, the folder synced.

A crash leaves at worst a file in the scratch folder. Readers see an object whole or not at all, and
what they see outlives a power cut.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tritonbulk.errors import OptionError, OutputError, SinkError
from tritonbulk.job.protocol import OWN_FOLDER, Put

_SCRATCH = f"{OWN_FOLDER}/tmp"  # noqa: S108  below the output, not the system's
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class LocalStore:
    """A folder; see `tritonbulk.job.stores.base.Store` for the methods.

    Attributes:
        folder: made if it is missing.
        is_single_writer: look before each put where the file system has neither links nor a rename
            without replacing, which is safe only while no other run writes there.
    """

    folder: Path
    is_single_writer: bool = False

    @property
    def name(self) -> str:
        """See `Store.name`."""
        return str(self.folder)

    def prepare(self) -> None:
        """Make the folder, and make durable what a crashed run may only have made visible."""
        self._check_folder()
        with sink_errors(self.folder):
            make_folder(self.folder / _SCRATCH)
            _sync_folder(self.folder)
            if not self.is_single_writer:
                self._probe()
        # A run that was killed may have made any of these and synced none.
        for folder in (self.folder / _SCRATCH).absolute().parents:
            with contextlib.suppress(OSError):
                _sync_folder(folder)

    def create(self, name: str, data: bytes) -> Put:
        """See `Store.create`."""
        path = self.folder / name
        with sink_errors(path):
            if path.parent != self.folder:
                make_folder(path.parent)
            make_folder(self.folder / _SCRATCH)
            return publish(
                path,
                self.folder / _SCRATCH,
                lambda file: _write_all(file, data),
                is_single_writer=self.is_single_writer,
            )

    def read(self, name: str) -> bytes | None:
        """See `Store.read`."""
        self._check_folder()
        path = self.folder / name
        with sink_errors(path, "reading"):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        """See `Store.names`."""
        return list(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Store.sizes`."""
        path, found = self.folder / folder, {}
        with sink_errors(path, "reading"):
            if path.is_dir():
                for entry in os.scandir(path):
                    with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                        if entry.is_file():
                            found[entry.name] = entry.stat().st_size
        return dict(sorted(found.items()))

    def set_aside(self, name: str, aside: str, damaged: bytes) -> None:
        """See `Store.set_aside`."""
        path, target = self.folder / name, self.folder / aside
        with sink_errors(path), contextlib.suppress(FileNotFoundError):
            if path.read_bytes() != damaged:
                return
            make_folder(target.parent)
            path.replace(target)
            # Another run may have replaced it between the look and the move: that goes back.
            if target.read_bytes() != damaged:
                with contextlib.suppress(FileExistsError):
                    _link(target, path)
                target.unlink(missing_ok=True)
            _sync_folder(target.parent)
            _sync_folder(path.parent)

    def _probe(self) -> None:
        """Check that a name which is taken stays whose it is, with two files that are removed.

        Raises:
            OptionError: it does not, or there is no way to try; a retry does not help.
        """
        mark = secrets.token_hex(8)
        taken, other = (self.folder / _SCRATCH / f".probe.{mark}.{at}" for at in (1, 2))
        try:
            for file in (taken, other):
                file.touch()
            _link(other, taken)
        except FileExistsError:
            return
        except FileNotFoundError:
            return  # another run finishes the job at this moment, and tidies up
        except OSError as error:
            if error.errno not in (*_NO_LINKS, errno.EINVAL):
                raise
        finally:
            for file in (taken, other):
                file.unlink(missing_ok=True)
        raise OptionError(
            f"the file system of {self.folder} cannot give a file a name without replacing what "
            "has it, so two runs could overwrite each other; add --single-writer if no other run "
            "writes there, or give another --out"
        )

    def _check_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"output {self.folder} is a file; give a folder")

    def tidy(self) -> None:
        """See `Store.tidy`; what cannot be removed harms nobody and stays."""
        scratch = self.folder / _SCRATCH
        with contextlib.suppress(OSError):
            for left in scratch.iterdir():
                left.unlink(missing_ok=True)
            scratch.rmdir()


def publish(
    path: Path,
    scratch: Path,
    write: Callable[[io.FileIO], None],
    *,
    is_single_writer: bool = False,
) -> Put:
    """Make a file appear whole and durably at ``path``, which must be free.

    Args:
        path: in a folder that exists.
        scratch: folder on the same file system for the file until it is whole.
        write: writes its bytes to an unbuffered file, which may be read back as well.
        is_single_writer: look before the rename where the file system cannot do without.

    Returns:
        Put.UNKNOWN where the folder or the file aside vanished, as they do when another run
        finishes the job at this moment.

    Raises:
        OSError: it did not appear durably.
    """
    aside = scratch / f".{path.name}.{secrets.token_hex(8)}"
    try:
        with io.FileIO(aside, "x+") as file:
            write(file)
            os.fsync(file.fileno())
        try:
            _link(aside, path, is_single_writer=is_single_writer)
            outcome = Put.CREATED
        except FileExistsError:
            outcome = Put.EXISTS
    except FileNotFoundError:
        return Put.UNKNOWN
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    # Also where it existed: another run may have linked it and not yet synced.
    _sync_folder(path.parent)
    return outcome


def rename_without_replace(old: Path, new: Path) -> None:
    """Rename a file to a name that must be free, in one step where the system can.

    Raises:
        FileExistsError: it is not.
    """
    if sys.platform == "linux":
        try:
            renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        except AttributeError:  # glibc has it since 2.28
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(new)) from None
        at_cwd, no_replace = -100, 1  # AT_FDCWD, RENAME_NOREPLACE of <linux/fs.h>
        if renameat2(at_cwd, os.fsencode(old), at_cwd, os.fsencode(new), no_replace):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(new))
        return
    # Windows refuses to replace by itself; elsewhere the look comes a moment before the leap.
    _look_and_rename(old, new)


def _look_and_rename(old: Path, new: Path) -> None:
    if new.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    old.rename(new)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably; one that exists is left alone.

    Raises:
        OSError: it cannot be made.
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        _sync_folder(each.parent)


@contextlib.contextmanager
def sink_errors(what: Path, doing: str = "writing") -> Iterator[None]:
    """Turn what goes wrong with a file into a SinkError that names it and says what to do."""
    try:
        yield
    except OSError as error:
        cause = {
            errno.ENOSPC: "the disk is full; free some space",
            errno.EDQUOT: "the disk quota is used up; free some space",
            errno.EFBIG: "the file would be larger than this process may write; raise ulimit -f",
            errno.EACCES: "permission denied; choose another --out or change its owner",
            errno.ENOENT: "no file can be made there; choose another --out",
            errno.ENOTDIR: "a file stands in the way of its folder; choose another --out",
            errno.ENAMETOOLONG: "the name is too long; choose another --out",
            errno.EROFS: "the file system is read-only; choose another --out",
        }.get(error.errno or 0, f"{error.strerror or error}; mend it")
        raise SinkError(f"{doing} {what} failed: {cause}, then run again") from error


def _link(aside: Path, path: Path, *, is_single_writer: bool = False) -> None:
    """Give the file ``aside`` the name ``path``.

    Raises:
        FileExistsError: the name is taken.
        FileNotFoundError: ``aside`` has gone.
        OSError: the file system can do neither of what that takes.
    """
    try:
        path.hardlink_to(aside)
    except OSError as error:
        # Some file systems have no hard links (exFAT, many network and FUSE ones).
        if error.errno not in _NO_LINKS:
            raise
        try:
            rename_without_replace(aside, path)
        except OSError as refused:
            if not is_single_writer or refused.errno not in (*_NO_LINKS, errno.EINVAL):
                raise
            _look_and_rename(aside, path)


def _write_all(file: io.FileIO, data: bytes) -> None:
    """Write all of ``data``: an unbuffered write may take less than it was given."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _sync_folder(folder: Path) -> None:
    """Force the folder's entries to the disk, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
