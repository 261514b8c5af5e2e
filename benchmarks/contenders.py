"""Who is measured: one function a contender, each run in a process of its own.

    python -m benchmarks.contenders < task.json

A contender scores all rows of its task. File to file it writes ``id`` and the predictions as
Parquet; in memory it measures from its first request to its last answer. The last line of stdout
is one JSON object with the figures, all without the start-up of Python.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path

from benchmarks.task import Stopwatch, Task, cpu_seconds
from benchmarks.workloads import DURABILITY, GRPC, SHM, STREAM
from tritonbulk.allocator import keep_freed_memory

Contender = Callable[[Task, Stopwatch], int]


def contender(name: str) -> Contender:
    """Return the contender of a name; it imports what it measures and nothing else."""
    if name in (transports := {GRPC: "unary", STREAM: "stream", SHM: "shm"}):
        return partial(import_module("benchmarks.ours").tritonbulk, transports[name])
    if name in DURABILITY:
        what = name.removeprefix("tritonbulk_without_")
        return partial(import_module("benchmarks.durability").without, what)
    if name.startswith("in_process"):
        module = import_module("benchmarks.in_process")
        return partial(module.in_process, module.RUNTIMES[name])
    modules = {
        "tritonbulk_cli": "ours",
        "naive": "tritonclients",
        "careful_aio": "tritonclients",
        "perf_analyzer": "perf_analyzer",
    }
    found: Contender = getattr(import_module(f"benchmarks.{modules[name]}"), name)
    return found


def main() -> None:
    """Carry out the task on stdin and print its figures."""
    task = Task.from_json(sys.stdin.read())
    if task.contender.startswith(("tritonbulk", "in_process")):
        keep_freed_memory()  # as the command line does
    run = contender(task.contender)
    _settle_pandas(used=task.contender != "tritonbulk_cli")
    watch = Stopwatch()
    rows = run(task, watch)
    watch.stop()
    figures = {
        "rows": rows,
        "seconds": watch.seconds,
        "cpu_seconds": watch.cpu_seconds,
        "cpu_seconds_whole": cpu_seconds(),
        "peak_mb": _peak_mb(),
    }
    print(json.dumps(figures))


def _settle_pandas(*, used: bool) -> None:
    """Import pandas now, or never: Arrow would, where it is installed, at its first conversion.

    Start-up is nobody's throughput, and the command line is installed without pandas: its peak
    memory must not have it.
    """
    if not used:
        sys.meta_path.insert(0, _WithoutPandas())
    elif find_spec("pandas"):
        import_module("pandas")


class _WithoutPandas(MetaPathFinder):
    """Refuses the import; None in ``sys.modules`` is more than Arrow can take."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _peak_mb() -> float:
    # Not ru_maxrss: it also counts the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_kib = int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return peak_kib * 1024 / 1e6


if __name__ == "__main__":
    main()
