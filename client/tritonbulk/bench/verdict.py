"""Verdict: what to deploy, why, what bounds it, what it costs. A pure function of the trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
import numpy.typing as npt

from tritonbulk.bench.cells import (
    Cell,
    best_cell,
    fit_of,
    knee_by,
    knee_of,
    sound_cells,
    summarize,
)
from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bench.statistics import Fit, Interval
from tritonbulk.bench.trial import Trial

Bound = Literal["client CPU", "wire", "queue", "compute", "memory", "unknown"]
"""What bounds a rate: a thread of the client, the way to the server and back, waiting for an
instance, the model's instances, or batches that the model has no memory for."""

_BOUNDS: dict[str, Bound] = {
    "read": "client CPU",
    "encode": "client CPU",
    "decode": "client CPU",
    "write": "client CPU",
    "wire": "wire",
    "server or wire": "wire",
    "server queue": "queue",
    "server compute": "compute",
}

MEMORY_GAIN = 1.02
"""What larger batches must promise for memory to be what bounds a rate."""

RESAMPLES = 300


@dataclass(frozen=True, slots=True)
class Advice:
    """What to set one thing to.

    Attributes:
        name: of what is set: batch_rows, in_flight, instances, queue_delay_us, max_batch_size.
        value: what to.
        configured: what it is without the advice; None where nothing is configured.
        why: the reason, in a sentence.
        gain: its rate ÷ that of the nearest measured setting that has another value of it, and
            else the same; None where none was measured.
        against: that other value; None likewise.
    """

    name: str
    value: int
    configured: int | None
    why: str
    gain: Interval | None
    against: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a sweep says; the fields of ``verdict`` in its JSON.

    Attributes:
        batch_rows: rows a request.
        in_flight: requests in flight.
        instances: of the model; 0 if the server does not tell.
        queue_delay_us: -1 without dynamic batching.
        max_batch_size: rows that a batch may have; 0 for no limit.
        version: of the model.
        rows_per_second: median of the recommended setting.
        interval: of it.
        best_rows_per_second: median of the fastest setting, which may need more.
        knee_batch_rows: smallest and largest batch rows that resampled trials recommend.
        knee_in_flight: likewise requests in flight.
        bound_by: what bounds the rate.
        bound_why: the figures that say so.
        fit: what a batch takes; None if Triton does not tell.
        advice: every setting with its reason and gain.
        gain: rate ÷ that of what ``score`` does by itself; None if that was not measured.
        cost_per_million_rows: in the currency of ``--price-per-hour``; None without it.
        file_rows: of the whole input; None if only reading tells.
        file_seconds: projected for these; None likewise.
        labels: what speaks against trusting it; see `Cell.labels`.
    """

    batch_rows: int
    in_flight: int
    instances: int
    queue_delay_us: int
    max_batch_size: int
    version: str
    rows_per_second: float
    interval: Interval
    best_rows_per_second: float
    knee_batch_rows: tuple[int, int]
    knee_in_flight: tuple[int, int]
    bound_by: Bound
    bound_why: str
    fit: Fit | None
    advice: tuple[Advice, ...]
    gain: Interval | None
    cost_per_million_rows: float | None
    file_rows: int | None
    file_seconds: float | None
    labels: tuple[str, ...]

    @property
    def setting(self) -> Setting:
        """The recommended setting."""
        variant = Variant(self.instances, self.queue_delay_us, self.max_batch_size, self.version)
        return Setting(self.batch_rows, self.in_flight, variant)


def judge(
    trials: Sequence[Trial],
    base: Variant,
    price_per_hour: float | None = None,
    file_rows: int | None = None,
    seed: int = 0,
) -> Verdict | None:
    """Return the verdict of a sweep; None if no trial scored all of its rows.

    Args:
        trials: all of them.
        base: the server as it is configured.
        price_per_hour: of the machines.
        file_rows: rows of the whole input.
        seed: of the resampling.
    """
    cells = summarize(trials)
    best, knee = best_cell(cells), knee_of(cells, base)
    if best is None or knee is None:
        return None
    fit = fit_of(trials, knee.setting.variant)
    of_knee = [trial for trial in trials if trial.setting == knee.setting]
    bound, bound_why = _bound(of_knee, cells, knee, fit)
    rows_range, width_range = _knee_range(trials, base, seed)
    rate = knee.rows_per_second.value
    setting = knee.setting
    return Verdict(
        batch_rows=setting.batch_rows,
        in_flight=setting.in_flight,
        instances=setting.variant.instances,
        queue_delay_us=setting.variant.queue_delay_us,
        max_batch_size=setting.variant.max_batch_size,
        version=setting.variant.version,
        rows_per_second=rate,
        interval=knee.rows_per_second,
        best_rows_per_second=best.rows_per_second.value,
        knee_batch_rows=rows_range,
        knee_in_flight=width_range,
        bound_by=bound,
        bound_why=bound_why,
        fit=fit,
        advice=_advice(trials, cells, knee, base, fit),
        gain=_gain(trials, knee.setting, default_setting(cells, base)),
        cost_per_million_rows=(
            None if price_per_hour is None else price_per_hour / 3600 / rate * 1e6
        ),
        file_rows=file_rows,
        file_seconds=None if file_rows is None else file_rows / rate,
        labels=knee.labels,
    )


def default_setting(cells: Sequence[Cell], base: Variant) -> Setting | None:
    """Return what ``score`` does by itself: the largest requests, at a window of about four."""
    own = [cell.setting for cell in cells if cell.setting.variant == base]
    if not own:
        return None
    largest = max(setting.batch_rows for setting in own)
    wide = [setting for setting in own if setting.batch_rows == largest]
    return min(wide, key=lambda setting: abs(setting.in_flight - 4))


def _knee_range(
    trials: Sequence[Trial], base: Variant, seed: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return which batch rows and widths resampled trials recommend, but the rarest 5 %."""
    cells = sound_cells(summarize(trials))
    random = np.random.default_rng(seed)
    medians = np.array([_resampled(trials, cell.setting, random) for cell in cells])
    knees = [knee_by(cells, rates, base).setting for rates in medians.T.tolist()]
    return (
        _span([setting.batch_rows for setting in knees]),
        _span([setting.in_flight for setting in knees]),
    )


