"""Which endpoint a request goes to: the one with the fewest rows in flight among those that are up.

An endpoint whose attempt fails for a reason of its own is left alone for a while, longer each time
(exponential backoff), and is up again with its first answer.
"""

from __future__ import annotations

from dataclasses import dataclass

DOWN_S_MIN = 0.1
DOWN_S_MAX = 5.0
"""The first rest of an endpoint lasts the minimum, each next one twice as long, at most this."""


@dataclass(slots=True)
class _Endpoint:
    rows: int = 0
    rows_sent: int = 0
    up_s: float = 0.0
    failures: int = 0


class Endpoints:
    """The endpoints of a run, by index.

    Args:
        count: how many there are, at least 1.
    """

    def __init__(self, count: int) -> None:
        self._all = [_Endpoint() for _ in range(count)]

    def choose(self, now_s: float) -> int | None:
        """Return the endpoint to send to; None if all rest."""
        up = [index for index, each in enumerate(self._all) if each.up_s <= now_s]
        if not up:
            return None
        # Rows sent so far break ties, so that idle endpoints take turns.
        return min(up, key=lambda index: (self._all[index].rows, self._all[index].rows_sent))

    @property
    def up_s(self) -> float:
        """When the first of them is up, in the past if one is."""
        return min(each.up_s for each in self._all)

    def sent(self, index: int, rows: int) -> None:
        """Take note of a request."""
        self._all[index].rows += rows
        self._all[index].rows_sent += rows

    def landed(self, index: int, rows: int) -> None:
        """Take note that a request is no longer in flight."""
        self._all[index].rows -= rows

    def answered(self, index: int) -> None:
        """Take note that the endpoint answered, with whatever."""
        self._all[index].failures = 0
        self._all[index].up_s = 0.0

    def failed(self, index: int, now_s: float) -> None:
        """Take note that it did not; requests that fail together count once."""
        each = self._all[index]
        if now_s >= each.up_s:
            each.up_s = now_s + min(DOWN_S_MIN * 2**each.failures, DOWN_S_MAX)
            each.failures += 1
