"""Seeded bugs: each takes away one thing that a promise rests on, and a suite has to find it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tritonbulk import jobrun
from tritonbulk.cli.stopping import Signals
from tritonbulk.job import commit, manifest, stock
from tritonbulk.job.manifest import make_manifest
from tritonbulk.job.protocol import Put, Start, job_names
from tritonbulk.job.statement import PartStatement
from tritonbulk.job.stores import local
from tritonbulk.part import part_table
from tritonbulk.running import Observer

_commit, _fsync, _part_table = commit.OpenJob.commit, os.fsync, part_table


def _write_in_place(self: local.LocalStore, name: str, data: bytes) -> Put:
    path = self.folder / name
    if path.exists():
        return Put.EXISTS
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as file:
        for begin in range(0, len(data), 512):
            file.write(data[begin : begin + 512])
        os.fsync(file.fileno())
    return Put.CREATED


def _overwrite(aside: Path, path: Path, **_: object) -> None:
    aside.rename(path)


def _sync_folders_only(handle: int) -> None:
    if Path(f"/proc/self/fd/{handle}").readlink().is_dir():
        _fsync(handle)


def _tell_the_time(rows: Any, metadata: Mapping[str, str]) -> Any:
    return _part_table(rows, {**metadata, "time": str(time.time_ns())})


def _finish_early(self: commit.OpenJob, wanted: PartStatement, unsealed: bytes) -> object:
    part = _commit(self, wanted, unsealed)
    name = job_names(self.increment)[1]
    self.store.create(name, make_manifest(self.file, self.parts.values()).to_bytes())
    return part


def _never_stop(
    _self: object,
    work: Callable[[Observer, asyncio.Event], Awaitable[object]],
    observer: Observer,
    _: float,
) -> object:
    async def carry_out() -> object:
        return await work(observer, asyncio.Event())

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return asyncio.run(carry_out())


def _read_unchecked(data: bytes) -> PartStatement:
    text = data[data.rfind(b'{"tritonbulk.part"') :]
    plain = json.loads(text[: text.index(b"}") + 1])
    return PartStatement(**{each.name: plain[each.name] for each in fields(PartStatement)})


BUGS: Mapping[str, tuple[tuple[object, str, object], ...]] = {
    "parts are written in place": ((local.LocalStore, "create", _write_in_place),),
    "parts are overwritten and tell the time": (
        (local, "_link", _overwrite),
        # Which would find it at once.
        (local.LocalStore, "_probe", lambda _: None),
        (jobrun, "part_table", _tell_the_time),
    ),
    "parts tell the time": ((jobrun, "part_table", _tell_the_time),),
    "the manifest is early": (
        (commit.OpenJob, "commit", _finish_early),
        (manifest, "check_tiling", lambda *_: None),
    ),
    "nothing is synced": ((os, "fsync", lambda _: None),),
    "files are not synced": ((os, "fsync", _sync_folders_only),),
    "short writes go unseen": ((local, "_write_all", lambda file, data: file.write(data)),),
    "fingerprints are not compared": ((commit, "start", lambda *_, **__: Start.CONTINUE),),
    "inputs are not looked at again": ((jobrun, "check_unchanged", lambda *_: None),),
    "the seal is not checked": (
        (commit, "read_part", _read_unchecked),
        (stock, "read_part", _read_unchecked),
    ),
    "signals are ignored": ((Signals, "run", _never_stop),),
}


def seed(name: str) -> None:
    """Seed a bug into this process, for good."""
    for target, attribute, value in BUGS[name]:
        setattr(target, attribute, value)
