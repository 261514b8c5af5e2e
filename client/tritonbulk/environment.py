"""Environment: the machine and the versions that figures depend on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("tritonbulk", "grpcio", "numpy", "pyarrow", "tritonclient")


def environment() -> dict[str, str]:
    """Return processor, memory, system and versions by name; what cannot be told is left out."""
    found = {
        "processor": platform.machine(),
        "cores": str(os.cpu_count() or "unknown"),
        "system": f"{platform.system()} {platform.release()}",
        "host": platform.node(),
        "python": platform.python_version(),
    }
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        found["processor"] = models[0] if models else platform.machine()
    with suppress(OSError, ValueError):
        pages = os.sysconf("SC_PHYS_PAGES")
        found["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * pages / 2**30:.0f} GiB"
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
