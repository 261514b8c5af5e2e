"""Clocks of a run: how long it takes, and how long each of its stages is busy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

from tritonbulk.bottleneck import StageSeconds

TimedStage = Literal["read", "encode", "decode", "write"]

COMMITTERS = 2
"""Threads that commit parts while another makes the next: a disk's sync, an object store's answer
are waited for meanwhile."""


class StageClock:
    """Times one run, from its making on; made and asked in the thread of the event loop.

    It reads the clock a few times a batch, so it costs next to nothing.
    """

    def __init__(self) -> None:
        # Every sum is added to by one thread alone, so none needs a lock.
        self._busy_s: dict[TimedStage, float] = dict.fromkeys(
            ("read", "encode", "decode", "write"), 0.0
        )
        self._commit_s = 0.0
        self._round_trips_s = 0.0
        self._requests = 0
        self._under_way = 0
        self._under_way_s = 0.0
        self._under_way_since_s = 0.0
        self._began_s = time.perf_counter()
        self._began_cpu_s = time.thread_time()

    @contextlib.contextmanager
    def busy(self, stage: TimedStage) -> Iterator[None]:
        """Count the time within as time of ``stage``."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self._busy_s[stage] += time.perf_counter() - began_s

    def committed(self, seconds: float) -> None:
        """Count one commit, of which `COMMITTERS` may go on at the same time."""
        self._commit_s += seconds / COMMITTERS

    @contextlib.contextmanager
    def round_trip(self) -> Iterator[None]:
        """Count the time within as one request's way to the server and back."""
        began_s = time.perf_counter()
        if not self._under_way:
            self._under_way_since_s = began_s
        self._under_way += 1
        try:
            yield
        finally:
            ended_s = time.perf_counter()
            self._requests += 1
            self._round_trips_s += ended_s - began_s
            self._under_way -= 1
            if not self._under_way:
                self._under_way_s += ended_s - self._under_way_since_s

    def so_far(self, laid_out_s: float) -> StageSeconds:
        """Return the figures up to now.

        Args:
            laid_out_s: seconds that the transports spent on laying out requests, which lie within
                the round trips but are encoding.
        """
        return StageSeconds(
            wall_s=time.perf_counter() - self._began_s,
            read_s=self._busy_s["read"],
            encode_s=self._busy_s["encode"] + laid_out_s,
            decode_s=self._busy_s["decode"],
            loop_s=time.thread_time() - self._began_cpu_s,
            write_s=max(self._busy_s["write"], self._commit_s),
            under_way_s=self._under_way_s,
            round_trips_s=max(self._round_trips_s - laid_out_s, 0.0),
            requests=self._requests,
        )


class Stopwatch:
    """Wall and CPU time of this process, without the spans in which it was paused."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0
        self.resume()

    def resume(self) -> None:
        """Go on counting from now."""
        self._wall_began_s = time.perf_counter()
        self._cpu_began_s = time.process_time()

    def now(self) -> tuple[float, float]:
        """Return wall and CPU seconds so far; it must be running."""
        return (
            self.wall_s + time.perf_counter() - self._wall_began_s,
            self.cpu_s + time.process_time() - self._cpu_began_s,
        )

    def pause(self) -> None:
        """Leave out what comes until `resume`."""
        self.wall_s += time.perf_counter() - self._wall_began_s
        self.cpu_s += time.process_time() - self._cpu_began_s
