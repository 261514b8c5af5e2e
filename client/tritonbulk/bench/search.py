"""Search: which trials come next, and why. A pure function of those that were measured.

First a coarse grid with the server as it is configured, as long as its time lasts. Then, one at a
time and from the knee (the cheapest point that is nearly as fast as the fastest): a smaller limit
of the batch where batches failed, a larger one where they are full, instances, queue delay,
version, and what lies next to it. Then repeats, of every point that
cannot be told from the best and of all others after them. Nothing that was measured is forgotten,
and since only what was measured decides, an interrupted sweep goes on where it was.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from tritonbulk.bench.cells import Cell, best_cell, fit_of, knee_of, summarize
from tritonbulk.bench.setting import UNKNOWN, Setting, Variant, describe_variant
from tritonbulk.bench.trial import Trial

WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Requests in flight that a search may try."""

BATCHES_WAITING = 4
"""Full batches an instance, one executed and the others waiting, beyond which none is tried."""

CONTENDER_SHARE = 0.96
"""A cell whose interval reaches this share of the best rate is looked at more closely."""

CONTENDERS_MAX = 6
REPEATS_MIN = 3
"""Trials of every cell, if time allows."""

REPEATS_CLOSE = 7
"""Trials of cells that compete for the best."""

LIMIT_GAIN = 1.01
"""What a batch limit between two tried ones must promise to be tried as well."""

COARSE = "coarse grid"
"""Why a trial of the coarse grid is run."""

LARGER_GAIN = 1.03
"""What batches twice as large as the configured limit must promise for a larger one to be tried."""

LARGER_FACTOR_MAX = 16
"""Times the configured limit of the batch beyond which none is tried."""

FULL_SHARE = 0.75
"""Share of the limit that executed batches must reach for it to be what keeps them small."""

LIMIT_STEP = 64
"""Batch limits are multiples of this, if they are larger."""


