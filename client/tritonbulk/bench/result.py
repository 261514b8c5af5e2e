"""Result: what a sweep has measured, and what else was done with it. Values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tritonbulk.bench.search import Space
from tritonbulk.bench.setting import Setting
from tritonbulk.bench.statistics import Interval
from tritonbulk.bench.trial import Trial
from tritonbulk.bench.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep has measured so far.

    Attributes:
        model: the model's name.
        inputs: what was scored.
        file_rows: rows of the whole input; None if only reading tells.
        space: what may be tried.
        environment: the machine, and what else figures depend on.
        ceiling: rows a second of the model alone; None if unknown.
        trials: in the order in which they ran.
        took_s: seconds that all took.
        verdict: what they say; None if none scored all of its rows.
    """

    model: str
    inputs: tuple[str, ...]
    file_rows: int | None
    space: Space
    environment: Mapping[str, str | int | float]
    ceiling: float | None = None
    trials: tuple[Trial, ...] = field(default=(), repr=False)
    took_s: float = 0.0
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """One point, measured by both.

    Attributes:
        setting: the point.
        ours: our rows a second, one a round.
        theirs: theirs.
        ratio: ours ÷ theirs, paired by round.
    """

    setting: Setting
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    ratio: Interval


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a proposal.

    Attributes:
        ratio: rate with the recommended configuration ÷ with the present one.
        is_kept: whether the file is the recommended one now.
        backup: what it was; None if it was not written.
        why: if it is not kept, the reason.
    """

    ratio: Interval | None
    is_kept: bool
    backup: Path | None
    why: str
