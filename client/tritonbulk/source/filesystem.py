"""File systems: local paths, what ``pyarrow.fs`` knows, else what fsspec knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from tritonbulk.errors import InputError, PlatformError
from tritonbulk.source.reader import cause
from tritonbulk.text import printable

_LOCAL_MAGIC = re.compile(r"[*?\[]")
_URI_MAGIC = re.compile(r"[*\[]")  # a ? begins the query


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input is.

    Attributes:
        filesystem: to ask.
        path: on it; the fixed front of a pattern.
        pattern: what follows the path, with ``*``, ``**``, ``?`` or ``[…]``; "" for none.
        show: a path on the file system → its name in errors, without credentials.
    """

    filesystem: fs.FileSystem
    path: str
    pattern: str
    show: Callable[[str], str]


def place_of(name: str) -> Place:
    """Return where the input ``name`` is; nothing is looked up but the file system.

    Raises:
        InputError: the URI is malformed or its store cannot be reached.
        PlatformError: its scheme needs a package that is not installed.
    """
    if "://" in name:
        return _uri_place(name)
    path = Path(name).as_posix()
    local = fs.LocalFileSystem()
    if _LOCAL_MAGIC.search(path) and not Path(name).exists():
        front, pattern = _cut(path, _LOCAL_MAGIC)
        return Place(local, front or ".", pattern, printable)
    return Place(local, path, "", printable)


def _uri_place(name: str) -> Place:
    whole, question, query = name.partition("?")
    front, pattern = _cut(whole, _URI_MAGIC)
    parts = urlsplit(whole)
    shown = printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    try:
        filesystem, path = fs.FileSystem.from_uri(front + question + query)
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem" not in str(error):
            raise InputError(f"input {shown} is no valid URI; check it") from None
        filesystem, path = _fsspec(front + question + query, parts.scheme, shown)
        return Place(filesystem, path, pattern, lambda p: _shown(parts.scheme, "", p.lstrip("/")))
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"the store of input {shown} cannot be reached ({cause(error)}); check address, "
            "network and credentials"
        ) from None
    host = parts.netloc.rpartition("@")[2]
    return Place(filesystem, path, pattern, lambda p: _shown(parts.scheme, host, p))


def _shown(scheme: str, host: str, path: str) -> str:
    # Stores of buckets give the bucket as the path's first part, others give absolute paths.
    return printable(f"{scheme}://{host if path.startswith('/') else ''}{path}")


def _cut(name: str, magic: re.Pattern[str]) -> tuple[str, str]:
    """Return the folders before the first pattern, and the rest."""
    found = magic.search(name)
    if found is None:
        return name, ""
    end = name.rfind("/", 0, found.start()) + 1
    return name[:end], name[end:]


def _fsspec(uri: str, scheme: str, shown: str) -> tuple[fs.FileSystem, str]:
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415  optional
    except ImportError:
        raise PlatformError(
            f"input {shown} needs the package fsspec, and the one that brings {scheme}:// to it; "
            "install both with pip"
        ) from None
    try:
        filesystem, path = url_to_fs(uri)
    except ImportError as error:
        raise PlatformError(
            f"input {shown} needs a package that brings {scheme}:// to fsspec ({cause(error)})"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"input {shown} cannot be opened ({cause(error)}); check it") from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path
