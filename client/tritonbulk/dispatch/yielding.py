"""Yielding: a window that becomes narrower while others wait too long in the model's queue.

What others feel is read from the servers' statistics now and then. Over the limit the share of all
windows that is used is cut at once, down to nothing; under it, it doubles until the first cut, then
grows by a quarter, after the more calm readings the more often that was too early. Pure.
"""

from __future__ import annotations

from tritonbulk.polite import YieldTo

CUT_MAX = 0.5
"""A reading over the limit takes away at least half."""

CALM = 0.8
"""Below this share of the limit there is room for more."""

PATIENCE_MAX = 16
"""Calm readings after which it is tried wider in any case."""

PAUSE_S_MAX = 10.0
"""After so long without a request one is sent whatever others feel, so that every run ends."""


class Yielding:
    """How much of the windows is used. Their width, over all endpoints, comes with each call.

    Args:
        yield_to: what others may feel.
    """

    def __init__(self, yield_to: YieldTo) -> None:
        self._yield_to = yield_to
        self._share = 1
        self._has_cut = False
        self._patience = self._calm = 0
        self._paused_s: float | None = None

    def limit(self, width: int) -> int:
        """Return the requests that may be in flight now; 0 while all are left to others."""
        return min(self._share, width)

    def yields(self, width: int) -> bool:
        """Return whether fewer may be than without others."""
        return self._has_cut and self._share < width

    def felt(self, mean_s: float | None, width: int, now_s: float) -> None:
        """Take note of how long requests waited in the queue since the last reading.

        Args:
            mean_s: their mean, our own included; None if there were none.
            width: requests that could be in flight without others, at least 1.
            now_s: the time.
        """
        wait_s = self._yield_to.estimate_s(mean_s or 0.0)
        if wait_s > self._yield_to.limit_s:
            self._has_cut = True
            # Soon after it was widened: that was too early. Long after: others have come.
            was_early = self._calm <= self._patience
            self._patience = min(2 * self._patience, PATIENCE_MAX) if was_early else 1
            self._patience, self._calm = max(self._patience, 1), 0
            keep = min(self._yield_to.limit_s / wait_s, CUT_MAX)
            self._share = int(min(self._share, width) * keep)
        elif wait_s < CALM * self._yield_to.limit_s:
            self._calm += 1
            # Without any request there is nobody who could feel one.
            if mean_s is None or self._calm > self._patience or not self._share:
                self._widen(width)
        self._end_long_pause(now_s)

    def _widen(self, width: int) -> None:
        step = max(self._share // 4, 1) if self._has_cut else max(self._share, 1)
        self._share = min(self._share + step, width)
        self._calm = 0

    def _end_long_pause(self, now_s: float) -> None:
        if self._share:
            self._paused_s = None
        elif self._paused_s is None:
            self._paused_s = now_s
        elif now_s - self._paused_s >= PAUSE_S_MAX:
            self._share, self._paused_s = 1, None
