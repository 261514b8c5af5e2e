"""The window: how many requests may be in flight at one endpoint, a pure function of what was seen.

It climbs while more requests in flight give more rows a second, and holds where they no longer do.
Limits that follow latency (Vegas, Gradient) take the batcher's waiting for congestion, and additive
increase (AIMD) never stops lengthening the queue. Each endpoint has its own: one whose queue is
short narrows nobody else's.
"""

from __future__ import annotations

import math

EPOCH_S_MIN = 0.1
"""Seconds an epoch lasts at least: shorter ones measure the scheduler of the operating system."""

_EPOCH_ANSWERS_MIN = 20
_EPOCH_ANSWERS_PER_REQUEST = 3
_GROWTH = 1.5
_GAIN_MIN = 1.03
"""A wider window must give 3 % more rows a second to be kept."""

_LOSS_MAX = 0.8
"""Below this share of the best rate the server is not the one that was measured: learn again."""

_CUT = 0.7
_PATIENCE_EPOCHS_MIN, _PATIENCE_EPOCHS_MAX = 10, 160
"""Epochs before a held window is tried wider again; doubles with each refusal."""

_CEILING_GROWTH = 1.05

_QUIET_ANSWERS_MIN, _QUIET_ANSWERS_MAX = 10, 320
"""Answers without a refusal before a window that a storm of refusals narrowed is widened again;
twice as many after each time that it was too early."""

_STORM = 0.25
"""Refusals that narrow the window to this share of what it was are a storm: they tell of more than
a window that was somewhat too wide."""

_DECAY = 0.9
"""What was the width before a storm counts for less, each time that it was too early."""


