"""Colours: told apart by people with any colour vision, on paper, and by shade where they rank.

The series are a darkened Okabe–Ito set (Okabe and Ito, "Color Universal Design", 2008), so that
each has at least 3:1 contrast on white; markers and dashes tell them apart without any colour.
"""

from __future__ import annotations

SERIES = ("#0072b2", "#c8500a", "#00805e", "#a3458c", "#6a5d00", "#4a4a4a")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 3", "1 2")
GOOD, WARN, BAD = "#00805e", "#a86500", "#b3261e"

_LIGHTEST, _DARKEST = (0xEE, 0xF4, 0xFB), (0x08, 0x30, 0x6B)
"""Ends of one hue from light to dark: order is seen in grey as well."""


def series(index: int) -> str:
    """Return the colour of a chart's n-th series."""
    return SERIES[index % len(SERIES)]


def dash(index: int) -> str | None:
    """Return the dash pattern of a chart's n-th line; None is a solid line."""
    return DASHES[index % len(DASHES)] or None


def shade(share: float) -> tuple[str, str]:
    """Return the colour of a field, and the class of a text that can be read on it.

    Args:
        share: rank of the field's value, from 0 (lightest) to 1.
    """
    share = min(max(share, 0.0), 1.0)
    mixed = [
        round(light + (dark - light) * share)
        for light, dark in zip(_LIGHTEST, _DARKEST, strict=True)
    ]
    return "#" + "".join(f"{part:02x}" for part in mixed), "inverse" if share > 0.5 else ""
