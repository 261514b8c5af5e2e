"""Stage clock: adds up how long each stage of a run is busy; the figures behind a bottleneck."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

from tritonbulk.bottleneck import StageSeconds

TimedStage = Literal["read", "encode", "decode", "write"]


class StageClock:
    """Times one run, from its making on; made and asked in the thread of the event loop.

    It takes two readings of the clock a stage and batch, so it costs next to nothing.
    """

    def __init__(self) -> None:
        # Every stage is timed by one thread alone, so the sums need no lock.
        self._busy_s: dict[TimedStage, float] = dict.fromkeys(
            ("read", "encode", "decode", "write"), 0.0
        )
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

    def read(self, laid_out_s: float) -> StageSeconds:
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
            write_s=self._busy_s["write"],
            under_way_s=self._under_way_s,
            round_trips_s=max(self._round_trips_s - laid_out_s, 0.0),
            requests=self._requests,
        )
