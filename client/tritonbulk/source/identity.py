"""Identity: what tells one state of an input file from any other, taken once and checked often."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pyarrow import fs

from tritonbulk.errors import ChangedError
from tritonbulk.job.spec import InputIdentity
from tritonbulk.source.reader import InputFile, reading

ENDS_BYTES = 64 * 2**10
"""Bytes at each end of a file that its identity covers."""

_PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file system says of a file without reading it.

    Attributes:
        size: bytes.
        mtime_ns: time of the last change, in ns since 1970.
        etag: an object store's; None for files.
        inode: which file it is, where `stamp` was asked to be strict; None elsewhere.
        ctime_ns: when anything about it last changed, which no program can set; None likewise.
    """

    size: int
    mtime_ns: int
    etag: str | None
    inode: int | None = None
    ctime_ns: int | None = None


def stamp(file: InputFile, *, is_strict: bool = False) -> Stamp:
    """Return what the file system says of a file now.

    Args:
        file: to look at.
        is_strict: tell apart also files of one size and time; a change of owner or links counts.

    Raises:
        SourceError: it cannot be looked at; a retry may help.
        ChangedError: it has gone; a retry does not help.
    """
    with reading(file):
        info = file.filesystem.get_file_info(file.path)
        if info.type != fs.FileType.File:
            raise ChangedError(f"{file.name} has gone; restore it, then run again")
        seen = Stamp(info.size, info.mtime_ns or 0, _etag(file))
        if is_strict and isinstance(file.filesystem, fs.LocalFileSystem):
            known = Path(file.path).stat()
            return replace(seen, inode=known.st_ino, ctime_ns=known.st_ctime_ns)
        return seen


def check_unchanged(file: InputFile, before: Stamp) -> None:
    """Check that a file is as it was; called after its rows were read, so they are what it held.

    Raises:
        ChangedError: it is not; a retry is refused by the job's fingerprint.
    """
    if stamp(file, is_strict=before.inode is not None) != before:
        raise ChangedError(
            f"{file.name} has changed since the run began; what was read since then is not "
            "written, so restore the file and run again, or score it into another --out"
        )


def identify(
    files: Sequence[InputFile], rows: Sequence[int | None], *, is_strict: bool
) -> tuple[InputIdentity, ...]:
    """Return the identity of every file.

    Args:
        files: in output order.
        rows: of each, None where only reading tells.
        is_strict: read all of every file instead of trusting its time and ends.

    Raises:
        SourceError: a file cannot be read; a retry may help.
    """
    return tuple(
        _identify(file, count, is_strict=is_strict) for file, count in zip(files, rows, strict=True)
    )


def _identify(file: InputFile, rows: int | None, *, is_strict: bool) -> InputIdentity:
    now = stamp(file)
    name = file.name
    if isinstance(file.filesystem, fs.LocalFileSystem):
        name = Path(file.path).absolute().as_posix()
    # Ends that meet are all of it: then its time tells nothing more.
    is_small = now.etag is None and now.size <= 2 * ENDS_BYTES
    if is_strict or is_small:
        return InputIdentity(name, now.size, rows, sha256=_sha256(file, 0, now.size))
    if now.etag is not None:
        return InputIdentity(name, now.size, rows, etag=now.etag)
    ends = _sha256(file, min(ENDS_BYTES, now.size), min(ENDS_BYTES, now.size))
    return InputIdentity(name, now.size, rows, mtime_ns=now.mtime_ns, sha256_ends=ends)


def _sha256(file: InputFile, head_bytes: int, tail_bytes: int) -> str:
    """Return the hex digest of the first and the last bytes of a file."""
    digest = hashlib.sha256()
    with reading(file), file.filesystem.open_input_file(file.path) as opened:
        digest.update(opened.read(head_bytes))
        opened.seek(opened.size() - tail_bytes)
        while piece := opened.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _etag(file: InputFile) -> str | None:
    """Return the object's ETag; None for files and for stores that have none."""
    if isinstance(file.filesystem, fs.LocalFileSystem):
        return None
    if isinstance(file.filesystem, fs.PyFileSystem):
        known = file.filesystem.handler.fs.info(file.path, refresh=True)
    else:
        with file.filesystem.open_input_stream(file.path, compression=None) as stream:
            known = stream.metadata()
    found = {str(_text(key)).lower(): value for key, value in known.items()}.get("etag")
    return None if found is None else str(_text(found))


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value
