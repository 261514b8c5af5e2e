"""Silence: how long no row has been scored while servers were asked, and when that is too long."""

from __future__ import annotations

import math

from tritonbulk.dispatch.endings import outage
from tritonbulk.dispatch.policy import Failure, discreet
from tritonbulk.errors import OutageError


class Silence:
    """Begins with a failure, ends with a row scored.

    Args:
        limit_s: seconds that it may last; infinite for ever.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._scored_s = 0.0
        self._last: tuple[str, Failure] | None = None

    @property
    def ends_s(self) -> float:
        """When it will have lasted too long; infinite while there is none."""
        return math.inf if self._last is None else self._scored_s + self._limit_s

    def scored(self, now_s: float) -> None:
        """Take note that rows were scored."""
        self._scored_s, self._last = now_s, None

    def asked(self, now_s: float) -> None:
        """Take note that a server is asked while none was: until now nobody has been silent."""
        if self._last is None:
            self._scored_s = now_s

    def rested(self, now_s: float) -> None:
        """Take note that no server owes a row."""
        self._scored_s = now_s

    def failed(self, endpoint: str, failure: Failure) -> None:
        """Take note of the latest failure, and of whose it is."""
        self._last = endpoint, failure

    def deserted(self, endpoint: str, reason: str, now_s: float) -> None:
        """Take note that the last endpoint has gone."""
        if self._last is None:
            self._scored_s = now_s
            self.failed(endpoint, Failure(14, "UNAVAILABLE", reason))

    def so_far(self, now_s: float) -> tuple[float, str]:
        """Return its seconds, and why in words for people; 0 and "" while there is none."""
        if self._last is None:
            return 0.0, ""
        return now_s - self._scored_s, f"last word of {self._last[0]}: {discreet(self._last[1])}"

    def over(self, now_s: float) -> OutageError | None:
        """Return the end of the run if it has lasted too long."""
        if self._last is None or now_s < self.ends_s:
            return None
        return outage(*self._last, now_s - self._scored_s)