@dataclass(frozen=True, slots=True)
class Space:
    """What may be tried.

    Attributes:
        batch_rows: the coarse grid's rows a request, in order.
        in_flight: the coarse grid's requests in flight, in order.
        base: the server as it is configured.
        instances: to be tried besides; empty if the server must be left alone.
        queue_delays_us: to be tried besides; likewise.
        versions: of the model, to be tried besides.
        may_limit: whether other batch limits may be tried.
        rows_max: rows that the largest request may have; 0 for no more than the coarse grid's.
    """

    batch_rows: tuple[int, ...]
    in_flight: tuple[int, ...]
    base: Variant
    instances: tuple[int, ...] = ()
    queue_delays_us: tuple[int, ...] = ()
    versions: tuple[str, ...] = ()
    may_limit: bool = False
    rows_max: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One trial to come, and why it was chosen."""

    setting: Setting
    why: str


def grid_rounds(space: Space, repeats: int, done: Sequence[Trial], seed: int) -> list[list[Step]]:
    """Return the rounds of a full grid that are not measured yet; each has every cell once."""
    variants = [
        Variant(instances, delay, space.base.max_batch_size, version)
        for instances, delay, version in product(
            space.instances or (space.base.instances,),
            space.queue_delays_us or (space.base.queue_delay_us,),
            space.versions or (space.base.version,),
        )
    ]
    cells = sorted({Setting(*c) for c in product(space.batch_rows, space.in_flight, variants)})
    measured = {(trial.setting, trial.round) for trial in done}
    rounds = []
    for number in range(repeats):
        left = [Step(cell, "grid") for cell in cells if (cell, number) not in measured]
        rounds.append(interleave(left, seed + number))
    return rounds


def next_round(
    space: Space,
    trials: Sequence[Trial],
    seed: int,
    *,
    may_explore: bool,
    is_late: bool = False,
) -> list[Step]:
    """Return the trials to run next, in the order to run them; empty when there is nothing to do.

    Args:
        space: what may be tried.
        trials: what was measured.
        seed: of the order.
        may_explore: whether there is time for settings that were not tried yet.
        is_late: whether the coarse grid has had its time; what is left of it comes after what
            promises more.
    """
    coarse = _coarse(space, trials)
    steps = [] if is_late else coarse
    if not steps and may_explore:
        cells = summarize(trials)
        best = knee_of(cells, space.base)
        explorers = (_limits, _larger, _instances, _delays, _versions, _neighbours)
        if best is not None:
            steps = next(
                (found for explore in explorers if (found := explore(space, cells, best, trials))),
                [],
            )
        steps = steps or coarse
    if not steps:
        steps = _repeats(space, trials)
    return interleave(steps, seed + len(trials))


def interleave(steps: Iterable[Step], seed: int) -> list[Step]:
    """Return the steps in random order, those of one variant of the server together.

    What disturbs the machine for a while then hits all cells alike; setting the server anew for
    every trial would cost more than it is worth.
    """
    shuffler = random.Random(seed)  # noqa: S311 - an order, not a secret
    by_variant: dict[Variant, list[Step]] = {}
    for step in sorted(steps, key=lambda step: step.setting):
        by_variant.setdefault(step.setting.variant, []).append(step)
    groups = [shuffler.sample(group, len(group)) for group in by_variant.values()]
    shuffler.shuffle(groups)
    return [step for group in groups for step in group]


def _coarse(space: Space, trials: Sequence[Trial]) -> list[Step]:
    """What was not tried of the coarse grid, without requests that would only wait.

    Of each size the narrowest stays, in which everything may be asked for.
    """
    measured = {trial.setting for trial in trials}
    cells = [Setting(*cell, space.base) for cell in product(space.batch_rows, space.in_flight)]
    return [
        Step(cell, COARSE)
        for cell in cells
        if cell not in measured
        and (
            space.base.instances == UNKNOWN
            or cell.in_flight <= max(_width_most(cell), min(space.in_flight))
        )
    ]


def _instances(
    space: Space, cells: Sequence[Cell], best: Cell, _trials: Sequence[Trial]
) -> list[Step]:
    """Each number of instances that was not tried, with enough requests in flight to feed them."""
    known = {cell.setting.variant.instances for cell in cells}
    base = best.setting.variant.instances or 1
    steps = []
    for instances in space.instances:
        if instances in known:
            continue
        variant = replace(best.setting.variant, instances=instances)
        wider = replace(best.setting, variant=variant)
        for factor in (1, 2):
            wanted = best.setting.in_flight * factor * max(instances / base, 1)
            setting = replace(wider, in_flight=min(_width(wanted), _width_most(wider)))
            steps.append(Step(setting, f"{instances} instances, from {_called(best, space.base)}"))
    return _unique(steps)


def _delays(
    space: Space, cells: Sequence[Cell], best: Cell, _trials: Sequence[Trial]
) -> list[Step]:
    """Each queue delay that was not tried, at the best point and with smaller requests."""
    known = {cell.setting.variant.queue_delay_us for cell in cells}
    smaller = [rows for rows in space.batch_rows if rows < best.setting.batch_rows]
    steps = []
    for delay in space.queue_delays_us:
        if delay in known:
            continue
        variant = replace(best.setting.variant, queue_delay_us=delay)
        why = f"queue delay {delay:,} µs, from {_called(best, space.base)}"
        steps.append(Step(replace(best.setting, variant=variant), why))
        if smaller:
            steps.append(Step(Setting(smaller[-1], max(space.in_flight), variant), why))
    return _unique(steps)


def _versions(
    space: Space, cells: Sequence[Cell], best: Cell, _trials: Sequence[Trial]
) -> list[Step]:
    """Each version that was not tried, at the best point."""
    known = {cell.setting.variant.version for cell in cells}
    return [
        Step(
            replace(best.setting, variant=replace(best.setting.variant, version=version)),
            f"version {version}, from {_called(best, space.base)}",
        )
        for version in space.versions
        if version not in known
    ]


def _limits(space: Space, cells: Sequence[Cell], best: Cell, trials: Sequence[Trial]) -> list[Step]:
    """The middle between the largest batch that was executed and the smallest that failed.

    Or the largest, once the smallest that failed would hardly be faster. Where batches failed, such
    as for want of memory, requests of that size with that limit keep Triton from joining them into
    one that fails.
    """
    failing = min((cell.setting.batch_rows for cell in cells if cell.failed_alone), default=0)
    executed = [
        batches.rows
        for trial in trials
        if trial.is_sound and trial.server is not None
        for batches in trial.server.executed
    ]
    largest = max((rows for rows in executed if rows < failing), default=0)
    fit = fit_of(trials)
    if not (space.may_limit and largest) or fit is None:
        return []
    is_close = fit.rows_per_second(failing) < LIMIT_GAIN * fit.rows_per_second(largest)
    limit = largest if is_close else (largest + failing) // 2
    rounded = limit // LIMIT_STEP * LIMIT_STEP if limit > LIMIT_STEP else limit
    if any(cell.setting.variant.max_batch_size == rounded for cell in cells):
        return []
    variant = replace(best.setting.variant, max_batch_size=rounded)
    why = (
        f"batches of {failing:,} rows fail and {largest:,} do not: requests and batches of at most "
        f"{rounded:,}"
    )
    return [Step(Setting(rounded, _width(2 * max(variant.instances, 1)), variant), why)]


def _larger(space: Space, cells: Sequence[Cell], best: Cell, trials: Sequence[Trial]) -> list[Step]:
    """Twice the limit of the batch where the best point fills its batches and larger ones pay.

    Requests become as large, so that it needs no batcher. None where any batch has failed.
    """
    limit, fit = best.setting.variant.max_batch_size, fit_of(trials)
    is_full = (
        best.server is not None
        and best.setting.variant.max_batch_size > 0
        and best.server.executed_batch_rows >= FULL_SHARE * limit
    )
    if not (space.may_limit and is_full) or fit is None or any(cell.failed_alone for cell in cells):
        return []
    wanted = 2 * limit
    most = min(LARGER_FACTOR_MAX * space.base.max_batch_size, space.rows_max)
    if wanted > most or any(cell.setting.variant.max_batch_size >= wanted for cell in cells):
        return []
    gain = fit.rows_per_second(wanted) / fit.rows_per_second(limit)
    if gain < LARGER_GAIN:
        return []
    variant = replace(best.setting.variant, max_batch_size=wanted)
    why = (
        f"batches fill the limit of {limit:,} rows, and twice as large ones promise "
        f"{gain - 1:.0%} more"
    )
    widths = {_width(2 * max(variant.instances, 1)), best.setting.in_flight}
    return [Step(Setting(wanted, width, variant), why) for width in sorted(widths)]


def _neighbours(
    space: Space, cells: Sequence[Cell], best: Cell, _trials: Sequence[Trial]
) -> list[Step]:
    """What differs from the best point by one step of the rows, the width or the instances."""
    setting, measured = best.setting, {cell.setting for cell in cells}
    # A limit beyond the configured one was found to pay: its own requests are as large.
    rows_max = max(space.batch_rows)
    if limit := setting.variant.max_batch_size:
        rows_max = limit if limit > space.base.max_batch_size else min(limit, rows_max)
    near = [
        replace(setting, batch_rows=rows)
        for rows in (setting.batch_rows // 2, min(setting.batch_rows * 2, rows_max))
        if min(space.batch_rows) <= rows
    ]
    near += [
        replace(setting, in_flight=width)
        for width in _widths_beside(setting.in_flight)
        if width <= max(_width_most(setting), setting.in_flight)
    ]
    if space.instances:
        for instances in (setting.variant.instances - 1, setting.variant.instances + 1):
            if 1 <= instances <= max(space.instances):
                variant = replace(setting.variant, instances=instances)
                near.append(replace(setting, variant=variant))
    why = f"next to the best so far, {_called(best, space.base)}"
    return _unique(Step(each, why) for each in near if each not in measured)


def _repeats(space: Space, trials: Sequence[Trial]) -> list[Step]:
    """The cells that may be the best, until each has `REPEATS_CLOSE`; then all others."""
    cells = [cell for cell in summarize(trials) if not (cell.error and cell.trials > 1)]
    best = best_cell(cells)
    if best is None:
        return []
    close = [
        cell
        for cell in cells
        if cell.rows_per_second.high >= CONTENDER_SHARE * best.rows_per_second.value
        and ("failed" not in cell.labels or cell == best)
    ]
    close = sorted(close, key=lambda cell: -cell.rows_per_second.value)[:CONTENDERS_MAX]
    fewest = min(cell.trials for cell in close)
    if fewest < REPEATS_CLOSE:
        why = f"closer look: cannot be told from the best yet, {_called(best, space.base)}"
        return [Step(cell.setting, why) for cell in close if cell.trials == fewest]
    return [
        Step(cell.setting, "an interval for every cell")
        for cell in cells
        if cell.trials < REPEATS_MIN
    ]


def _called(cell: Cell, base: Variant) -> str:
    variant = describe_variant(cell.setting.variant, base)
    return (
        f"{cell.setting.describe()}{' (' + variant + ')' if variant else ''}: "
        f"{cell.rows_per_second.value:,.0f} rows/s"
    )


def _width(wanted: float) -> int:
    return next((width for width in WIDTHS if width >= wanted), WIDTHS[-1])


def _width_most(setting: Setting) -> int:
    """Return the width that fills `BATCHES_WAITING` batches an instance; more would only wait."""
    rows = max(setting.variant.max_batch_size, setting.batch_rows)
    batches = BATCHES_WAITING * max(setting.variant.instances, 1)
    return _width(batches * rows / setting.batch_rows)


def _widths_beside(width: int) -> list[int]:
    less = [each for each in WIDTHS if each < width]
    more = [each for each in WIDTHS if each > width]
    return less[-1:] + more[:1]


def _unique(steps: Iterable[Step]) -> list[Step]:
    return list({step.setting: step for step in steps}.values())
