"""Machine: memory, shared memory and packages here, and what the embedded server needs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

from tritonbulk.dispatch.limits import IN_FLIGHT_BYTES_MAX, SEGMENTS_BYTES_MAX
from tritonbulk.doctor.finding import Finding

PROCESS_BYTES = 150 * 10**6
"""What a run takes beside rows and requests."""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  the system's
_SHARED_BYTES_MIN = 64 * 2**20
_GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def look_at_machine(*, is_embedded: bool) -> Iterator[Finding]:
    """Yield what was found of this machine; ``is_embedded``: a server is to run here as well."""
    yield _memory()
    yield from _packages()
    if is_embedded:
        yield _embedded()
        with suppress(OSError):
            free_bytes = shutil.disk_usage(_SHARED_MEMORY).free
            text = f"{free_bytes / 2**20:,.0f} MiB are free"
            is_enough = free_bytes >= _SHARED_BYTES_MIN
            yield Finding(
                "shared memory",
                "ok" if is_enough else "warning",
                str(_SHARED_MEMORY),
                text,
                "" if is_enough else "give the container more, as docker run --shm-size=1g does",
            )


def _memory() -> Finding:
    needed = PROCESS_BYTES + IN_FLIGHT_BYTES_MAX + SEGMENTS_BYTES_MAX
    need = f"a run takes up to {needed / 2**20:,.0f} MiB by default"
    free = free_memory_bytes()
    if free is None:
        return Finding("memory", "unknown", "", f"the system does not tell; {need}")
    text = f"{free / 2**20:,.0f} MiB are free; {need}"
    if free < needed:
        return Finding("memory", "warning", "", text, "give --memory, for example 64MiB")
    return Finding("memory", "ok", "", text)


def free_memory_bytes() -> int | None:
    """Return the bytes that this process may still take: the machine's, or its group's if fewer."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(each.split()[1]) for each in lines if "MemAvailable" in each) * 1024)
    for folder, limit, used in _GROUPS:
        with suppress(OSError, ValueError):  # "max" is no number
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            found.append(max(left + _cached_bytes(folder / "memory.stat"), 0))
    return min(found, default=None)


def _cached_bytes(statistics: Path) -> int:
    """Return the bytes of files that a group holds and gives back where memory is short."""
    words = statistics.read_text().split()
    return int(dict(zip(words[::2], words[1::2], strict=True)).get("inactive_file", 0))


def _packages() -> Iterator[Finding]:
    names = {str(each.metadata["Name"]).lower().replace("_", "-") for each in distributions()}
    several = sorted(name for name in names if name in _RUNTIMES)
    if len(several) > 1:
        yield Finding(
            "packages", "problem", "", f"{' and '.join(several)} overwrite each other's files",
            f"pip uninstall -y {' '.join(several)}, then install the one that is meant",
        )  # fmt: skip
    else:
        yield Finding("packages", "ok", "", "no two packages overwrite each other")


_RUNTIMES = frozenset(
    f"onnxruntime{kind}"
    for kind in ("", "-gpu", "-directml", "-openvino", "-rocm", "-qnn", "-silicon", "-training")
)


def _embedded() -> Finding:
    if sys.platform != "linux":
        return Finding("embedded server", "problem", "", "it runs on Linux only", "give --endpoint")
    # Deferred: its modules are Linux only.
    from tritonbulk.server import environment  # noqa: PLC0415

    found = environment.info()
    if found is not None and found.complete:
        return Finding("embedded server", "ok", str(found.path), "its environment is ready")
    return Finding(
        "embedded server", "ok", "", "its environment is made on first use (350 MB, by network)",
        "tritonbulk server install makes it now",
    )  # fmt: skip