def _resampled(
    trials: Sequence[Trial], setting: Setting, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return `RESAMPLES` medians of a setting's rates, each of as many of them, drawn at random."""
    rates = np.array([trial.rows_per_second for trial in trials if trial.setting == setting])
    drawn = rates[random.integers(len(rates), size=(RESAMPLES, len(rates)))]
    return np.asarray(np.median(drawn, axis=1))


def _span(values: Sequence[int]) -> tuple[int, int]:
    ordered = sorted(values)
    drop = len(ordered) // 40
    return ordered[drop], ordered[-1 - drop]


def _gain(trials: Sequence[Trial], ours: Setting, other: Setting | None) -> Interval | None:
    """Return our rate ÷ another setting's: medians, and the bootstrap interval of their ratio."""
    if other is None:
        return None
    if ours == other:
        return Interval(1.0, 1.0, 1.0)
    random = np.random.default_rng(0)
    first, second = (_resampled(trials, each, random) for each in (ours, other))
    middles = [
        median(t.rows_per_second for t in trials if t.setting == each) for each in (ours, other)
    ]
    if middles[1] <= 0:
        return None
    middle = middles[0] / middles[1]
    low, high = np.quantile(first / np.maximum(second, 1e-9), [0.025, 0.975])
    return Interval(float(min(low, middle)), middle, float(max(high, middle)))


def _bound(
    trials: Sequence[Trial], cells: Sequence[Cell], knee: Cell, fit: Fit | None
) -> tuple[Bound, str]:
    stages = Counter(trial.bound_by for trial in trials if trial.bound_by)
    if not stages:
        return "unknown", "the server does not tell"
    failed = [
        cell.setting.batch_rows
        for cell in cells
        if cell.setting.batch_rows > knee.setting.batch_rows and cell.failed_alone
    ]
    (stage, _), *_ = stages.most_common(1)
    bound = _BOUNDS.get(stage, "unknown")
    if bound == "compute" and failed and fit is not None and fit.a_ms > 0:
        gain = fit.rows_per_second(min(failed)) / fit.rows_per_second(knee.setting.batch_rows)
        if gain >= MEMORY_GAIN:
            return "memory", (
                f"the instances are busy, and batches of {min(failed):,} rows, which would be "
                f"{gain - 1:.1%} faster, fail"
            )
    loads = [trial.load for trial in trials if trial.load is not None]
    if not loads:
        return bound, stage
    shares = f"read {_mean(loads, 'read'):.0%}, event loop {_mean(loads, 'loop'):.0%}, write "
    shares += f"{_mean(loads, 'write'):.0%}"
    if loads[0].instances is not None:
        shares += f", model instances {_mean(loads, 'instances'):.0%}"
    return bound, f"{stage}; busy: {shares}"


def _mean(loads: Sequence[object], name: str) -> float:
    values = [getattr(load, name) or 0.0 for load in loads]
    return float(sum(values) / len(values))


_Change = Callable[[Setting], int]


def _advice(
    trials: Sequence[Trial],
    cells: Sequence[Cell],
    knee: Cell,
    base: Variant,
    fit: Fit | None,
) -> tuple[Advice, ...]:
    setting, default = knee.setting, default_setting(cells, base)
    reads: dict[str, tuple[_Change, int | None]] = {
        "batch_rows": (lambda s: s.batch_rows, default.batch_rows if default else None),
        "in_flight": (lambda s: s.in_flight, None),
        "instances": (lambda s: s.variant.instances, base.instances),
        "queue_delay_us": (lambda s: s.variant.queue_delay_us, base.queue_delay_us),
        "max_batch_size": (lambda s: s.variant.max_batch_size, base.max_batch_size),
    }
    found = []
    for name, (read, configured) in reads.items():
        other = _beside(cells, setting, name, read, configured)
        gain = _gain(trials, setting, other)
        why = _why(name, knee, other, cells, fit, base)
        against = None if other is None else read(other)
        found.append(Advice(name, read(setting), configured, why, gain, against))
    return tuple(found)


_MOVES_WITH = {
    "instances": {"in_flight"},
    "max_batch_size": {"batch_rows", "in_flight"},
}
"""What may differ as well where one thing is compared: more instances need more requests."""


def _beside(
    cells: Sequence[Cell], setting: Setting, name: str, read: _Change, configured: int | None
) -> Setting | None:
    """Return the measured setting that differs in one value alone: the configured or a lower one.

    Of those the nearest, and of equals the fastest.
    """
    value, ours = read(setting), _parts(setting)
    allowed = {name, *_MOVES_WITH.get(name, ())}
    others = [
        cell
        for cell in cells
        if read(cell.setting) != value
        and {part for part, each in _parts(cell.setting).items() if each != ours[part]} <= allowed
    ]

    def far(cell: Cell) -> tuple[bool, bool, int, float]:
        other = read(cell.setting)
        rate = cell.rows_per_second.value
        return (other != configured, other > value, abs(other - value), -rate)

    return min(others, key=far).setting if others else None


def _parts(setting: Setting) -> dict[str, int | str]:
    return {
        "batch_rows": setting.batch_rows,
        "in_flight": setting.in_flight,
        "instances": setting.variant.instances,
        "queue_delay_us": setting.variant.queue_delay_us,
        "max_batch_size": setting.variant.max_batch_size,
        "version": setting.variant.version,
    }


def _why(
    name: str,
    knee: Cell,
    other: Setting | None,
    cells: Sequence[Cell],
    fit: Fit | None,
    base: Variant,
) -> str:
    setting = knee.setting
    if name == "batch_rows":
        if fit is None:
            return "the smallest that is as fast as the fastest"
        executed = float(setting.batch_rows)
        if knee.server is not None:
            executed = knee.server.executed_batch_rows
        if fit.b_ms_per_row <= 0:
            return f"an instance takes {fit.a_ms:.3f} ms a batch, whatever its size"
        share = fit.rows_per_second(executed) * fit.b_ms_per_row / 1e3
        return (
            f"an instance takes {fit.a_ms:.3f} ms a batch and {fit.b_ms_per_row * 1e3:.3f} µs a "
            f"row, so the batches of {executed:,.0f} rows that it executed reach {share:.0%} of "
            "what any size could"
        )
    if name == "in_flight":
        instances = max(setting.variant.instances, 1)
        per = f"for {instances} instance{'s' if instances > 1 else ''}"
        return f"{per}: the next requests must be there when a batch ends; more only wait"
    if name == "max_batch_size":
        return _why_limit(setting.variant.max_batch_size, base.max_batch_size)
    if other is None:
        return "no other was measured at this setting"
    tried = sorted({_value(name, cell.setting) for cell in cells})
    kind = "instances" if name == "instances" else "delays"
    return f"the cheapest of the {kind} tried ({', '.join(map(str, tried))}) that is as fast"


def _why_limit(limit: int, configured: int) -> str:
    if limit == configured:
        return "as configured"
    if limit > configured:
        return "the configured limit keeps batches smaller than is good for the model"
    return "larger batches fail; with this limit Triton joins no requests into one"


def _value(name: str, setting: Setting) -> int:
    return int(getattr(setting.variant, name))
