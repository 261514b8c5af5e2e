"""Deadlines of attempts: long against what requests of that size took, short against for ever.

A deadline does not free the server, which goes on executing, so it is generous: an attempt may take
four times what the slowest hundredth of its size took, and never less than five seconds. While few
have been measured it may take twenty times the slowest of these, and never less than a minute.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

DEADLINE_S_MIN = 5.0
FACTOR = 4.0

EARLY_S_MIN = 60.0
EARLY_FACTOR = 20.0
"""What holds while fewer than twenty of a size have been measured. Until the first answer of all
nothing is known, and the limit holds."""

_SAMPLES_MIN = 20
_SAMPLES_MAX = 200
_EVERY = 20
"""The percentile is looked at anew after so many answers, which keeps it cheap."""


@dataclass(slots=True)
class _Size:
    """What requests of one size took."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES_MAX))
    since: int = 0
    p99_s: float | None = None

    def measure(self) -> None:
        """Look at the percentile anew."""
        ordered = sorted(self.seconds)
        self.p99_s = ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)]
        self.since = 0


class Deadlines:
    """The deadline of each attempt.

    Args:
        limit_s: seconds that no deadline exceeds, and that one has until something is known.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._sizes: dict[int, _Size] = {}

    def answered(self, rows: int, seconds: float) -> None:
        """Take note how long a request of so many rows took."""
        size = self._sizes.setdefault(rows.bit_length(), _Size())
        size.seconds.append(seconds)
        size.since += 1
        if size.since >= _EVERY and len(size.seconds) >= _SAMPLES_MIN:
            size.measure()

    def late(self, rows: int, seconds: float) -> None:
        """Take note that one took longer than that: the next ones of its size get longer."""
        size = self._sizes.get(rows.bit_length())
        if size is not None and size.p99_s is not None:
            size.p99_s = max(size.p99_s, seconds / 2)

    def forget_lates(self) -> None:
        """Take note that those that were late waited for a server that was stuck."""
        for size in self._sizes.values():
            if size.p99_s is not None:
                size.measure()

    def deadline_s(self, rows: int, times_late: int = 0) -> float:
        """Return how long an attempt may take.

        Args:
            rows: of the request.
            times_late: attempts of this request that were late already; each doubles it.
        """
        size = self._sizes.get(rows.bit_length())
        p99_s = size.p99_s if size is not None else None
        if p99_s is None:
            # Fewer rows take no longer than more do.
            larger = [key for key in self._sizes if key > rows.bit_length()]
            known = (self._sizes[key].p99_s for key in sorted(larger))
            p99_s = next((each for each in known if each is not None), None)
        usual_s = self._early_s(rows) if p99_s is None else max(DEADLINE_S_MIN, FACTOR * p99_s)
        return min(usual_s * 2.0 ** min(times_late, 10), self._limit_s)

    def _early_s(self, rows: int) -> float:
        """Return how long one may take by the few that were measured, of any size."""
        if not self._sizes:
            return self._limit_s
        bits = rows.bit_length()
        # Fewer rows take no longer than more do, and more take no longer than they are more.
        nearest = min((key for key in self._sizes if key >= bits), default=max(self._sizes))
        growth = 2.0 ** max(bits - nearest, 0)
        return max(EARLY_S_MIN, EARLY_FACTOR * max(self._sizes[nearest].seconds) * growth)
