"""Sink: one immutable part a segment, complete or absent.

A part is written aside, synced, and linked to its name without replacing anything; a crash leaves
at worst a file in the scratch folder, never half a part. Directly in the output folder stand parts
alone; everything else is in ``_tritonbulk/``, which readers of data sets skip by its underscore.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tritonbulk.codec import Predictions
from tritonbulk.errors import OutputError, SinkError
from tritonbulk.options import OutFormat
from tritonbulk.part import PartFormat, encode_part, part_table

OWN_FOLDER = "_tritonbulk"
"""Folder in the output that holds everything but parts."""

ROWS_FILTERED_KEY = "tritonbulk.rows_filtered"
"""Key in a part's footer: how many rows of its segment a filter removed, in decimal digits."""

_PART_PATTERN = "part-*.*"


@dataclass(frozen=True, slots=True)
class Sink:
    """Writes the parts of one run into the folder ``out``, in one form."""

    out: Path
    form: PartFormat

    def write(
        self, index: int, kept: pa.RecordBatch, predictions: Predictions, rows_filtered: int = 0
    ) -> Path:
        """Write segment ``index`` durably and return its part.

        Args:
            index: of the segment.
            kept: the input columns that stand before the predictions; may have none.
            predictions: complete.
            rows_filtered: rows of the segment that a filter removed; stands in the footer.

        Raises:
            SinkError: disk full, permission, or the part exists already; a retry helps once the
                cause is gone.
        """
        footer = {ROWS_FILTERED_KEY: str(rows_filtered)}
        table = part_table(kept, predictions, self.form.vectors, footer)
        part = self.out / self.form.part_name(index)
        aside = self._scratch / f"{part.name}.{os.getpid()}"
        with _sink_errors(part):
            try:
                _write_synced(table, aside, self.form.out_format, kept.schema.names)
                _publish(aside, part)
            finally:
                aside.unlink(missing_ok=True)
            _sync_folder(self.out)
        return part

    def close(self) -> None:
        """Remove the scratch folder, if nothing stands in it."""
        with contextlib.suppress(OSError):
            self._scratch.rmdir()

    @property
    def _scratch(self) -> Path:
        return self.out / OWN_FOLDER / "tmp"


def check_output(out: Path) -> None:
    """Check that a run may write to ``out``; change nothing.

    Raises:
        OutputError: the folder holds parts already or is no folder; a retry does not help.
        SinkError: it cannot be looked at.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"output {out} is a file; give a folder")
    with _sink_errors(out):
        if next(out.glob(_PART_PATTERN), None) is not None:
            raise OutputError(
                f"output folder {out} already holds parts; remove it or give another --out"
            )


def open_sink(out: Path, form: PartFormat | None = None) -> Sink:
    """Return the sink for an output folder, which is made if it is missing.

    Args:
        out: the folder.
        form: of the parts; None takes the usual one.

    Raises:
        OutputError: see `check_output`.
        SinkError: the folder cannot be made.
    """
    check_output(out)
    sink = Sink(out, form or PartFormat())
    with _sink_errors(out):
        (out / OWN_FOLDER / "tmp").mkdir(parents=True, exist_ok=True)
    return sink


def _write_synced(table: pa.Table, path: Path, out_format: OutFormat, kept: Sequence[str]) -> None:
    """Write a part and force it to the disk."""
    with path.open("xb") as file:
        encode_part(table, file, out_format, kept)
        file.flush()
        os.fsync(file.fileno())


def _publish(aside: Path, part: Path) -> None:
    """Give the file ``aside`` the name ``part``, which must be free.

    Raises:
        FileExistsError: it is not.
    """
    try:
        part.hardlink_to(aside)
    except OSError as error:
        # Some file systems have no hard links (exFAT, many network and FUSE ones).
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        rename_without_replace(aside, part)


def rename_without_replace(old: Path, new: Path) -> None:
    """Rename a file to a name that must be free, in one step where the system can.

    Raises:
        FileExistsError: it is not.
    """
    if sys.platform == "linux":
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        at_cwd, no_replace = -100, 1  # AT_FDCWD, RENAME_NOREPLACE of <linux/fs.h>
        if renameat2(at_cwd, os.fsencode(old), at_cwd, os.fsencode(new), no_replace):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(new))
        return
    # Windows refuses to replace by itself; elsewhere the look comes a moment before the leap.
    if new.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    old.rename(new)


def _sync_folder(folder: Path) -> None:
    """Force the folder's entries to the disk, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _sink_errors(what: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise SinkError(
            f"{what} appeared while this run was writing it; only one run may write to a folder"
        ) from error
    except OSError as error:
        cause = {
            errno.ENOSPC: "the disk is full; free some space",
            errno.EDQUOT: "the disk quota is used up; free some space",
            errno.EACCES: "permission denied; choose another --out or change its owner",
            errno.EROFS: "the file system is read-only; choose another --out",
        }.get(error.errno or 0, f"{error}; mend it")
        raise SinkError(f"writing {what} failed: {cause}, then run again") from error
