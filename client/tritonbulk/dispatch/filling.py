"""Filling: whether suspects and controls are repeated to full batches, or sent alone instead.

A full batch is executed with nothing else, so that nobody else's row can be to blame for it. But a
server may fail at every full one, because its memory takes less than ``max_batch_size``. A control
that fails filled, passes unfilled with nothing else of ours in flight there, and both once more,
says so of its endpoint, which is *short* from then on: controls go there alone and unfilled, full
requests in halves, and suspects go to others, or there alone and unfilled where no other is up.
Before any row is scored nothing is filled: nobody can be convicted yet.
"""

from __future__ import annotations

from tritonbulk.dispatch.policy import TREATMENTS, Meaning
from tritonbulk.dispatch.requests import Request, Stage

DOUBTS_MAX = 2
"""So many controls at one endpoint that failed filled and then passed unfilled decide it."""

_OF_SIZE = (Meaning.LOST, Meaning.SICK, Meaning.OVERSIZE)
"""What too large a batch may end in, besides what blames rows."""


class Filling:
    """What is known of full batches.

    Args:
        rows: that fill one.

    Attributes:
        rows: see above.
        short: endpoints that were found to fail at full batches.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.short: set[int] = set()
        self._is_on = False
        self._doubts: dict[int, int] = {}
        self._unfilled: set[int] = set()

    def begin(self) -> None:
        """The first row was scored."""
        self._is_on = True

    def fills(self, endpoint: int) -> bool:
        """Return whether a suspect is filled at an endpoint."""
        return self._is_on and endpoint not in self.short

    def unfit(self, request: Request) -> set[int]:
        """Return the endpoints to which a request cannot go as it is."""
        is_full = request.stage is Stage.APART or request.batch.rows >= self.rows
        return self.short if is_full else set()

    def fills_control(self, endpoint: int) -> bool:
        """Return whether the next control at an endpoint is filled."""
        return self.fills(endpoint) and endpoint not in self._unfilled

    def control_failed(self, endpoint: int, kind: Meaning, *, is_filled: bool) -> None:
        """Take note of a control that failed: the next one is of the other size, if that may be it.

        Args:
            endpoint: where.
            kind: how.
            is_filled: whether it was.
        """
        is_of_size = kind in _OF_SIZE or TREATMENTS[kind].blames
        if is_filled and is_of_size and self.rows > 1:
            self._unfilled.add(endpoint)
        else:
            self._unfilled.discard(endpoint)

    def control_passed(self, endpoint: int, *, is_filled: bool) -> bool:
        """Take note of a control that passed; return whether it vouches for its endpoint.

        One that was sent unfilled because a filled one had failed does not yet: a filled one is to
        be sent next, unless it is found now that filled ones fail.
        """
        if is_filled or endpoint not in self._unfilled:
            self._doubts.pop(endpoint, None)
            return True
        self._unfilled.discard(endpoint)
        self._doubts[endpoint] = self._doubts.get(endpoint, 0) + 1
        if self._doubts[endpoint] < DOUBTS_MAX:
            return False
        self.short.add(endpoint)
        return True
