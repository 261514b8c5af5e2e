"""Output: whether parts can be created there, how much room there is, and what its clock says."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tritonbulk.doctor.finding import Finding
from tritonbulk.errors import OptionError, TritonbulkError
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.job.stores.object import ObjectStore

DISK_BYTES_MIN = 2**30
"""Free bytes on the output's disk below which a run is likely to fill it."""

SKEW_S_MAX = 30.0
"""Difference of clocks that is told; object stores refuse requests from 900 s on."""


def look_at_output(out: str) -> Iterator[Finding]:
    """Yield what was found of an output folder, or a URI."""
    if "://" in out:
        yield from _look_at_objects(out)
    else:
        yield from _look_at_folder(Path(out))


def _look_at_objects(uri: str) -> Iterator[Finding]:
    try:
        store = ObjectStore(uri)
        store.prepare()
    except OptionError as error:
        yield Finding(
            "create", "problem", uri.partition("?")[0], str(error),
            "use a store that honours If-None-Match, or --single-writer with one run at a time",
        )  # fmt: skip
        return
    except TritonbulkError as error:
        about = uri.rpartition("@")[2].partition("?")[0]
        yield Finding("create", "problem", about, str(error), "see above")
        return
    yield Finding("create", "ok", store.name, "objects are created, never replaced")
    yield _clock(store.name, store.clock_ahead_s())


def _look_at_folder(folder: Path) -> Iterator[Finding]:
    near = folder.absolute()
    while not near.exists():
        near = near.parent
    about = str(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".tritonbulk-doctor-", dir=near) as probe:
            LocalStore(Path(probe)).prepare()
            file = Path(probe) / "clock"
            file.touch()
            ahead_s = file.stat().st_mtime - time.time()
    except (OSError, TritonbulkError) as error:
        text = str(error)
        yield Finding("create", "problem", about, text, "choose another --out, or mend its rights")
        return
    yield Finding("create", "ok", about, "files are created, never replaced")
    yield _clock(about, ahead_s)
    free_bytes = shutil.disk_usage(near).free
    text = f"{free_bytes / 2**30:.1f} GiB are free"
    if free_bytes < DISK_BYTES_MIN:
        yield Finding("disk", "warning", about, text, "free some space, or choose another --out")
    else:
        yield Finding("disk", "ok", about, text)


def _clock(about: str, ahead_s: float | None) -> Finding:
    if ahead_s is None:
        return Finding("clock", "unknown", about, "the store does not tell its time")
    if abs(ahead_s) <= SKEW_S_MAX:
        return Finding("clock", "ok", about, f"its clock is ours to within {SKEW_S_MAX:.0f} s")
    how = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        "clock", "warning", about, f"its clock is {abs(ahead_s):,.0f} s {how} this machine's",
        "set this machine's clock (chrony, systemd-timesyncd): --max-age goes by it, and object "
        "stores refuse requests that are 15 minutes off",
    )  # fmt: skip
