"""Pool: the scorers at work in this process, shared by all copies of one scorer.

Engines unpickle a scorer again and again in a process that they keep; what it learned (connections,
the width of the window) is kept with it. A process that was forked begins with none, and is refused
if its parent had connected: what gRPC keeps for a process does not outlive a fork, and calls hang.
"""

from __future__ import annotations

import atexit
import os
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from tritonbulk.errors import PlatformError
from tritonbulk.scorer.config import ScorerConfig
from tritonbulk.scorer.work import Work

WORKS_MAX = 4
"""Scorers kept at work; beyond, those that nobody holds end, the one used longest ago first."""

CLOSE_S = 5.0
"""How long the end of the process waits for them."""

_Key = tuple[bytes, bytes]


class Pool:
    """See the module."""

    def __init__(self) -> None:
        self._has_connected = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget, in a forked process, its parent's: neither threads nor locks came along."""
        self._is_cut_off = self._has_connected
        # An iterator that is collected lets go, wherever its thread was: perhaps in here.
        self._lock = threading.RLock()
        self._works: dict[_Key, Work] = {}
        self._held: list[Work] = []  # once for each holder

    def enter(self) -> None:
        """Note that this process connects to servers.

        Raises:
            PlatformError: it was forked from one that had; a retry does not help.
        """
        if self._is_cut_off:
            raise PlatformError(
                "this process was forked from one that had connected to a server, and gRPC does "
                "not outlive a fork; start processes with 'spawn' or 'forkserver'"
            )
        self._has_connected = True

    @contextmanager
    def hold(self, config: ScorerConfig, schema: pa.Schema) -> Iterator[Work]:
        """Hold the scorer at work for a configuration and a schema; started if there is none.

        It is not spared meanwhile, however little it has to do.

        Raises:
            PlatformError: see `enter`.
        """
        self.enter()
        key = pickle.dumps(config), schema.serialize().to_pybytes()
        with self._lock:
            found = self._works.pop(key, None)
            if found is None or found.has_ended:
                found = Work(config, schema)
            self._works[key] = found  # the last one is the one used last
            self._held.append(found)
            spare = self._spare()
        try:
            for work in spare:
                work.close(0.0)
            yield found
        finally:
            with self._lock:
                if found in self._held:  # a forked process holds nothing
                    self._held.remove(found)

    def close(self) -> None:
        """End all."""
        with self._lock:
            works, self._works = list(self._works.values()), {}
        for work in works:
            work.close(CLOSE_S)

    def _spare(self) -> list[Work]:
        spare = []
        for key, work in list(self._works.items())[:-1]:
            if work.has_ended or (len(self._works) > WORKS_MAX and work not in self._held):
                spare.append(self._works.pop(key))
        return spare


POOL = Pool()
atexit.register(POOL.close)
os.register_at_fork(after_in_child=POOL.begin_anew)
