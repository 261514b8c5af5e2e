"""tritonbulk without what makes its parts durable and checkable, to see what these cost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from benchmarks.ours import tritonbulk
from benchmarks.task import Stopwatch, Task
from tritonbulk.job import commit, manifest, statement


def without(what: str, task: Task, watch: Stopwatch) -> int:
    """Run `score` without ``sync``, ``checksums`` or ``both``; return the rows."""
    if what in ("sync", "both"):
        os.fsync = lambda _: None  # type: ignore[assignment]
    if what in ("checksums", "both"):
        pq.ParquetWriter = _unchecked(pq.ParquetWriter)
        for module in (statement, commit, manifest):
            module.hashlib = _NoHashes()  # type: ignore[attr-defined]
    return tritonbulk("shm" if task.workload.layout == "list" else "unary", task, watch)


def _unchecked(writer: Callable[..., Any]) -> Callable[..., Any]:
    def make(*given: Any, **options: Any) -> Any:
        return writer(*given, **{**options, "write_page_checksum": False})

    return make


class _NoHashes:
    """`hashlib`, whose SHA-256 costs nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(hashlib, name)

    @staticmethod
    def sha256(_: object = b"") -> _NoHash:
        return _NoHash()


class _NoHash:
    def update(self, _: object) -> None:
        """Look at nothing."""

    def hexdigest(self) -> str:
        """Return a digest of nothing."""
        return "0" * 64
