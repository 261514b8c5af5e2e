"""Polite: what a run does for others who use its servers. Values and pure functions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tritonbulk.errors import OptionError

PRIORITY_MAX = 1_000_000
"""Highest priority number that ``--priority`` takes; 1 is served first."""

_YIELD_TO = re.compile(r"p(\d{1,2}(?:\.\d+)?)\s*=\s*(\d+(?:\.\d+)?)\s*(ms|s)")


@dataclass(frozen=True, slots=True)
class YieldTo:
    """How long others may wait in the model's queue before a run sends less.

    Attributes:
        quantile: of the waits, above 0, below 1.
        limit_s: what this quantile of the waits may be, in seconds.
    """

    quantile: float
    limit_s: float

    def estimate_s(self, mean_s: float) -> float:
        """Return the quantile of waits of which only the mean is known.

        Servers count sums. Of waits in a queue the exponential distribution is the usual model
        (exact for M/M/1), whose quantile q is -ln(1 - q) times its mean.
        """
        return -math.log(1.0 - self.quantile) * mean_s

    def __str__(self) -> str:
        return f"p{self.quantile * 100:g}={self.limit_s * 1000:g}ms"


def parse_yield_to(text: str) -> YieldTo:
    """Return what ``p99=50ms`` stands for.

    Raises:
        OptionError: it has another form; a retry does not help.
    """
    found = _YIELD_TO.fullmatch(text.strip())
    quantile = float(found[1]) / 100 if found else 0.0
    limit_s = float(found[2]) / (1000 if found[3] == "ms" else 1) if found else 0.0
    if not (0 < quantile < 1 and limit_s > 0):
        raise OptionError(f"--yield-to {text!r} is not understood; give for example p99=50ms")
    return YieldTo(quantile, limit_s)


def check_priority(asked: int, levels: int | None, model: str) -> str | None:
    """Return a sentence if asking for a priority changes nothing; None if it does.

    Args:
        asked: priority number, 1 is served first; 0 asks for none.
        levels: of the model; 0 if it has none; None if the server does not tell.
        model: its name.

    Raises:
        OptionError: the model has fewer levels; a retry does not help.
    """
    if asked == 0:
        return None
    if levels is None:
        return (
            f"warning: the server does not tell whether model {model!r} has priority levels; "
            f"--priority {asked} may change nothing"
        )
    if levels == 0:
        return (
            f"warning: model {model!r} has no priority levels, so --priority {asked} changes "
            "nothing; set priority_levels in the dynamic_batching of its config.pbtxt"
        )
    if asked > levels:
        raise OptionError(
            f"--priority is {asked}, but model {model!r} has {levels} levels; give 1 (first) to "
            f"{levels}"
        )
    return None
