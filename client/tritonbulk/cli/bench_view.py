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

from tritonbulk.bench.apply import Applied
from tritonbulk.bench.cells import Cell, best_cell, summarize
from tritonbulk.bench.cross_check import Checked
from tritonbulk.bench.setting import describe_variant
from tritonbulk.bench.sweep import Sweep
from tritonbulk.bench.verdict import Advice, Verdict

TABLE_WIDTH = 150
"""Columns that the table of cells needs."""

BAR_WIDTH = 10
LIVE_ROWS = 16
"""Cells that the live table shows, the fastest ones."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SPARKS = "▁▂▃▄▅▆▇█"


def bar(share: float, width: int = BAR_WIDTH) -> str:
    """Return a bar of a share from 0 to 1, in eighths of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(values: Sequence[float]) -> str:
    """Return one character for each value, higher for larger ones; the largest is the highest."""
    most = max(values, default=0.0)
    if most <= 0:
        return _SPARKS[0] * len(values)
    return "".join(_SPARKS[min(int(value / most * 8), 7)] for value in values)


class SweepView:
    """Shows a sweep as it goes on, on stderr; a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=True)
            if self._console.is_terminal
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
        rates = sparkline([trial.rows_per_second for trial in sweep.trials[-60:]])
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
    # Squeezed into a narrow pipe the table would be unreadable.
    console = Console(width=max(Console().width, TABLE_WIDTH))
    console.print(_fill(table, sweep, summarize(sweep.trials)))
    click.echo(ceiling_text(sweep))
    if sweep.verdict is None:
        click.echo("no verdict: in no trial were all rows scored")
    else:
        click.echo(verdict_text(sweep.verdict))


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
    Console(width=max(Console().width, TABLE_WIDTH)).print(table)


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


def short(value: float) -> str:
    """Return a number in three digits or so: 817, 17.9k, 2.31M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _live_table(sweep: Sweep) -> Table:
    cells = sorted(summarize(sweep.trials), key=lambda cell: -cell.rows_per_second.value)
    shown = sorted(cells[:LIVE_ROWS], key=lambda cell: cell.setting)
    return _fill(Table(title=f"{len(cells)} cells, {len(sweep.trials)} trials"), sweep, shown)


def _fill(table: Table, sweep: Sweep, cells: Sequence[Cell]) -> Table:
    best = best_cell(cells)
    fastest = best.rows_per_second.value if best is not None else 1.0
    has_variants = any(cell.setting.variant != sweep.space.base for cell in cells)
    headings = ["rows", "in flight", *(["server"] if has_variants else []), "rows/s", ""]
    headings += ["95 % interval", "ceiling", "CPU-s/Mrow", "executed", "queue ms", "infer ms", ""]
    for heading in headings:
        is_text = heading in ("", "server")
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    recommended = sweep.verdict.setting if sweep.verdict is not None else None
    for cell in cells:
        table.add_row(
            *_cell_texts(cell, sweep, fastest, has_variants=has_variants),
            style="bold" if cell.setting == recommended else None,
        )
    return table


def _cell_texts(cell: Cell, sweep: Sweep, fastest: float, *, has_variants: bool) -> list[str]:
    rate = cell.rows_per_second
    variant = describe_variant(cell.setting.variant, sweep.space.base, is_short=True)
    server = cell.server
    cpu = f"{cell.cpu_s_client_per_mrow:.2f}"
    if cell.cpu_s_server_per_mrow is not None:
        cpu += f" + {cell.cpu_s_server_per_mrow:.2f}"
    return [
        f"{cell.setting.batch_rows:,}",
        str(cell.setting.in_flight),
        *([variant] if has_variants else []),
        f"{rate.value:,.0f}",
        bar(rate.value / fastest),
        f"{short(rate.low)} … {short(rate.high)}" if cell.trials > 1 else "one trial",
        "–" if not sweep.ceiling else f"{rate.value / sweep.ceiling:.0%}",
        cpu,
        "–" if server is None else f"{server.executed_batch_rows:,.0f}",
        "–" if server is None else f"{server.queue_ms:.1f}",
        "–" if server is None else f"{server.infer_ms:.1f}",
        " ".join(cell.labels),
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
    lines.append(_Line("knee", _knee(verdict)))
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
        lines.append(_Line("doubts", ", ".join(verdict.labels)))
    width = max(len(line.name) for line in lines)
    return "\n".join(f"{line.name.ljust(width)}  {line.text}" for line in lines)


def _name(advice: Advice) -> str:
    return advice.name.replace("_", " ").replace(" us", "")


def _advice_text(advice: Advice) -> str:
    value = "off" if advice.value < 0 else f"{advice.value:,}"
    if advice.name == "queue_delay_us" and advice.value >= 0:
        value += " µs"
    if advice.gain is None or advice.against is None:
        return f"{value}: {advice.why}"
    gain = f"{advice.gain.value:.2f} × that of {advice.against:,}"
    return f"{value}: {advice.why} ({gain})"


def _whole_file(verdict: Verdict) -> str:
    if verdict.file_rows is None or verdict.file_seconds is None:
        return ""
    return f", all {verdict.file_rows:,} rows in {duration_text(verdict.file_seconds)}"


def _cost(verdict: Verdict) -> str:
    if verdict.cost_per_million_rows is None:
        return ""
    return f", {verdict.cost_per_million_rows:.4g} a million rows"


def _knee(verdict: Verdict) -> str:
    rows, widths = verdict.knee_batch_rows, verdict.knee_in_flight
    share = verdict.rows_per_second / verdict.best_rows_per_second
    return (
        f"batch rows {_range(rows)}, in flight {_range(widths)}: the cheapest that cannot be told "
        f"from the fastest ({share:.1%} of it)"
    )


def _range(ends: tuple[int, int]) -> str:
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} … {high:,}"


def duration_text(seconds: float) -> str:
    """Return a duration as one would say it."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
