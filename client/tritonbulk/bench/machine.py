"""The machine: who uses its processors. Linux tells; elsewhere nothing is known."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tritonbulk.bench.trial import Noise
from tritonbulk.scorer_options import is_loopback

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of processor time up to a moment.

    Attributes:
        at_s: the moment, by the performance counter.
        own_s: of this process.
        server_s: of the server and its processes; None if they are not on this machine.
        busy_s: of all processes; None where the system does not tell.
        steal_s: that the machine's host gave to others; None likewise.
    """

    at_s: float
    own_s: float
    server_s: float | None
    busy_s: float | None
    steal_s: float | None


def read_usage(server_pids: Iterable[int]) -> Usage:
    """Return the processor time up to now; of the server by its processes."""
    pids = tuple(server_pids)
    busy_s = steal_s = None
    with suppress(OSError, ValueError):
        fields = (_PROC / "stat").read_text().splitlines()[0].split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, fields)
        tick_s = os.sysconf("SC_CLK_TCK")
        busy_s, steal_s = (user + nice + system + irq + softirq) / tick_s, steal / tick_s
    return Usage(
        time.perf_counter(),
        time.process_time(),
        family_cpu_s(pids) if pids else None,
        busy_s,
        steal_s,
    )


def noise_between(before: Usage, after: Usage, *, server_is_here: bool) -> Noise | None:
    """Return who else used the processors; None where that cannot be told.

    Args:
        before: at the beginning.
        after: at the end.
        server_is_here: whether the server is on this machine: then its own time must be known.
    """
    seconds = after.at_s - before.at_s
    if None in (before.busy_s, after.busy_s, before.steal_s, after.steal_s) or seconds <= 0:
        return None
    if server_is_here and (before.server_s is None or after.server_s is None):
        return None
    busy_s = (after.busy_s or 0.0) - (before.busy_s or 0.0)
    known_s = after.own_s - before.own_s + (after.server_s or 0.0) - (before.server_s or 0.0)
    steal_s = (after.steal_s or 0.0) - (before.steal_s or 0.0)
    # Ticks of 10 ms on one side, nanoseconds on the other.
    foreign = max((busy_s - known_s) / seconds, 0.0)
    return Noise(round(foreign, 3), round(max(steal_s / seconds, 0.0), 3))


def family_cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds of processes and all their descendants so far, as scheduled."""
    parents: dict[int, int] = {}
    for stat in _PROC.glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):  # it ended just now
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    family = set(pids)
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    total_ns = 0
    for pid in family:
        for task in (_PROC / str(pid) / "task").glob("*/schedstat"):
            with suppress(OSError, ValueError, IndexError):
                total_ns += int(task.read_text().split()[0])
    return total_ns / 1e9


def server_pids(addresses: Iterable[str]) -> tuple[int, ...]:
    """Return the processes of this user that listen at loopback addresses; () if none is found."""
    ports = {
        int(port)
        for address in addresses
        if is_loopback(address) and (port := address.rpartition(":")[2]).isdecimal()
    }
    sockets = {f"socket:[{inode}]" for inode in _listeners(ports)} if ports else set()
    found = []
    for folder in _PROC.glob("[0-9]*/fd") if sockets else ():
        with suppress(OSError):  # another user's, or it ended just now
            if any(_target(each) in sockets for each in folder.iterdir()):
                found.append(int(folder.parent.name))
    return tuple(sorted(found))


def _listeners(ports: set[int]) -> list[str]:
    inodes = []
    for table in (_PROC / "net" / "tcp", _PROC / "net" / "tcp6"):
        with suppress(OSError, ValueError, IndexError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                is_listening = fields[3] == "0A"
                if is_listening and int(fields[1].rpartition(":")[2], 16) in ports:
                    inodes.append(fields[9])
    return inodes


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - not a path but a socket's name
    except OSError:
        return ""
