"""Environment: the machine and the versions that figures depend on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("tritonbulk", "grpcio", "numpy", "pyarrow", "tritonclient")
_CPU_INFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def environment() -> dict[str, str | int | float]:
    """Return what figures depend on: machine, versions, and the load right now.

    What the system does not tell is left out.
    """
    found: dict[str, str | int | float] = {
        "processor": platform.machine(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "host": platform.node(),
        "python": platform.python_version(),
    }
    with suppress(OSError):
        lines = _CPU_INFO.read_text().splitlines()
        models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        found["processor"] = models[0] if models else platform.machine()
    with suppress(OSError):
        found["governor"] = _GOVERNOR.read_text().strip()
    with suppress(OSError, ValueError):
        pages = os.sysconf("SC_PHYS_PAGES")
        found["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * pages / 2**30)
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    with suppress(OSError):
        found["load_1_min"] = round(os.getloadavg()[0], 2)
    return found
