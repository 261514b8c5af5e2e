"""Charts of a sweep. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tritonbulk.bench.cells import Cell
from tritonbulk.bench.setting import Setting
from tritonbulk.bench.statistics import Fit
from tritonbulk.bench.trial import NOISY_CORES, Executed, Trial
from tritonbulk.bench.verdict import Verdict
from tritonbulk.report import (
    Axis,
    Bar,
    Field,
    Line,
    Markup,
    Point,
    Series,
    bar_chart,
    heat_map,
    line_chart,
)
from tritonbulk.report.numbers import compact, count, seconds

BARS_MAX = 10
SERIES_MAX = 6
SIZES_MAX = 12
"""Sizes of executed batches that get a bar each; more are put together by powers of two."""


def throughput(cells: Sequence[Cell], title: str, recommended: Setting | None) -> Markup:
    """Return a heat map of one way to set the server."""
    rows = sorted({cell.setting.batch_rows for cell in cells})
    widths = sorted({cell.setting.in_flight for cell in cells})
    by_place = {(cell.setting.batch_rows, cell.setting.in_flight): cell for cell in cells}
    return heat_map(
        title,
        [count(each) for each in rows],
        [str(each) for each in widths],
        [[_field(by_place.get((r, w)), recommended) for w in widths] for r in rows],
        "rows",
        "requests in flight",
    )


def _field(cell: Cell | None, recommended: Setting | None) -> Field:
    if cell is None:
        return Field(None)
    mark = ""
    if cell.setting == recommended:
        mark = "★"
    elif "failed" in cell.labels or cell.error:
        mark = "✗"
    elif cell.labels:
        mark = "?"
    rate = cell.rows_per_second
    note = f"{cell.trials} trials, {compact(rate.low)} to {compact(rate.high)}"
    told = "; ".join([note, *cell.labels, cell.error[:200]]).rstrip("; ")
    return Field(
        rate.value if rate.value > 0 else None, mark, is_best=cell.setting == recommended, note=told
    )


def _few(values: Iterable[int]) -> list[int]:
    """Return at most `SERIES_MAX` values, the ends and some between."""
    ordered = sorted(set(values))
    if len(ordered) <= SERIES_MAX:
        return ordered
    step = (len(ordered) - 1) / (SERIES_MAX - 1)
    return [ordered[round(place * step)] for place in range(SERIES_MAX)]


def _ceiling(ceiling: float | None, cells: Sequence[Cell]) -> list[Line]:
    """Return the ceiling as a line, where it does not squeeze what was measured."""
    best = max((cell.rows_per_second.value for cell in cells), default=0.0)
    if not ceiling or ceiling > 2 * best:
        return []
    return [Line(ceiling, "the model alone, as configured")]


def throughput_and_latency(
    cells: Sequence[Cell], verdict: Verdict | None, ceiling: float | None
) -> Markup:
    """Return rates over round trips, one line for each number of rows a request."""
    told = [cell for cell in cells if cell.round_trip_ms > 0]
    series = []
    for rows in _few(cell.setting.batch_rows for cell in told):
        own = sorted(
            (cell for cell in told if cell.setting.batch_rows == rows),
            key=lambda cell: cell.setting.in_flight,
        )
        points = tuple(
            Point(
                cell.round_trip_ms / 1e3,
                cell.rows_per_second.value,
                cell.rows_per_second.low,
                cell.rows_per_second.high,
                f"{cell.setting.describe()}: {count(cell.rows_per_second.value)} rows/s at "
                f"{seconds(cell.round_trip_ms / 1e3)}",
            )
            for cell in own
        )
        series.append(Series(f"{count(rows)} rows", points))
    lines = _ceiling(ceiling, cells)
    if verdict is not None:
        lines += [
            Line(cell.round_trip_ms / 1e3, "★", is_vertical=True)
            for cell in told
            if cell.setting == verdict.setting
        ]
    return line_chart(
        "Throughput by latency",
        series,
        Axis("round trip of a request", is_log=True, show=seconds),
        Axis("rows/s"),
        note="along each line more requests are in flight; the best are high and left",
        lines=lines,
    )


def throughput_by_rows(cells: Sequence[Cell], ceiling: float | None) -> Markup:
    """Return rates over rows a request, one line for each number of requests in flight."""
    series = []
    for width in _few(cell.setting.in_flight for cell in cells):
        own = sorted(
            (cell for cell in cells if cell.setting.in_flight == width),
            key=lambda cell: cell.setting.batch_rows,
        )
        points = tuple(
            Point(
                cell.setting.batch_rows,
                cell.rows_per_second.value or None,  # all of its rows failed: no rate at all
                cell.rows_per_second.low,
                cell.rows_per_second.high,
            )
            for cell in own
        )
        series.append(Series(f"{width} in flight", points))
    ticks = tuple(float(rows) for rows in sorted({cell.setting.batch_rows for cell in cells}))
    return line_chart(
        "Throughput by rows a request",
        series,
        Axis("rows a request", is_log=True, ticks=ticks or None, show=count),
        Axis("rows/s"),
        note="medians with 95 % intervals",
        lines=_ceiling(ceiling, cells),
    )


def executed(cell: Cell) -> Markup | None:
    """Return which batches the model executed with the recommended setting."""
    batches = cell.server.executed if cell.server else ()
    bars = _sizes(batches)
    total = sum(each.count * each.rows for each in batches)
    return bar_chart(
        "Batches that the model executed",
        [
            Bar(name, (float(times),), f"{count(times)} ({rows / max(total, 1):.0%} of rows)")
            for name, times, rows in bars
        ],
        ["batches"],
        show=count,
        note=f"by rows; {cell.setting.describe()}",
    )


def _sizes(batches: Sequence[Executed]) -> list[tuple[str, int, int]]:
    """Return (size, batches, rows of them all), sizes put together where they are many."""
    if len(batches) <= SIZES_MAX:
        return [(count(each.rows), each.count, each.count * each.rows) for each in batches]
    found: dict[int, tuple[int, int]] = {}
    for each in batches:
        power = max(each.rows - 1, 0).bit_length()
        times, rows = found.get(power, (0, 0))
        found[power] = (times + each.count, rows + each.count * each.rows)
    return [
        (f"{count(2**power // 2 + 1)} – {count(2**power)}" if power else "1", times, rows)
        for power, (times, rows) in sorted(found.items())
    ]


def batch_cost(cells: Sequence[Cell], fit: Fit) -> Markup:
    """Return what batches took by their size, beside the line through them.

    Triton counts batches that fail as well, which take no time: cells that had any are left out. So
    are those with more instances than need be, which make each other's batches longer.
    """
    sound = [cell for cell in cells if "failed" not in cell.labels]
    fewest = min((cell.setting.variant.instances for cell in sound), default=0)
    means: dict[int, tuple[int, float]] = {}
    for cell in (each for each in sound if each.setting.variant.instances == fewest):
        for each in cell.server.executed if cell.server else ():
            times, sum_ms = means.get(each.rows, (0, 0.0))
            means[each.rows] = (times + each.count, sum_ms + each.count * each.infer_ms)
    sizes = sorted(means)
    shown = tuple(
        Point(rows, means[rows][1] / means[rows][0] / 1e3, note=f"{count(means[rows][0])} batches "
              f"of {count(rows)} rows: {seconds(means[rows][1] / means[rows][0] / 1e3)}")
        for rows in sizes
    )  # fmt: skip
    ends = (sizes[0], sizes[-1]) if sizes else ()
    return line_chart(
        "What a batch takes",
        [
            Series("measured", shown, is_dotted=True),
            Series("fit", tuple(Point(rows, fit.batch_ms(rows) / 1e3) for rows in ends)),
        ],
        Axis("rows of the batch", show=count),
        Axis("compute", show=seconds),
        note=f"{fit.a_ms:.3g} ms + {fit.b_ms_per_row * 1e3:.3g} µs a row, R² {fit.r2:.4f}; with "
        "the fewest instances",
    )


def _ranked(cells: Sequence[Cell], recommended: Setting | None) -> list[Cell]:
    """Return the recommended cell, then the fastest others."""
    ranked = sorted(
        cells, key=lambda cell: (cell.setting != recommended, -cell.rows_per_second.value)
    )
    return ranked[:BARS_MAX]


def _name(cell: Cell, recommended: Setting | None) -> str:
    star = "★ " if cell.setting == recommended else ""
    variant = cell.setting.variant
    server = f" · {variant.instances}" if variant.instances else ""
    if variant.queue_delay_us > 0:
        server += f" +{seconds(variant.queue_delay_us / 1e6)}"
    return f"{star}{count(cell.setting.batch_rows)} × {cell.setting.in_flight}{server}"


def time_split(cells: Sequence[Cell], recommended: Setting | None) -> Markup:
    """Return where the time of a mean request goes, by setting."""
    bars = []
    for cell in _ranked(cells, recommended):
        server = cell.server
        if server is None:
            continue
        parts = (server.queue_ms, server.input_ms, server.infer_ms, server.output_ms)
        wire_ms = max(cell.round_trip_ms - sum(parts), 0.0)
        bars.append(
            Bar(_name(cell, recommended), tuple(each / 1e3 for each in (*parts, wire_ms)),
                seconds(cell.round_trip_ms / 1e3))
        )  # fmt: skip
    return bar_chart(
        "Where a request's time goes",
        bars,
        ["queue", "input", "compute", "output", "wire and client"],
        show=seconds,
        note="rows a request × in flight · instances + delay; the fastest settings",
    )


def processor_cost(cells: Sequence[Cell], recommended: Setting | None) -> Markup:
    """Return the processor seconds a million rows of client and server, by setting."""
    return bar_chart(
        "Processor time a million rows",
        [
            Bar(
                _name(cell, recommended),
                (cell.cpu_s_client_per_mrow, cell.cpu_s_server_per_mrow or 0.0),
            )
            for cell in _ranked(cells, recommended)
        ],
        ["client", "server"],
        show=lambda value: f"{value:.3g} s",
        note="rows a request × in flight · instances + delay; the fastest settings",
    )


def noise(trials: Sequence[Trial]) -> Markup:
    """Return how much of the machine others used while each trial ran."""
    points = tuple(
        Point(number + 1, t.noise.foreign_cores + t.noise.steal_cores if t.noise else None)
        for number, t in enumerate(trials)
    )
    return line_chart(
        "Processors that others used",
        [Series("processors", points, is_dotted=True)],
        Axis("trial", show=count),
        Axis("processors"),
        note="other processes, and the machine's host",
        lines=[Line(NOISY_CORES, "noisy above")],
    )


def order(trials: Sequence[Trial]) -> Markup:
    """Return the rates in the order in which they were measured."""
    points = tuple(
        Point(number + 1, trial.rows_per_second, note=f"{trial.setting.describe()}: "
              f"{count(trial.rows_per_second)} rows/s; {trial.why}")
        for number, trial in enumerate(trials)
    )  # fmt: skip
    return line_chart(
        "All trials in their order",
        [Series("rows/s", points, is_dotted=True)],
        Axis("trial", show=count),
        Axis("rows/s"),
        note="point at one to see its setting, and why it was chosen",
    )
