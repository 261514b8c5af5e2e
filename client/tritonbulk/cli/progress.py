"""Progress: a bar with rate and ETA on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_LINE_EVERY_S = 5.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s")


class RowProgress:
    """Shows how many of a run's rows are settled; a context manager. Writes to stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} rows"),
                _Rate(),
                TimeRemainingColumn(),
                console=self._console,
            )
        self._rows = 0
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

    def begin(self, rows: int) -> None:
        """Start counting towards ``rows``."""
        self._rows = rows
        self._began_s = self._told_s = time.monotonic()
        if self._bar is not None:
            self._bar.add_task("scoring", total=rows)
            self._bar.start()

    def advance(self, rows_ok: int, rows_failed: int) -> None:
        """Show that so many rows are settled by now."""
        settled = rows_ok + rows_failed
        if self._bar is not None:
            failed = f"scoring ({rows_failed:,} failed)" if rows_failed else "scoring"
            self._bar.update(self._bar.task_ids[0], completed=settled, description=failed)
            return
        now_s = time.monotonic()
        if now_s - self._told_s < PLAIN_LINE_EVERY_S:
            return
        self._told_s = now_s
        rate = settled / (now_s - self._began_s)
        left_s = (self._rows - settled) / rate
        self.say(
            f"{settled:,} of {self._rows:,} rows, {rate:,.0f} rows/s, {rows_failed:,} failed, "
            f"about {left_s:,.0f} s left"
        )
