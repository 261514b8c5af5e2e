"""Histograms, and bars of several parts. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tritonbulk.report import palette
from tritonbulk.report.frame import (
    TEXT_PX,
    WIDTH,
    Key,
    empty,
    figure,
    plane,
    text_at,
    text_width,
)
from tritonbulk.report.lines import Line, draw_line
from tritonbulk.report.markup import Markup, element, escape
from tritonbulk.report.numbers import compact, percent
from tritonbulk.report.scale import LOG_LOW, Axis, is_shown

BAR_PX, GAP_PX = 18, 8
"""Height of one horizontal bar, and of the space below it."""
_NAME_LETTERS = 20


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a histogram: from ``low`` to ``high`` there are ``count``."""

    low: float
    high: float
    count: float


def histogram(
    title: str,
    bins: Sequence[Bin],
    x: Axis,
    y: Axis,
    note: str = "",
    lines: Sequence[Line] = (),
) -> Markup:
    """Return a histogram as a figure; bins that are not finite or have no width are left out."""
    drawn = plane(
        x,
        y,
        [edge for b in bins for edge in (b.low, b.high)],
        [b.count for b in bins],
    )
    shown = [
        b
        for b in bins
        if drawn.x.shows(b.low)
        and drawn.x.shows(b.high)
        and drawn.y.shows(b.count)
        and b.high > b.low
        and b.count > 0
    ]
    total = math.fsum(b.count for b in shown)
    if not total:
        return empty(title, "nothing was counted")
    parts = []
    for b in shown:
        left, right, top = drawn.x.at(b.low), drawn.x.at(b.high), drawn.y.at(b.count)
        told = f"{x.show(b.low)} to {x.show(b.high)} {x.label}: {y.show(b.count)} {y.label}"
        parts.append(
            element(
                "rect",
                element("title", f"{told} ({percent(b.count / total)})"),
                x=left,
                y=top,
                width=max(right - left - 0.75, 0.75),
                height=max(drawn.floor - top, 0.75),
                fill=palette.series(0),
            )
        )
    most = max(shown, key=lambda b: b.count)
    alt = (
        f"{len(shown)} bars from {x.show(shown[0].low)} to {x.show(shown[-1].high)} {x.label}; the "
        f"largest, {x.show(most.low)} to {x.show(most.high)}, has {percent(most.count / total)}."
    )
    marks = [draw_line(line, drawn) for line in lines]
    return figure(title, [drawn.draw_axes(), *parts, *marks], alt, note=note)


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar.

    Attributes:
        name: what stands before it; cut if it is long.
        parts: its lengths, in the order of the chart's parts.
        note: what stands after it; "" says the sum.
    """

    name: str
    parts: tuple[float, ...]
    note: str = ""


def bar_chart(
    title: str,
    bars: Sequence[Bar],
    parts: Sequence[str],
    show: Callable[[float], str] = compact,
    note: str = "",
    colours: Sequence[str] = palette.SERIES,
    full: float | None = None,
) -> Markup:
    """Return horizontal bars as a figure, each stacked of the same parts.

    Args:
        title: what it shows.
        bars: from above to below.
        parts: names of the parts, as the legend has them.
        show: how a length is written.
        note: a sentence below the title.
        colours: of the parts, used in turn.
        full: what a bar over the whole width would be; None: the longest one.
    """
    sums = [math.fsum(v for v in bar.parts if is_shown(v) and v > 0) for bar in bars]
    longest = max(sums, default=0.0)
    if not longest > LOG_LOW:
        return empty(title, "nothing was measured")
    longest = max(longest, full or 0.0)
    names = [escape(bar.name, _NAME_LETTERS) for bar in bars]
    notes = [bar.note or show(total) for bar, total in zip(bars, sums, strict=True)]
    left = max(text_width(bar.name[:_NAME_LETTERS]) for bar in bars) + 10
    per_unit = (WIDTH - left - max(text_width(said) for said in notes) - 10) / longest
    drawing, y = [], 4.0
    for bar, name, said in zip(bars, names, notes, strict=True):
        middle = y + BAR_PX / 2 + TEXT_PX / 3
        drawing.append(text_at(left - 8, middle, name, "end"))
        x = left
        for index, (part, value) in enumerate(zip(parts, bar.parts, strict=True)):
            if not (is_shown(value) and value > 0):
                continue
            drawing.append(
                element(
                    "rect",
                    element("title", f"{bar.name}, {part}: {show(value)}"),
                    x=x,
                    y=y,
                    width=max(value * per_unit - 0.5, 0.5),
                    height=BAR_PX,
                    fill=colours[index % len(colours)],
                )
            )
            x += value * per_unit
        drawing.append(text_at(x + 6, middle, said))
        y += BAR_PX + GAP_PX
    alt = "; ".join(f"{bar.name}: {said}" for bar, said in zip(bars, notes, strict=True)) + "."
    keys = [Key(part, colours[i % len(colours)]) for i, part in enumerate(parts)]
    return figure(title, drawing, alt, height=y, note=note, keys=keys)
