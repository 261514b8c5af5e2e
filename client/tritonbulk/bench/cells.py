"""Cells: all trials of one setting together, and what is to be thought of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bench.statistics import (
    LITTLE_TOLERANCE,
    Fit,
    Interval,
    fit_batches,
    median_interval,
)
from tritonbulk.bench.trial import Executed, ServerSplit, Trial

KNEE_SHARE = 0.99
"""Share of the best rate that a cheaper setting must reach to be taken instead of the best."""


@dataclass(frozen=True, slots=True)
class Cell:
    """All trials of one setting.

    Attributes:
        setting: the setting.
        trials: how many there were.
        rows_per_second: median, with its interval.
        cpu_s_client_per_mrow: CPU seconds of the client a million rows, median.
        cpu_s_server_per_mrow: of the server; None if it is elsewhere.
        round_trip_ms: of a request, median.
        server: medians of what Triton counted, batches added up; None if it does not tell.
        labels: what speaks against trusting it, if half of the trials say so: "failed" (rows or
            attempts went wrong), "noisy" (others used the processors), "unsteady" (no end of the
            warm-up was seen), "starving" (fewer requests in flight than allowed).
        error: what the last trial failed with; "" if that was nothing.
    """

    setting: Setting
    trials: int
    rows_per_second: Interval
    cpu_s_client_per_mrow: float
    cpu_s_server_per_mrow: float | None
    round_trip_ms: float
    server: ServerSplit | None
    labels: tuple[str, ...]
    error: str

    @property
    def failed_alone(self) -> bool:
        """Whether requests failed by their own size: Triton cannot have joined them."""
        limit = self.setting.variant.max_batch_size
        is_alone = self.setting.in_flight == 1 or 0 < limit < 2 * self.setting.batch_rows
        return is_alone and "failed" in self.labels


def summarize(trials: Sequence[Trial]) -> list[Cell]:
    """Return one cell a setting, in the order of settings; no trial is left out."""
    settings = sorted({trial.setting for trial in trials})
    return [_cell(setting, [t for t in trials if t.setting == setting]) for setting in settings]


def best_cell(cells: Sequence[Cell]) -> Cell | None:
    """Return the fastest cell without failures; None if no cell scored all of its rows.

    One with attempts that failed and were repeated is taken where there is no other.
    """
    return max(sound_cells(cells), key=lambda cell: cell.rows_per_second.value, default=None)


def sound_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells without failures; where there are none, those that scored their rows."""
    scored = [cell for cell in cells if cell.rows_per_second.value > 0 and not cell.error]
    return [cell for cell in scored if "failed" not in cell.labels] or scored


def knee_of(cells: Sequence[Cell], base: Variant) -> Cell | None:
    """Return the cheapest cell that is nearly as fast as the fastest; None if no cell is sound.

    Cheapest: the fewest instances, then the fewest changes of how the server is configured, then
    the fewest rows in flight, then the smallest requests. Nearly: `KNEE_SHARE`.
    """
    sound = sound_cells(cells)
    if not sound:
        return None
    return knee_by(sound, [cell.rows_per_second.value for cell in sound], base)


def knee_by(cells: Sequence[Cell], rates: Sequence[float], base: Variant) -> Cell:
    """Return the knee of sound cells by other rates than their medians, in the same order."""
    least = KNEE_SHARE * max(rates)

    def price(cell: Cell) -> tuple[int, int, int, int]:
        setting, variant = cell.setting, cell.setting.variant
        changes = (
            (variant.queue_delay_us != base.queue_delay_us)
            + (variant.max_batch_size != base.max_batch_size)
            + (variant.version != base.version)
        )
        return (variant.instances, changes, setting.rows_in_flight, setting.batch_rows)

    fast = (cell for cell, rate in zip(cells, rates, strict=True) if rate >= least)
    return min(fast, key=price)


def fit_of(trials: Sequence[Trial], variant: Variant | None = None) -> Fit | None:
    """Return what a batch takes, from Triton's compute times; None if they do not tell.

    Instances that compete for one device or one processor make each other's batches longer, so the
    trials with the fewest instances are the ones that count, of the version of ``variant``. Triton
    also counts batches that fail, which take no time: trials that had any are left out.
    """
    told = [t for t in trials if t.is_sound and t.server is not None and t.server.executed]
    if variant is not None:
        told = [t for t in told if t.setting.variant.version == variant.version]
    for instances in sorted({trial.setting.variant.instances for trial in told}):
        fit = fit_batches(
            [
                (batches.rows, batches.infer_ms)
                for trial in told
                if trial.setting.variant.instances == instances and trial.server is not None
                for batches in trial.server.executed
            ]
        )
        if fit is not None:
            return fit
    return None


def _cell(setting: Setting, trials: Sequence[Trial]) -> Cell:
    servers = [
        trial.cpu_s_server / trial.rows * 1e6
        for trial in trials
        if trial.cpu_s_server is not None and trial.rows
    ]
    return Cell(
        setting=setting,
        trials=len(trials),
        rows_per_second=median_interval([trial.rows_per_second for trial in trials]),
        cpu_s_client_per_mrow=median(t.cpu_s_client / max(t.rows, 1) * 1e6 for t in trials),
        cpu_s_server_per_mrow=median(servers) if servers else None,
        round_trip_ms=median(trial.round_trip_ms for trial in trials),
        server=_together([trial.server for trial in trials if trial.server is not None]),
        labels=_labels(trials),
        error=trials[-1].error,
    )


def _labels(trials: Sequence[Trial]) -> tuple[str, ...]:
    half = len(trials) / 2
    counts = {
        "failed": sum(not trial.is_sound for trial in trials),
        "noisy": sum(trial.noise is not None and trial.noise.is_noisy for trial in trials),
        "unsteady": sum(not trial.is_steady for trial in trials),
        "starving": sum(_starves(trial) for trial in trials),
    }
    return tuple(label for label, count in counts.items() if count >= half)


def _starves(trial: Trial) -> bool:
    allowed = trial.setting.in_flight * (1 - LITTLE_TOLERANCE)
    return trial.is_sound and trial.in_flight_little < allowed


def _together(splits: Sequence[ServerSplit]) -> ServerSplit | None:
    if not splits:
        return None
    sizes = sorted({batches.rows for split in splits for batches in split.executed})
    return ServerSplit(
        median(split.executed_batch_rows for split in splits),
        median(split.queue_ms for split in splits),
        median(split.input_ms for split in splits),
        median(split.infer_ms for split in splits),
        median(split.output_ms for split in splits),
        tuple(_of_size(splits, rows) for rows in sizes),
    )


def _of_size(splits: Sequence[ServerSplit], rows: int) -> Executed:
    found = [each for split in splits for each in split.executed if each.rows == rows]
    count = sum(each.count for each in found)
    return Executed(rows, count, fmean(each.infer_ms for each in found))
