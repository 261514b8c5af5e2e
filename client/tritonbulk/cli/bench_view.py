"""What ``tritonbulk bench`` shows: a table that grows while it measures, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tritonbulk.bench.cells import Cell, best_cell, summarize
from tritonbulk.bench.result import Applied, Checked, Sweep
from tritonbulk.bench.setting import describe_variant
from tritonbulk.bench.verdict import Advice, Verdict
from tritonbulk.bench.words import advice_value, doubts, knee_words
from tritonbulk.report.numbers import compact, seconds
from tritonbulk.report.spark import bar_text, spark_text
from tritonbulk.telemetry.logs import RunLog, is_json

TABLE_WIDTH, NARROW_WIDTH = 170, 150
"""Columns that the table of cells needs, and below which it leaves out the server's figures."""

BAR_LETTERS, LIVE_LETTERS = 10, 60
"""Of a bar beside a rate, and of the line of all rates."""
LIVE_ROWS = 16
"""Cells that the live table shows, the fastest ones."""


class SweepView:
    """Shows a sweep as it goes on, on stderr, as the logs are asked for; a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._log = RunLog() if is_json() else None
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=True)
            if self._console.is_terminal and self._log is None
            else None
        )
        self._is_ceiling_told = False

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the growing table away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Show one sentence."""
        if self._log is not None:
            self._log.say(text)
            return
        self._console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def tell(self, sweep: Sweep) -> None:
        """Show the state after the ceiling, or after one more trial."""
        if not self._is_ceiling_told:
            self._is_ceiling_told = True
            self.say(ceiling_text(sweep))
        if not sweep.trials:
            return
        last = sweep.trials[-1]
        changed = describe_variant(last.setting.variant, sweep.space.base)
        what = f"{last.setting.describe()}{', ' + changed if changed else ''}"
        outcome = last.error or f"{last.rows_per_second:,.0f} rows/s"
        if last.requests_failed and not last.error:
            outcome += f", {last.requests_failed:,} requests failed"
        text = f"trial {len(sweep.trials)}: {what}: {outcome}  [{last.why}]"
        if self._live is None:
            self.say(text)
            return
        rates = spark_text([trial.rows_per_second for trial in sweep.trials], LIVE_LETTERS)
        self._live.update(
            Group(_live_table(sweep), Text(rates), Text(text, style="dim", overflow="ellipsis"))
        )


def ceiling_text(sweep: Sweep) -> str:
    """Return what the model alone can do, in words."""
    if sweep.ceiling is None:
        return "ceiling: unknown, the server does not tell how long the model computes"
    return (
        f"ceiling: {sweep.ceiling:,.0f} rows/s, the model alone: its instances computing without a "
        "pause, nothing read, sent or written"
    )


def show(sweep: Sweep) -> None:
    """Print all cells, the recommended one marked, and the verdict."""
    table = Table(title="rows per second, end to end (median, 95 % interval)")
    console = _console()
    is_narrow = console.width < NARROW_WIDTH
    console.print(_fill(table, sweep, summarize(sweep.trials), is_narrow=is_narrow))
    click.echo(ceiling_text(sweep))
    if sweep.verdict is None:
        click.echo("no verdict: in no trial were all rows scored")
    else:
        click.echo(verdict_text(sweep.verdict))


def _console() -> Console:
    """Return where tables go: a terminal as it is, a file or pipe as wide as they are."""
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)


