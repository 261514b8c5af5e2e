"""Scales: from values to places in a chart, linear or logarithmic, with round ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tritonbulk.report.numbers import compact

LOG_LOW = 1e-12
"""Smallest value that a logarithmic axis shows, and smallest bar that is not none."""


VALUE_MAX = 1e15
"""Largest magnitude that charts show; nothing real is larger, and sums and powers stay finite."""


def is_shown(value: float | None) -> bool:
    """Return whether charts show a value: whether there is one, and it is finite and not absurd."""
    return value is not None and abs(value) <= VALUE_MAX


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: what it measures, with its unit.
        is_log: logarithmic; values must then be positive, and those that are not are not drawn.
        ticks: where to put ticks; None finds round numbers.
        show: how a value is written.
        from_zero: a linear axis begins at 0.
    """

    label: str
    is_log: bool = False
    ticks: tuple[float, ...] | None = None
    show: Callable[[float], str] = compact
    from_zero: bool = True


@dataclass(frozen=True, slots=True)
class Scale:
    """Where values of an axis stand.

    Attributes:
        axis: the axis.
        low: the smallest value.
        high: the largest; above ``low``.
        begin: place of ``low`` in user units of the picture.
        end: place of ``high``; may be smaller than ``begin``.
        ticks: values that are labelled, ascending.
    """

    axis: Axis
    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]

    def shows(self, value: float | None) -> bool:
        """Return whether a value has a place on the axis."""
        return _has_place(self.axis, value)

    def at(self, value: float) -> float:
        """Return the place of a value; one beyond the ends stands at the end."""
        value = min(max(value, self.low), self.high)
        if self.axis.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)


def fit(axis: Axis, values: Iterable[float | None], begin: float, end: float) -> Scale:
    """Return the scale that shows all values (and the axis's own ticks)."""
    shown = [
        float(value)
        for value in (*values, *(axis.ticks or ()))
        if value is not None and _has_place(axis, value)
    ]
    low, high = (min(shown), max(shown)) if shown else (1.0, 10.0)
    if axis.is_log:
        if high <= low * 1.0001:
            low, high = max(low / 2, LOG_LOW), high * 2
        if axis.ticks is None:
            low, high = _round_down(low), _round_up(high)
        ticks = axis.ticks or _log_ticks(low, high)
    else:
        if axis.from_zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-12):
            is_floor = axis.from_zero and low >= 0
            half = max(abs(low), abs(high), 1.0) / 2
            low, high = 0.0 if is_floor else low - half, high + half
        ticks = axis.ticks or _linear_ticks(low, high)
        if axis.ticks is None:
            low, high = min(low, ticks[0]), max(high, ticks[-1])
    return Scale(axis, low, high, begin, end, tuple(sorted(t for t in ticks if low <= t <= high)))


def _has_place(axis: Axis, value: float | None) -> bool:
    if value is None or not is_shown(value):
        return False
    return value >= LOG_LOW or not axis.is_log


def _linear_ticks(low: float, high: float, wanted: int = 5) -> tuple[float, ...]:
    """Return round numbers (1, 2, 2.5 or 5 times a power of ten) that span the values."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(
        round(index * step, 12) if step < 1 else index * step for index in range(first, last + 1)
    )


def _round_down(value: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return max((power * unit for unit in (1, 2, 5) if power * unit <= value), default=value)


def _round_up(value: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return min((power * unit for unit in (1, 2, 5, 10) if power * unit >= value), default=value)


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return powers of ten within; with 2 and 5 times these where the span is short."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    units = (1, 2, 5) if last - first <= 3 else (1,)
    step = max((last - first) // 6, 1)
    found = [
        tick
        for power in range(first, last + 1, step)
        for tick in (unit * 10.0**power for unit in units)
        if low * 0.999 <= tick <= high * 1.001
    ]
    return tuple(min(max(tick, low), high) for tick in found) or (low, high)
