"""The machine: what it is, and who uses its processors."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("tritonbulk", "grpcio", "numpy", "onnxruntime", "pyarrow", "tritonclient")


def card() -> dict[str, str | int | float]:
    """Return what figures depend on: processor, memory, versions, and the load right now."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def busy_seconds() -> float:
    """Return the CPU seconds that all processes of this machine have used."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def server_cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU seconds of tritonservers and their stubs so far, as scheduled."""
    family = set(pids)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent in family:
            family.add(int(stat.parent.name))
    total_ns = 0
    for pid in family:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # it ended just now
                total_ns += int(task.read_text().split()[0])
    return total_ns / 1e9
