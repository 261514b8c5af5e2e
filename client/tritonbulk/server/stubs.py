"""The stubs of a server: one process for each model instance, and Triton does not miss them.

A stub that dies is never started again and the server goes on to call itself ready, while every
request to that model fails. But neither does the server reap it, so it stays in the process table.
"""

from __future__ import annotations

import time
from pathlib import Path

REAPED_AFTER_S = 0.2


def dead_stubs(server_pid: int) -> list[int]:
    """Return the ids of the stubs of a server that died while they were needed.

    A stub that ends because its model is unloaded is reaped by the server within moments, so what
    is found once is looked at again; that alone makes this wait, for ``REAPED_AFTER_S``.
    """
    found = _zombie_children(server_pid)
    if found:
        time.sleep(REAPED_AFTER_S)
        found &= _zombie_children(server_pid)
    return sorted(found)


def _zombie_children(parent_pid: int) -> set[int]:
    children = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # After the name, which may contain anything: the state, the parent, … of proc(5).
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(parent) == parent_pid:
            children.add(int(entry.name))
    return children
