"""What a sweep measures: frozen, checked values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tritonbulk.bench.setting import Setting
from tritonbulk.errors import OptionError
from tritonbulk.options import SEGMENT_ROWS
from tritonbulk.scorer_options import IN_FLIGHT_MAX, INSTANCES_MAX

BATCH_ROWS = (64, 256, 1024, 4096)
"""Rows a request where none are asked for."""

IN_FLIGHT = (1, 4, 16)
"""Requests in flight where none are asked for."""

QUEUE_DELAYS_US = (0, 2000)
"""Queue delays that a search tries where none are asked for."""

QUEUE_DELAY_US_MAX = 60_000_000
BUDGET_S_MAX = 86_400.0
BUDGET_TRIALS = 80
"""Trials into which a budget is cut."""

TRIAL_S = 1.5
"""Length of a trial without a budget."""

REPEATS = 5
"""Trials of every cell without a budget: with fewer, a change of a tenth cannot be told."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What a sweep measures.

    Attributes:
        batch_rows: rows a request; empty takes `BATCH_ROWS` as far as the model allows.
        in_flight: requests in flight; empty takes `IN_FLIGHT`.
        instances: of the model; empty lets a search try some, and a grid leaves them alone.
        queue_delays_us: microseconds that a request waits for others; as for ``instances``.
        versions: of the model, such as those of other precisions; empty: the one.
        budget_s: seconds in which a search chooses the trials; None runs the whole grid instead.
        trial_s: seconds that one trial keeps reading rows; None follows from the budget.
        repeats: trials of every cell of a grid.
        no_write: leave out the writing, to measure the server alone.
        vary_server: whether instances and delay of the servers at ``--endpoint`` may be changed.
        price_per_hour: of the machines, in any currency; None: no costs.
        metrics: address of Triton's metrics; None: those of an embedded server.
        seed: of the order.
        raw: file for the raw trials, one JSON object a line.
    """

    raw: Path
    batch_rows: tuple[int, ...] = ()
    in_flight: tuple[int, ...] = ()
    instances: tuple[int, ...] = ()
    queue_delays_us: tuple[int, ...] = ()
    versions: tuple[str, ...] = ()
    budget_s: float | None = None
    trial_s: float | None = None
    repeats: int = REPEATS
    no_write: bool = False
    vary_server: bool = False
    price_per_hour: float | None = None
    metrics: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            OptionError: names the option; a retry does not help.
        """
        for name, numbers, least, most in (
            ("--batch-rows", self.batch_rows, 1, 2**31 - 1),
            ("--in-flight", self.in_flight, 1, IN_FLIGHT_MAX),
            ("--instances", self.instances, 1, INSTANCES_MAX),
            ("--queue-delay", self.queue_delays_us, 0, QUEUE_DELAY_US_MAX),
        ):
            if any(not least <= number <= most for number in numbers):
                raise OptionError(
                    f"{name} needs whole numbers from {least} to {most}, separated by commas"
                )
        for name, value in (
            ("--trial-seconds", self.trial_s),
            ("--budget", self.budget_s),
            ("--price-per-hour", self.price_per_hour),
        ):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise OptionError(f"{name} is {value}; give more than 0")
        if self.budget_s is not None and self.budget_s > BUDGET_S_MAX:
            raise OptionError(f"--budget is {self.budget_s:g} s; give at most a day")
        if self.repeats < 1:
            raise OptionError(f"--repeats is {self.repeats}; give at least 1")

    @property
    def trial_length_s(self) -> float:
        """Seconds that one trial keeps reading."""
        if self.trial_s is not None:
            return self.trial_s
        if self.budget_s is None:
            return TRIAL_S
        return min(max(self.budget_s / BUDGET_TRIALS, 0.3), 10.0)


def batch_rows_within(max_batch_size: int) -> tuple[int, ...]:
    """Return the default rows a request that a model allows (0: no limit), its limit included."""
    largest = min(max_batch_size or BATCH_ROWS[-1], BATCH_ROWS[-1])
    return (*(rows for rows in BATCH_ROWS if rows < largest), largest)


def segment_rows_for(rate_rows_s: float, trial_s: float, setting: Setting) -> int:
    """Return the rows of a segment for trials of ``trial_s`` at about ``rate_rows_s``.

    A trial ends with whole segments, so they are short against it (an eighth), and no longer than
    those of ``score``; but they hold full batches only, and two of them fill the window.
    """
    rows = min(SEGMENT_ROWS, int(rate_rows_s * trial_s / 8))
    batches = max(rows // setting.batch_rows, -(-setting.in_flight // 2))
    return batches * setting.batch_rows
