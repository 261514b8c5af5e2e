"""What a contender's process is given on stdin, and how it measures itself."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from benchmarks.workloads import WORKLOADS, Workload


@dataclass(frozen=True, slots=True)
class Task:
    """One run of one contender.

    Attributes:
        contender: its name.
        workload_name: of the workload.
        rows: to score.
        file: has these rows; of an in-memory workload: its payloads.
        repository: the model repository that the servers serve.
        endpoints: of the servers.
        out: folder for the output; not there yet.
        shared_memory_prefix: what names of memory shared with the (first) server begin with.
        admin_headers: what opens that server's shared memory; secret, hence on stdin.
        perf_analyzer: path of its command; "" where it is not there.
    """

    contender: str
    workload_name: str
    rows: int
    file: str
    repository: str
    endpoints: tuple[str, ...]
    out: str
    shared_memory_prefix: str
    admin_headers: Mapping[str, str] = field(repr=False)
    perf_analyzer: str = ""

    @property
    def workload(self) -> Workload:
        """The workload."""
        return WORKLOADS[self.workload_name]

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Return what `to_json` made the text of."""
        values = json.loads(text)
        return cls(**{**values, "endpoints": tuple(values["endpoints"])})

    def to_json(self) -> str:
        """Return the task as text."""
        return json.dumps(asdict(self))


class Stopwatch:
    """Wall and CPU time of this process and its children from `start` to `stop`, in seconds."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.start()

    def start(self) -> None:
        """Begin here: what was before does not count."""
        self._began_s, self._began_cpu_s = time.perf_counter(), cpu_seconds()

    def stop(self) -> None:
        """End here, unless it was stopped before."""
        if self.seconds is None:
            self.seconds = time.perf_counter() - self._began_s
            self.cpu_seconds = cpu_seconds() - self._began_cpu_s


def cpu_seconds() -> float:
    """Return user and system time of this process and its ended children so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
