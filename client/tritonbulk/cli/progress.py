"""Progress: a bar with rate and ETA on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from itertools import pairwise
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from tritonbulk.report.spark import spark_text

PLAIN_LINE_EVERY_S = 5.0

PACE_EVERY_S = 0.5
PACE_MARKS = 48


class Pace:
    """How fast rows were settled over time, in as little room however long it takes.

    Time is cut into equal stretches of `PACE_EVERY_S`, twice as long whenever there are more than
    `PACE_MARKS` of them.
    """

    def __init__(self) -> None:
        self._every_s = PACE_EVERY_S
        self._marks = [0]

    def settled(self, rows: int, at_s: float) -> None:
        """Take in that ``rows`` are settled ``at_s`` seconds after the beginning."""
        while at_s >= self._every_s * len(self._marks):
            self._marks.append(rows)
            if len(self._marks) > PACE_MARKS:
                self._marks = self._marks[::2]
                self._every_s *= 2

    def __str__(self) -> str:
        """Return the rates as a line of block characters; "" while there are too few."""
        rates = [float(later - earlier) for earlier, later in pairwise(self._marks)]
        return spark_text(rates) if len(rates) >= 4 else ""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s")


class _Rows(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"/{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total} rows")


class _Pace(ProgressColumn):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:  # noqa: ARG002 - the pace is that of the one task
        return Text(str(self._pace)[-16:], style="dim")


class RowProgress:
    """Shows how many of a run's rows are settled; a context manager. Writes to stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self.pace = Pace()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                _Rows(),
                _Rate(),
                _Pace(self.pace),
                TimeRemainingColumn(),
                console=self._console,
            )
        self._rows: int | None = None
        self._began_s = self._told_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Show one sentence."""
        self._console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def begin(self, rows: int | None) -> None:
        """Start counting towards ``rows``; None if nobody knows how many there will be."""
        self._rows = rows
        self._began_s = self._told_s = time.monotonic()
        if self._bar is not None:
            self._bar.add_task("scoring", total=rows)
            self._bar.start()

    def advance(self, rows_ok: int, rows_failed: int) -> None:
        """Show that so many rows are settled by now."""
        settled = rows_ok + rows_failed
        self.pace.settled(settled, time.monotonic() - self._began_s)
        if self._bar is not None:
            failed = f"scoring ({rows_failed:,} failed)" if rows_failed else "scoring"
            self._bar.update(self._bar.task_ids[0], completed=settled, description=failed)
            return
        now_s = time.monotonic()
        if now_s - self._told_s < PLAIN_LINE_EVERY_S:
            return
        self._told_s = now_s
        rate = settled / (now_s - self._began_s)
        share, left = "", ""
        if self._rows is not None:
            share = f" of {self._rows:,}"
            left = f", about {(self._rows - settled) / rate:,.0f} s left"
        self.say(f"{settled:,}{share} rows, {rate:,.0f} rows/s, {rows_failed:,} failed{left}")
