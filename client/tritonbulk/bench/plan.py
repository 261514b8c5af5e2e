"""Which trials a sweep runs, in which order. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from tritonbulk.errors import OptionError
from tritonbulk.options import SEGMENT_ROWS

BATCH_ROWS = (64, 256, 1024, 4096)
"""Rows a request where none are asked for."""


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """One cell of a sweep: rows a request, and requests in flight."""

    batch_rows: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What a sweep measures.

    Attributes:
        batch_rows: rows a request; empty takes `BATCH_ROWS` as far as the model allows.
        in_flight: requests in flight.
        trial_s: seconds that one trial keeps reading rows.
        repeats: trials of every setting.
        seed: of the order.
    """

    batch_rows: tuple[int, ...]
    in_flight: tuple[int, ...]
    trial_s: float = 2.0
    repeats: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            OptionError: names the option; a retry does not help.
        """
        for name, values in (("--batch-rows", self.batch_rows), ("--in-flight", self.in_flight)):
            if min(values, default=1) < 1 or not self.in_flight:
                raise OptionError(f"{name} needs whole numbers of at least 1, separated by commas")
        if self.trial_s <= 0:
            raise OptionError(f"--trial-seconds is {self.trial_s}; give more than 0")
        if self.repeats < 1:
            raise OptionError(f"--repeats is {self.repeats}; give at least 1")


def batch_rows_within(max_batch_size: int) -> tuple[int, ...]:
    """Return the default rows a request that a model allows (0: no limit), its limit included."""
    largest = min(max_batch_size or BATCH_ROWS[-1], BATCH_ROWS[-1])
    return (*(rows for rows in BATCH_ROWS if rows < largest), largest)


def plan_trials(options: BenchOptions) -> list[Setting]:
    """Return the settings of all trials in the order to run them.

    Every round runs each setting once, in an order of its own: what disturbs the machine for a
    while then hits all settings alike instead of one of them (random interleaving, as in Google
    Benchmark).
    """
    settings = [Setting(*cell) for cell in product(options.batch_rows, options.in_flight)]
    settings = sorted(set(settings))
    shuffler = random.Random(options.seed)  # noqa: S311  an order, not a secret
    trials: list[Setting] = []
    for _ in range(options.repeats):
        trials += shuffler.sample(settings, len(settings))
    return trials


def segment_rows_for(rate_rows_s: float, trial_s: float, setting: Setting) -> int:
    """Return the rows of a segment for trials of ``trial_s`` at about ``rate_rows_s``.

    A trial ends with whole segments, so they are short against it (an eighth), and no longer than
    those of ``score``; but they hold full batches only, and two of them fill the window.
    """
    rows = min(SEGMENT_ROWS, int(rate_rows_s * trial_s / 8))
    batches = max(rows // setting.batch_rows, -(-setting.in_flight // 2))
    return batches * setting.batch_rows