def show_checked(checked: Sequence[Checked]) -> None:
    """Print ours beside perf_analyzer's."""
    table = Table(title="beside perf_analyzer (medians of rows per second)")
    for heading in ("rows", "in flight", "ours", "theirs", "ours ÷ theirs", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in checked:
        table.add_row(
            f"{each.setting.batch_rows:,}",
            str(each.setting.in_flight),
            f"{median(each.ours):,.0f}",
            f"{median(each.theirs):,.0f}",
            f"{each.ratio.value:.3f}",
            f"{each.ratio.low:.3f} … {each.ratio.high:.3f}",
        )
    _console().print(table)


def show_applied(applied: Applied, path: Path) -> None:
    """Print what became of a changed configuration."""
    gain = ""
    if applied.ratio is not None:
        ratio = applied.ratio
        gain = f" ({ratio.value:.3f} × as fast, {ratio.low:.3f} … {ratio.high:.3f})"
    if applied.is_kept:
        click.echo(f"applied: {path} is the recommended one{gain}; it was {applied.backup}")
    else:
        click.echo(f"not applied: {path} is as it was, because {applied.why}{gain}")


def _live_table(sweep: Sweep) -> Table:
    cells = sorted(summarize(sweep.trials), key=lambda cell: -cell.rows_per_second.value)
    shown = sorted(cells[:LIVE_ROWS], key=lambda cell: cell.setting)
    title = f"{len(cells)} cells, {len(sweep.trials)} trials"
    return _fill(Table(title=title), sweep, shown, is_narrow=True)


def _fill(table: Table, sweep: Sweep, cells: Sequence[Cell], *, is_narrow: bool) -> Table:
    best = best_cell(cells)
    fastest = best.rows_per_second.value if best is not None else 1.0
    has_variants = any(cell.setting.variant != sweep.space.base for cell in cells)
    headings = ["rows", "in flight", *(["server"] if has_variants else []), "rows/s", ""]
    details = ["ceiling", "CPU-s/Mrow", "executed", "queue ms", "infer ms"]
    headings += ["95 % interval", *([] if is_narrow else details), ""]
    for heading in headings:
        is_text = heading in ("", "server")
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    recommended = sweep.verdict.setting if sweep.verdict is not None else None
    for cell in cells:
        table.add_row(
            *_cell_texts(cell, sweep, fastest, has_variants=has_variants, is_narrow=is_narrow),
            style="bold" if cell.setting == recommended else None,
        )
    return table


def _cell_texts(
    cell: Cell, sweep: Sweep, fastest: float, *, has_variants: bool, is_narrow: bool
) -> list[str]:
    rate = cell.rows_per_second
    variant = describe_variant(cell.setting.variant, sweep.space.base, is_short=True)
    return [
        f"{cell.setting.batch_rows:,}",
        str(cell.setting.in_flight),
        *([variant] if has_variants else []),
        f"{rate.value:,.0f}",
        bar_text(rate.value / fastest, BAR_LETTERS),
        f"{compact(rate.low)} … {compact(rate.high)}" if cell.trials > 1 else "one trial",
        *([] if is_narrow else _details(cell, sweep)),
        " ".join(cell.labels),
    ]


def _details(cell: Cell, sweep: Sweep) -> list[str]:
    server, rate = cell.server, cell.rows_per_second.value
    cpu = f"{cell.cpu_s_client_per_mrow:.2f}"
    if cell.cpu_s_server_per_mrow is not None:
        cpu += f" + {cell.cpu_s_server_per_mrow:.2f}"
    return [
        "–" if not sweep.ceiling else f"{rate / sweep.ceiling:.0%}",
        cpu,
        "–" if server is None else f"{server.executed_batch_rows:,.0f}",
        "–" if server is None else f"{server.queue_ms:.1f}",
        "–" if server is None else f"{server.infer_ms:.1f}",
    ]


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    text: str


def verdict_text(verdict: Verdict) -> str:
    """Return the verdict in a few lines of plain English."""
    lines = [
        _Line("verdict", f"{verdict.rows_per_second:,.0f} rows/s "
              f"({verdict.interval.low:,.0f} … {verdict.interval.high:,.0f})"
              f"{_whole_file(verdict)}{_cost(verdict)}"),
        _Line("bound by", f"{verdict.bound_by} ({verdict.bound_why})"),
    ]  # fmt: skip
    lines += [_Line(_name(advice), _advice_text(advice)) for advice in verdict.advice]
    lines.append(_Line("knee", knee_words(verdict)))
    if verdict.fit is not None:
        fit = verdict.fit
        lines.append(_Line("a batch", f"{fit.a_ms:.3f} ms + {fit.b_ms_per_row:.6f} ms a row "
                           f"(R² {fit.r2:.4f}, {fit.sizes} sizes)"))  # fmt: skip
    if verdict.gain is not None:
        gain = verdict.gain
        lines.append(
            _Line("gain", f"{gain.value:.2f} × ({gain.low:.2f} … {gain.high:.2f}) of the largest "
                  "requests, four in flight, as configured")
        )  # fmt: skip
    if verdict.labels:
        lines.append(_Line("doubts", "; ".join(doubts(verdict.labels))))
    width = max(len(line.name) for line in lines)
    return "\n".join(f"{line.name.ljust(width)}  {line.text}" for line in lines)


def _name(advice: Advice) -> str:
    return advice.name.replace("_", " ").replace(" us", "")


def _advice_text(advice: Advice) -> str:
    text = f"{advice_value(advice.name, advice.value)}: {advice.why}"
    if advice.gain is None or advice.against is None:
        return text
    against = advice_value(advice.name, advice.against)
    return f"{text} ({advice.gain.value:.2f} × that of {against})"


def _whole_file(verdict: Verdict) -> str:
    if verdict.file_rows is None or verdict.file_seconds is None:
        return ""
    return f", all {verdict.file_rows:,} rows in {seconds(verdict.file_seconds)}"


def _cost(verdict: Verdict) -> str:
    if verdict.cost_per_million_rows is None:
        return ""
    return f", {verdict.cost_per_million_rows:.4g} a million rows"
