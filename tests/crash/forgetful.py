"""A file system that forgets on a crash whatever was not synced, in memory, through FUSE.

Stricter than any real one: a file's bytes survive by `fsync` of the file, its name by `fsync` of
its folder, nothing else does.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MOUNT_S = 10.0


def missing() -> str:
    """Return why such a file system cannot be mounted here, "" if it can."""
    if os.geteuid():
        return "only root may mount it"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    try:
        import mfusepy  # noqa: F401, PLC0415
    except (ImportError, OSError) as error:
        return f"FUSE's library is not installed ({error})"
    return ""


State = dict[str, bytes | None]
"""What stands on a disk: contents by path, None for a folder."""


@contextmanager
def mounted(
    folder: Path, begin: State, failure: tuple[str, int, int] | None = None
) -> Iterator[tuple[Path, Path]]:
    """Mount one below ``folder``; give its path, and the file of states for afterwards.

    ``failure`` is an operation, which one of them fails, and with what errno.
    """
    path, states = folder / "forgetful", folder / "states.jsonl"
    path.mkdir()
    write_states(states, [begin])
    words = [sys.executable, "-m", "tests.crash.forgetful_disk", str(path), str(states)]
    process = subprocess.Popen([*words, *map(str, failure or ())])
    try:
        deadline = time.monotonic() + MOUNT_S
        while not path.is_mount():
            assert process.poll() is None, "the file system has ended"
            assert time.monotonic() < deadline, "the file system was not mounted"
            time.sleep(0.01)
        yield path, states
    finally:
        subprocess.run(["umount", path], check=False)
        process.wait(MOUNT_S)
        path.rmdir()


def write_states(states: Path, disks: Iterable[State]) -> None:
    """Write disks as JSON Lines: paths and their contents (Base64), null for a folder."""
    with states.open("w") as file:
        for disk in disks:
            plain = {
                path: None if data is None else base64.b64encode(data).decode()
                for path, data in disk.items()
            }
            file.write(json.dumps(plain) + "\n")


def read_states(states: Path) -> list[State]:
    """Return what stood there in the beginning, and what each crash since would have left."""
    return [
        {
            path: None if data is None else base64.b64decode(data)
            for path, data in json.loads(line).items()
        }
        for line in states.read_text().splitlines()
    ]


def restore(state: State, folder: Path) -> None:
    """Lay out what a crash left as a real folder."""
    folder.mkdir(exist_ok=True)
    for path, data in sorted(state.items()):
        target = folder / path.lstrip("/")
        if data is None:
            target.mkdir()
        else:
            target.write_bytes(data)
