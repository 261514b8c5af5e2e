"""Numbers as people read them. Pure."""

from __future__ import annotations

import math

_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def compact(value: float) -> str:
    """Return a number in at most three digits: 1234567 is 1.23M."""
    for size, letter in _LARGE:
        # What rounds to the next thousand is written with its letter: 999,960 is 1M.
        if abs(value) >= size * 0.9995:
            return _digits(value / size) + letter
    return _digits(value)


def count(value: float) -> str:
    """Return a whole number with separators: 1234567 is 1,234,567."""
    return f"{value:,.0f}"


def percent(share: float) -> str:
    """Return a share of 1 in per cent: 0.253 is 25 %."""
    if 0 < share < 0.01:
        return "<1 %"
    return f"{share * 100:.0f} %"


def seconds(value: float) -> str:
    """Return a time in the unit that suits it: 0.0123 is 12.3 ms, 90 is 1 min 30 s."""
    if value <= 0:
        return "0 s"
    if value < 0.9995e-3:
        return f"{_digits(value * 1e6)} µs"
    if value < 0.9995:
        return f"{_digits(value * 1e3)} ms"
    if value < 59.95:
        return f"{_digits(value)} s"
    minutes, rest_s = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s} s" if rest_s else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def size(value_bytes: float) -> str:
    """Return a number of bytes in the unit that suits it: 1536 is 1.5 KiB."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value_bytes >= 1024**power * 0.9995:
            return f"{_digits(value_bytes / 1024**power)} {unit}"
    return f"{value_bytes:,.0f} B"


def _digits(value: float) -> str:
    """Return a number in three significant digits, without zeros at its end."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    if decimals > 6:
        return f"{value:.2g}"
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