class Window:
    """A window that climbs on goodput and backs off when a server's queue is full.

    Answers are counted in epochs. While climbing, an epoch with a better rate widens the window by
    half, one without returns to the best width and holds it. A refusal narrows the window to 0.7 of
    its width, at most once in two waiting times, and remembers the width that was too much as a
    ceiling. A held window is tried wider again after some epochs (ten, and twice as many after each
    refusal) under a ceiling that is raised by 5 %, and learnt anew when the rate falls below 0.8 of
    the best. Epochs in which the window was never full say nothing about it and change nothing.

    Refusals that go on (the server restarts, or others fill its queue) narrow it to 1. Once they
    cease it recovers to 0.7 of what it was before them, by half its width in every two round trips.

    Where ``start`` is ``limit_max`` it is pinned: it never moves but for refusals. A server that
    refuses what is over its queue would else refuse the same requests again and again.

    Args:
        start: requests at the beginning, at least 1.
        limit_max: requests that are never exceeded.

    Attributes:
        limit: requests that may be in flight now, at least 1.
    """

    def __init__(self, start: int, limit_max: int) -> None:
        self.limit = min(start, limit_max)
        self._limit_max = limit_max
        self._ceiling = float(limit_max)
        self._is_climbing = True
        self._best_limit = self.limit
        self._best_rate = 0.0
        self._held_epochs = 0
        self._patience_epochs = _PATIENCE_EPOCHS_MIN
        self._cut_again_s = -math.inf
        self._before = 0.0
        self._quiet_answers = 2 * self.limit  # nothing was refused yet
        self._quiet_answers_min = _QUIET_ANSWERS_MIN
        self._is_recovering = self._is_storm = False
        self._begin_epoch(math.nan)

    def answered(self, rows: int, in_flight: int, now_s: float) -> None:
        """Take note of an answer.

        Args:
            rows: rows that it settled.
            in_flight: requests in flight before it came.
            now_s: the time.
        """
        if math.isnan(self._began_s):
            self._begin_epoch(now_s)  # the first answer of all only starts the clock
            return
        self._quiet_answers += 1
        if self._is_storm:
            self._recover()
        self._rows += rows
        self._answers += 1
        self._was_full |= in_flight >= self.limit
        enough = max(_EPOCH_ANSWERS_MIN, _EPOCH_ANSWERS_PER_REQUEST * self.limit)
        elapsed_s = now_s - self._began_s
        if self._answers >= enough and elapsed_s >= EPOCH_S_MIN:
            if self._was_full:
                self._judge(self._rows / elapsed_s)
            self._begin_epoch(now_s)

    def refused(self, in_flight: int, wait_s: float, now_s: float) -> None:
        """Take note that the server refused a request because it has too many.

        Args:
            in_flight: requests in flight before the refusal came.
            wait_s: how long the request was under way.
            now_s: the time.
        """
        if now_s < self._cut_again_s:
            return
        self._cut_again_s = now_s + 2 * wait_s
        if self._is_recovering:
            self._is_recovering = False
            self._before *= _DECAY
            self._quiet_answers_min = min(2 * self._quiet_answers_min, _QUIET_ANSWERS_MAX)
            # Refused at a good part of what it was, it is not the storm but the server's limit.
            self._is_storm = self.limit < self._before * _STORM
        elif not self._is_storm and self._quiet_answers >= 2 * self.limit:
            self._before = float(self.limit)
        self._quiet_answers = 0
        self._ceiling = max(1.0, float(min(in_flight, self.limit)) - 1)
        self._patience_epochs = min(2 * self._patience_epochs, _PATIENCE_EPOCHS_MAX)
        self._hold(max(1, int(self.limit * _CUT)))
        self._is_storm |= self.limit <= max(1.0, self._before * _STORM)
        # The rate that was measured with refusals is no promise for the narrower window.
        self._best_rate = 0.0
        self._begin_epoch(now_s)

    @property
    def _recovered(self) -> int:
        """The width that a narrowed window recovers to."""
        return int(self._before * _CUT)

    def _recover(self) -> None:
        """Widen a window that a storm narrowed, if that is over."""
        needed = 2 * self.limit
        if not self._is_recovering:
            needed = max(needed, self._quiet_answers_min)
        if self._quiet_answers < needed:
            return
        if self.limit >= self._recovered:
            if self._is_recovering:  # and holds: only now is it known that the storm is over
                self._quiet_answers_min = _QUIET_ANSWERS_MIN
                self._patience_epochs = _PATIENCE_EPOCHS_MIN
            self._is_recovering = self._is_storm = False
            return
        self._quiet_answers = 0
        self._is_recovering = True
        limit = min(math.ceil(self.limit * _GROWTH), self._recovered)
        self._ceiling = max(self._ceiling, float(limit))
        self._hold(limit)
        self._best_rate = 0.0
        self._begin_epoch(math.nan)

    def _judge(self, rate: float) -> None:
        if self._is_climbing:
            if rate > self._best_rate * _GAIN_MIN:
                self._best_rate, self._best_limit = rate, self.limit
                self._widen()
            else:
                self._hold(self._best_limit)
            return
        self._held_epochs += 1
        if rate < self._best_rate * _LOSS_MAX:
            self._patience_epochs = _PATIENCE_EPOCHS_MIN
            self._climb_from(rate)
        elif self._held_epochs >= self._patience_epochs:
            self._ceiling = min(self._ceiling * _CEILING_GROWTH + 1, float(self._limit_max))
            self._climb_from(rate)
        else:
            self._best_rate = max(self._best_rate, rate)

    def _climb_from(self, rate: float) -> None:
        self._is_climbing = True
        self._best_rate, self._best_limit = rate, self.limit
        self._widen()

    def _widen(self) -> None:
        wider = min(math.ceil(self.limit * _GROWTH), int(self._ceiling))
        if wider <= self.limit:
            self._hold(self.limit)
        else:
            self.limit = wider

    def _hold(self, limit: int) -> None:
        self._is_climbing = False
        self._held_epochs = 0
        self._best_limit = self.limit = limit

    def _begin_epoch(self, now_s: float) -> None:
        self._began_s = now_s
        self._rows = 0
        self._answers = 0
        self._was_full = False
