"""Tally: what a run has done so far, and whether too many rows have failed."""

from __future__ import annotations

from tritonbulk.dispatch.endings import beyond_limit
from tritonbulk.dispatch.limits import Limits
from tritonbulk.dispatch.policy import Failure
from tritonbulk.errors import FailureLimitError


class Tally:
    """Counts of one run.

    Args:
        limits: how many rows may fail, and what earlier runs of the job have done.

    Attributes:
        rows_ok: rows scored.
        rows_failed: rows that are written with their error.
        attempts: requests sent, repeated ones included, controls left out.
        in_flight_max: most requests in flight at one moment.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.rows_ok = 0
        self.rows_failed = 0
        self.attempts = 0
        self.in_flight_max = 0

    def in_flight(self, requests: int) -> None:
        """Take note of how many requests are in flight."""
        self.in_flight_max = max(self.in_flight_max, requests)

    def take_back(self, rows_ok: int, rows_failed: int) -> None:
        """Forget rows that were settled; their batches are added once more."""
        self.rows_ok -= rows_ok
        self.rows_failed -= rows_failed

    def refuse(self, rows: int, failure: Failure) -> FailureLimitError | None:
        """Count scored rows as failed after all; return the end of the run if that is too many."""
        self.take_back(rows, -rows)
        return self.over_limit(failure)

    def over_limit(self, failure: Failure) -> FailureLimitError | None:
        """Return the end of the run if more rows failed than may.

        Args:
            failure: of the last one.
        """
        limits = self._limits
        failed = self.rows_failed + limits.rows_failed_before
        settled = self.rows_ok + self.rows_failed + limits.rows_before
        allowed = max(limits.failed_rows_max, int(limits.failed_fraction_max * settled))
        return beyond_limit(failed, allowed, failure) if failed > allowed else None
