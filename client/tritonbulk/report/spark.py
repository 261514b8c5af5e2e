"""Sparklines: a series in the room of a word, as a picture and as text for terminals. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tritonbulk.report import palette
from tritonbulk.report.markup import Markup, element
from tritonbulk.report.scale import is_shown

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], name: str) -> Markup:
    """Return a small picture of a series from 0 to its largest value.

    Args:
        values: in order; None and what is not finite are gaps.
        name: what it is of, for those who do not see it.
    """
    width, height = 96.0, 22.0
    high = _largest(values)
    step = width / max(len(values) - 1, 1)
    path, is_joined = "", False
    for index, value in enumerate(values):
        if value is None or not is_shown(value):
            is_joined = False
            continue
        y = height - 2 - (height - 4) * min(max(value / high, 0.0), 1.0)
        path += f"{'L' if is_joined else 'M'}{index * step:.1f} {y:.1f}"
        # A single value is a dot: a line of no length with round ends.
        path += "" if is_joined else "h0"
        is_joined = True
    return element(
        "svg",
        element(
            "path",
            d=path,
            fill="none",
            stroke=palette.series(0),
            stroke_width=1.5,
            stroke_linecap="round",
        ),
        viewBox=f"0 0 {width:g} {height:g}",
        width=96,
        height=22,
        role="img",
        aria_label=name,
        class_="spark",
    )


def spark_text(values: Sequence[float | None], letters: int = 40) -> str:
    """Return a series as a line of block characters from 0 to its largest value.

    Args:
        values: in order; None and what is not finite are spaces.
        letters: the most to use; longer series are averaged.
    """
    high = _largest(values)
    per_letter = max(math.ceil(len(values) / letters), 1)
    text = ""
    for begin in range(0, len(values), per_letter):
        some = [
            value
            for value in values[begin : begin + per_letter]
            if value is not None and is_shown(value)
        ]
        if not some:
            text += " "
            continue
        share = math.fsum(value / len(some) for value in some) / high
        text += _BLOCKS[min(max(math.floor(share * len(_BLOCKS)), 0), len(_BLOCKS) - 1)]
    return text


def bar_text(share: float, letters: int = 20) -> str:
    """Return a bar of block characters, ``share`` of 1 long, in eighths of a letter."""
    eighths = round(min(max(share, 0.0), 1.0) * letters * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + ("", *"▏▎▍▌▋▊▉")[rest]


def _largest(values: Sequence[float | None]) -> float:
    """Return the largest value; 1 where none is above 0, to divide by."""
    finite = [value for value in values if value is not None and is_shown(value)]
    return max((value for value in finite if value > 0), default=1.0)
