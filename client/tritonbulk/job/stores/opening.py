"""Opening: what the user names as the output → its store."""

from __future__ import annotations

from pathlib import Path

from tritonbulk.job.stores.base import Store
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.job.stores.object import ObjectStore


def open_store(out: str | Path, *, is_single_writer: bool = False) -> Store:
    """Return the store of an output folder, or of a URI; nothing is asked of it yet.

    Args:
        out: a folder, or ``scheme://…``.
        is_single_writer: for stores and file systems that cannot create without replacing.

    Raises:
        PlatformError: the URI needs a package that is not installed.
        OptionError: the URI is none that can be written to.
    """
    if "://" in str(out):
        return ObjectStore(str(out), is_single_writer=is_single_writer)
    return LocalStore(Path(out), is_single_writer)
