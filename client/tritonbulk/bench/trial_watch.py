"""Trial watch: what is seen of one trial while it runs, and when it leads nowhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import fmean

import pyarrow as pa

from tritonbulk.events import RequestEnded, RunEvent
from tritonbulk.plan import Plan
from tritonbulk.segments import Segment
from tritonbulk.source import Source

GIVE_UP_S, GIVE_UP_WINDOWS, GIVE_UP_TRIALS = 2.0, 5, 3
"""A trial in which requests fail ends early when nothing was answered for so many seconds and so
many times what its requests in flight should take; or when it has lasted so many times longer than
it should, and that."""


class TrialWatch:
    """Sees one trial while it runs.

    Args:
        trial_s: how long it should keep reading.
        window_s: how long all of its requests in flight should take together.

    Attributes:
        hopeless: set when requests fail and it leads nowhere.
        began_s: moment of its beginning, by the performance counter; set by whoever begins it.
        answers: (seconds since then, rows settled by then), in order.
        round_trips_s: of each request that was answered.
        failed: attempts that were not.
    """

    def __init__(self, trial_s: float, window_s: float) -> None:
        self.hopeless = asyncio.Event()
        self._silence_s = GIVE_UP_S + GIVE_UP_WINDOWS * window_s
        self._long_s = GIVE_UP_TRIALS * trial_s + self._silence_s
        self._last_ok_s = 0.0
        self.began_s = 0.0
        self.answers: list[tuple[float, int]] = []
        self.round_trips_s: list[float] = []
        self.failed = 0

    def advance(self, rows_ok: int, rows_failed: int) -> None:
        """Take in how many rows are settled by now."""
        self.answers.append((time.perf_counter() - self.began_s, rows_ok + rows_failed))

    def note(self, event: RunEvent) -> None:
        """Take in how an attempt ended."""
        if not isinstance(event, RequestEnded):
            return
        now_s = time.perf_counter() - self.began_s
        if event.outcome == "ok":
            self.round_trips_s.append(event.seconds)
            self._last_ok_s = now_s
            return
        self.failed += 1

    def looking(self, look: Callable[[], None]) -> Callable[[], None]:
        """Return ``look``, after which a trial that leads nowhere is ended."""

        def look_both() -> None:
            look()
            now_s = time.perf_counter() - self.began_s
            is_silent = now_s - self._last_ok_s > self._silence_s
            if self.failed and (is_silent or now_s > self._long_s):
                self.hopeless.set()

        return look_both

    def round_trip_s(self, in_flight: int) -> float:
        """Return the mean of a request in the midst of others: not the first and the last ones."""
        middle = self.round_trips_s[in_flight:-in_flight] or self.round_trips_s
        return fmean(middle) if middle else 0.0

    def read(
        self, source: Source, segment_rows: int, plan: Plan, trial_s: float
    ) -> Iterator[tuple[Segment, pa.RecordBatch]]:
        """Yield segments of the source, over and over, for ``trial_s``; at least one.

        They are numbered on.
        """
        index = 0
        while True:
            for segment, rows in source.read(segment_rows, plan.columns):
                yield replace(segment, index=index), rows
                index += 1
                if time.perf_counter() - self.began_s >= trial_s:
                    return
