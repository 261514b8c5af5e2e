"""Locate: what the user names (files, folders, patterns, URIs) → the files, in output order.

Arguments keep their order; what one of them stands for is sorted by path. In folders and patterns,
names that begin with ``_`` or ``.`` are skipped, as readers of data sets do.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from tritonbulk.errors import InputError
from tritonbulk.options import Format
from tritonbulk.source.filesystem import Place, place_of
from tritonbulk.source.partitions import keys_of
from tritonbulk.source.reader import InputFile, cause
from tritonbulk.text import printable

_FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_HIDDEN = ("_", ".")


def locate(
    inputs: Sequence[str], asked: Format | None, leave_out: Sequence[str | Path] = ()
) -> tuple[InputFile, ...]:
    """Return the files of ``inputs``, all of one format.

    Args:
        inputs: paths, folders, patterns or URIs of these.
        asked: the format; None tells it by each file's extension.
        leave_out: files, folders or URIs that are written. What lies there is not found in folders
            and by patterns: the next run would take the output for input.

    Raises:
        InputError: an input names no file, or one that is written, a format is unknown, or two
            differ; no retry.
        PlatformError: a URI needs a package that is not installed.
    """
    written = [_comparable(each) for each in leave_out]
    files = [file for name in inputs for file in _files_of(name, asked, written)]
    for file in files:
        if file.format != files[0].format:
            raise InputError(
                f"{file.name} is {file.format}, but {files[0].name} is {files[0].format}; score "
                "them in separate runs, or name one format with --format"
            )
    return tuple(files)


def _files_of(name: str, asked: Format | None, written: Sequence[str]) -> Iterator[InputFile]:
    place = place_of(name)
    shown = printable(name) if "://" not in name else place.show(place.path) + place.pattern
    try:
        found = sorted(_search(place, shown))
    except OSError as error:
        raise InputError(f"input {shown} cannot be listed ({cause(error)}); check it") from error
    if _is_in(place, place.path, written):
        raise InputError(
            f"input {shown} lies where the output is written; give another --out, or another input"
        )
    found = [path for path in found if not _is_in(place, path, written)]
    if not found:
        what = "matches no file" if place.pattern else "holds no file"
        raise InputError(f"input {shown} {what}; names that begin with _ or . are skipped")
    base = place.path.rstrip("/")
    for path in found:
        folders = path[len(base) :].strip("/").split("/")[:-1]
        shape, compression = _told_by_name(path, place.show(path), asked)
        yield InputFile(
            place.show(path), place.filesystem, path, shape, compression, keys_of(folders)
        )


def _comparable(written: str | Path) -> str:
    """Return an output in the form in which `_is_in` compares it."""
    if "://" in str(written):
        parts = urlsplit(str(written))
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
    return Path(written).resolve().as_posix()


def _is_in(place: Place, path: str, written: Sequence[str]) -> bool:
    """Return whether a path is, or lies in, what is written."""
    is_local = isinstance(place.filesystem, fs.LocalFileSystem)
    name = Path(path).resolve().as_posix() if is_local else place.show(path)
    return any(name == each or name.startswith(f"{each}/") for each in written)


def _search(place: Place, shown: str) -> list[str]:
    """Return the paths of the files that an input stands for, in any order."""
    info = place.filesystem.get_file_info(place.path)
    if place.pattern:
        parts = place.pattern.strip("/").split("/")
        matches = _matches(place.filesystem, info.path, parts) if _is_folder(info) else []
        return sorted({path for each in matches for path in _below(place.filesystem, each)})
    if info.type == fs.FileType.NotFound:
        raise InputError(f"input file {shown} does not exist; check the path")
    return list(_below(place.filesystem, info))


def _below(filesystem: fs.FileSystem, info: fs.FileInfo) -> Iterator[str]:
    """Yield the file itself, or the visible files below a folder."""
    if not _is_folder(info):
        yield info.path
        return
    for entry in filesystem.get_file_info(fs.FileSelector(info.path, recursive=True)):
        inside = entry.path[len(info.path.rstrip("/")) :].strip("/")
        if not _is_folder(entry) and not any(
            part.startswith(_HIDDEN) for part in inside.split("/")
        ):
            yield entry.path


def _matches(filesystem: fs.FileSystem, folder: str, parts: Sequence[str]) -> Iterator[fs.FileInfo]:
    """Yield what matches a pattern below a folder; ``**`` stands for any folders, or none."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches(filesystem, folder, rest or ["*"])
    for entry in filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        name = posixpath.basename(entry.path.rstrip("/"))
        if name.startswith(_HIDDEN) and not part.startswith(name[0]):
            continue
        if part == "**":
            if _is_folder(entry):
                yield from _matches(filesystem, entry.path, parts)
        elif not fnmatchcase(name, part):
            continue
        elif not rest:
            yield entry
        elif _is_folder(entry):
            yield from _matches(filesystem, entry.path, rest)


def _is_folder(info: fs.FileInfo) -> bool:
    return bool(info.type == fs.FileType.Directory)


def _told_by_name(path: str, shown: str, asked: Format | None) -> tuple[Format, str | None]:
    """Return format and compression, by the file's extensions."""
    stem, extension = posixpath.splitext(path)
    compression = _COMPRESSIONS.get(extension.lower())
    if compression is not None:
        if not pa.Codec.is_available(compression):
            raise InputError(
                f"this pyarrow cannot decompress {compression}, which {shown} needs; decompress it"
            )
        extension = posixpath.splitext(stem)[1]
    shape = asked or _FORMATS.get(extension.lower())
    if shape is None:
        raise InputError(
            f"nothing tells the format of {shown}; name it with --format parquet, csv, jsonl or "
            f"arrow (known extensions: {', '.join(_FORMATS)})"
        )
    return shape, compression
