"""Isolation: how it is found out which row is to blame, and that it is.

An exception in a model fails every request that was executed together with the bad one, of this
client or another, and a sick server fails all. So a failure accuses and convicts nobody:

- What failed is sent again apart: its rows repeated to a full batch, so that nothing else is
  executed with them. What takes the server down, or never ends, is sent alone as well.
- An accusation is judged once a *control*, a row that was scored before, has passed at the same
  endpoint after the failure. If the control fails, it was the server.
- What fails then is halved until a row stands alone. That row is convicted when it has failed so
  some times, a control having passed before and after each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from tritonbulk.dispatch.policy import Failure, Meaning, is_connection, meaning
from tritonbulk.dispatch.requests import Queue, Request, Stage
from tritonbulk.segments import Batch

STRIKES: Mapping[Meaning, int] = {
    Meaning.SUSPECT: 3,
    Meaning.REJECTED: 3,
    Meaning.WRONG: 3,
    Meaning.LATE: 3,
    Meaning.LOST: 2,
    Meaning.SICK: 2,
}
"""Failures of a row, each between two controls that passed, that convict it: three, but two deaths
of a server."""

STRIKES_UNFILLED = 3
"""A failure of a row that was not filled counts for so much less: its batch may have had another
client's row in it."""

LOSSES_PLAIN_MAX = 2
LATES_PLAIN_MAX = 3
"""A request that was in flight at two deaths of a server, or late three times, is sent alone."""

VOUCHED_S = 10.0
"""A control that passed at an endpoint speaks for it for so long."""

VOID_AFTER_S = 30.0
"""What may have taken an endpoint down waits so long for it to come back, and twice as long each
time that it did not."""

UNJUDGED_ROWS_MAX = 64
"""Rows that may stand accused while no row at all has been scored, before the run is stopped."""

DOUBTS_MAX = 3
"""Failures of a single row after which it waits until some other row is scored."""


class Verdict(Enum):
    """What becomes of an accused request."""

    AGAIN = "again"
    CUT = "cut"
    CONVICT = "convict"


@dataclass(frozen=True, slots=True)
class Accusation:
    """A failure that a request may be to blame for."""

    request: Request
    failure: Failure
    failed_s: float


class Isolation:
    """The accusations of a run, by endpoint, and those of the time before any row was scored.

    Args:
        queue: where what is not judged, or is cut, goes back to.

    Attributes:
        unjudged: rows that failed by themselves before any row was scored.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._at: dict[int, list[Accusation]] = {}
        self.unjudged: list[Accusation] = []

    @property
    def is_empty(self) -> bool:
        """Whether nobody stands accused."""
        return not self._at and not self.unjudged

    @property
    def stuck(self) -> bool:
        """Whether all that stand accused wait for some other row to be scored."""
        return bool(self.unjudged) and not self._at

    @property
    def wants(self) -> list[int]:
        """The endpoints at which a control is wanted."""
        return list(self._at)

    def accuse(self, accusation: Accusation, *, has_control: bool, is_gone: bool) -> None:
        """Let an accusation wait for a control; without one, go on as far as that is safe.

        Args:
            accusation: who, of what.
            has_control: whether any row was scored yet.
            is_gone: whether the endpoint is never used again, and so cannot judge.
        """
        request = accusation.request
        if has_control and not is_gone:
            self._at.setdefault(request.endpoint, []).append(accusation)
        elif has_control:
            self._queue.put_back(request)
        elif request.batch.rows > 1:
            self._queue.cut(request)
        elif request.doubts < DOUBTS_MAX:
            request.doubts += 1
            self._queue.put_back(request)
        else:
            self.unjudged.append(accusation)

    def hear(self) -> None:
        """The first row was scored: whoever waited for that is tried again."""
        self._put_back(self.unjudged)
        self.unjudged = []

    def passed(self, endpoint: int, sent_s: float) -> list[tuple[Batch, Failure]]:
        """Judge what failed at an endpoint before a control was sent there that has passed.

        Returns:
            The rows that are convicted, each with its failure.
        """
        waiting = self._at.pop(endpoint, [])
        if left := [each for each in waiting if each.failed_s > sent_s]:
            self._at[endpoint] = left
        convicted = []
        for each in reversed(waiting):
            if each.failed_s > sent_s:
                continue
            match judge(each):
                case Verdict.CUT:
                    self._queue.cut(each.request)
                case Verdict.AGAIN:
                    self._queue.put_back(each.request)
                case Verdict.CONVICT:
                    convicted.append((each.request.batch, sentence(each.failure)))
        return convicted

    def void(self, endpoint: int, now_s: float, *, is_sick: bool) -> None:
        """Try again what an endpoint can no longer judge, where a control has failed.

        Args:
            endpoint: where.
            now_s: the time.
            is_sick: whether the control shows that the server itself fails; else it could not be
                asked, and what may have taken it down waits until it is back, within reason.
        """
        waiting = self._at.pop(endpoint, [])
        kept: list[Accusation] = []
        void: list[Accusation] = []
        for each in waiting:
            patience_s = VOID_AFTER_S * 2.0 ** min(each.request.doubts, 20)
            is_alone = each.request.stage is Stage.ALONE
            is_kept = is_alone and not is_sick and now_s - each.failed_s < patience_s
            (kept if is_kept else void).append(each)
        if kept:
            self._at[endpoint] = kept
        for each in void:
            each.request.doubts += 1
        self._put_back(void)

    def retire(self, endpoint: int) -> None:
        """Try again what an endpoint can no longer judge."""
        self._put_back(self._at.pop(endpoint, []))

    def _put_back(self, accusations: list[Accusation]) -> None:
        for each in reversed(accusations):
            self._queue.put_back(each.request)


def judge(accusation: Accusation) -> Verdict:
    """Judge an accusation after a control has passed; counts a single row's strikes."""
    request = accusation.request
    if request.batch.rows > 1:
        return Verdict.CUT
    if not request.is_vouched:
        request.doubts += 1
        return Verdict.AGAIN
    request.strikes += 1
    needed = STRIKES[meaning(accusation.failure)] * (1 if request.is_filled else STRIKES_UNFILLED)
    return Verdict.CONVICT if request.strikes >= needed else Verdict.AGAIN


def sentence(failure: Failure) -> Failure:
    """Return a row's failure as it stands in the output: the same in every run.

    What a dying server leaves of a connection differs from run to run, so it is not repeated.
    """
    match meaning(failure):
        case Meaning.LOST if is_connection(failure):
            text = "the server died each time this row was sent alone"
        case Meaning.SICK:
            text = "the process that runs the model died each time this row was sent alone"
        case Meaning.LATE:
            text = "there was no answer in time each time this row was sent alone"
        case _:
            return failure
    return replace(failure, text=text)
