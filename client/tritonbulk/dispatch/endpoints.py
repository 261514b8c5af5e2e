"""The endpoints of a run: which are used, and which of them a request goes to.

A request goes where it is done soonest: to the endpoint with the fewest rows to its measured speed,
so that a slow one gets less, and none gets nothing; but to none beyond its window.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from tritonbulk.dispatch.breaker import Breaker
from tritonbulk.dispatch.limits import Limits
from tritonbulk.dispatch.policy import Failure, Meaning, meaning, quotes_data
from tritonbulk.dispatch.requests import Request, Stage
from tritonbulk.dispatch.window import Window
from tritonbulk.events import EndpointChanged

STUCK_CONTROLS = 2
"""Controls without an answer in time, and no other answer meanwhile, after which an endpoint is
held to be stuck in a request that never ends."""

SPEED_SHARE = 0.2
"""Weight of the latest request in an endpoint's measured speed."""


class Endpoint:
    """What is known of one endpoint.

    Args:
        name: its address, for people.
        window: how many requests may be in flight there.

    Attributes:
        name: see above.
        window: see above.
        breaker: whether it is used.
        rows: rows in flight there.
        requests: requests in flight there, controls included.
        vouched_s: when a control last passed there; negative infinity if none has since it was last
            taken out.
        is_probed: whether a control is under way there.
        is_probed_alone: whether controls go there only while nothing else is in flight.
        late_controls: controls without an answer in time since anything was answered there.
        is_stuck: it was found to be stuck in a request, and nothing has been answered there since.
        quotes_data: whether the breaker's reason may quote values of rows.
        is_trial: nothing is known against it, and nothing for it: it gets one request at a time.
    """

    def __init__(self, name: str, window: Window) -> None:
        self.name = name
        self.window = window
        self.breaker = Breaker()
        self.rows = 0
        self.requests = 0
        self.vouched_s = -math.inf
        self.is_probed = False
        self.is_probed_alone = False
        self.late_controls = 0
        self.is_stuck = False
        self.quotes_data = False
        self.is_trial = False
        self._rows_sent = 0
        self._speed = 0.0

    def sent(self, request: Request) -> None:
        """Take note of a request."""
        self.rows += request.rows_sent
        self.requests += 1
        self._rows_sent += request.rows_sent
        request.rows_ahead = self.rows

    def landed(self, request: Request) -> None:
        """Take note that it is no longer in flight."""
        self.rows -= request.rows_sent
        self.requests -= 1

    def answered(self, request: Request, now_s: float) -> None:
        """Take note of an answer that was kept, and of how fast it came."""
        if request.stage is Stage.PLAIN:
            self.window.answered(request.batch.rows, self.requests + 1, now_s)
        self.breaker.answered()
        self.late_controls = 0
        self.is_stuck = False
        self.is_trial = False
        seconds = now_s - request.sent_s
        if seconds > 0:
            # By Little's law: the rows that were there when it was sent were done meanwhile.
            speed = request.rows_ahead / seconds
            self._speed += SPEED_SHARE * (speed - self._speed) if self._speed else speed

    def refused(self, request: Request, now_s: float) -> None:
        """Take note that it refused a request because its queue was full."""
        self.crowded(request, now_s)
        self.breaker.refused(now_s)

    def crowded(self, request: Request, now_s: float) -> None:
        """Take note that a request was one too many there."""
        self.window.refused(self.requests + 1, now_s - request.sent_s, now_s)

    def wait(self, rows: int, speed_unknown: float) -> tuple[float, int]:
        """Return how long so many more rows would take there, and what breaks ties."""
        return (self.rows + rows) / (self._speed or speed_unknown), self._rows_sent

    @property
    def has_room(self) -> bool:
        """Whether one more request may be in flight there; a control does not count."""
        requests = self.requests - self.is_probed
        return requests < (1 if self.is_trial else self.window.limit)

    @property
    def speed(self) -> float:
        """Rows a second, 0 until measured."""
        return self._speed

    @property
    def may_be_probed(self) -> bool:
        """Whether a control could be sent there now."""
        return not (self.is_probed or (self.is_probed_alone and self.requests))

    @property
    def is_up(self) -> bool:
        """Whether it gets requests, but for pauses."""
        return self.breaker.state == "up"


class Endpoints:
    """The endpoints of a run, by index; none is ever renumbered.

    Args:
        names: their addresses.
        limits: of their windows.
    """

    def __init__(self, names: Sequence[str], limits: Limits) -> None:
        self._limits = limits
        self._all = [self._new(name) for name in names]
        self._changes: list[EndpointChanged] = []
        self.out: set[int] = set()
        """Indexes of those that get no requests, but may again."""
        for index in range(len(self._all)):
            self._tell(index)

    def __getitem__(self, index: int) -> Endpoint:
        """Return one of them."""
        return self._all[index]

    @property
    def window(self) -> int:
        """Requests that may be in flight now at all that are up."""
        return sum(each.window.limit for each in self._all if each.is_up)

    def add(self, name: str) -> int:
        """Take on one more and return its index; it is asked first whether it can be used."""
        index = len(self._all)
        self._all.append(self._new(name))
        self.out.add(index)
        breaker = self._all[index].breaker
        breaker.state, breaker.reason = "resting", "it is new"
        self._tell(index)
        return index

    def choose(self, rows: int, now_s: float, but: Collection[int] = ()) -> int | None:
        """Return the endpoint to send so many rows to; None if none can take them now.

        Args:
            rows: of the request.
            now_s: the time.
            but: those that must not be chosen.
        """
        best, best_wait = None, (math.inf, 0)
        fastest = max((each.speed for each in self._all), default=0.0) or 1.0
        for index, each in enumerate(self._all):
            is_free = each.is_up and each.has_room and each.breaker.next_s <= now_s
            if is_free and index not in but:
                wait = each.wait(rows, fastest)
                if wait < best_wait:
                    best, best_wait = index, wait
        return best

    def up(self, but: Collection[int] = ()) -> list[int]:
        """Return those that are up, but some."""
        return [index for index, each in enumerate(self._all) if each.is_up and index not in but]

    def idlest(self, but: Collection[int]) -> int | None:
        """Return the one with the fewest requests of those that are up; None if none is.

        Args:
            but: those that are taken only if no other is up.
        """
        up = self.up(but) or self.up()
        return min(up, key=lambda index: self._all[index].requests, default=None)

    def due(self, now_s: float) -> list[int]:
        """Return those that are out and have rested long enough to be asked."""
        return [
            index
            for index in sorted(self.out)
            if self._all[index].breaker.next_s <= now_s and self._all[index].may_be_probed
        ]

    def kept_free(
        self, reserved: int | None, wants: Collection[int], short: Collection[int]
    ) -> set[int]:
        """Return those that get nothing for now.

        Args:
            reserved: one that is kept free for a suspect.
            wants: those at which a control is wanted.
            short: those at which nothing is to be executed together with one.
        """
        kept = {index for index in short if index in wants or self._all[index].is_probed}
        return kept if reserved is None else kept | {reserved}

    @property
    def probe_s(self) -> float:
        """When the next one that is out may be asked; infinite if none is to be."""
        resting = (self._all[index] for index in self.out)
        return min((e.breaker.next_s for e in resting if e.may_be_probed), default=math.inf)

    def resume_s(self, now_s: float) -> float:
        """Return when the first pause of one that is up ends; infinite if none pauses."""
        ends = (each.breaker.next_s for each in self._all if each.is_up)
        return min((at_s for at_s in ends if at_s > now_s), default=math.inf)

    @property
    def are_gone(self) -> bool:
        """Whether none is left that could be used."""
        return all(each.breaker.state == "gone" for each in self._all)

    def leave(self, index: int, failure: Failure, now_s: float) -> None:
        """Take one out at once."""
        is_sick = meaning(failure) is Meaning.SICK
        self._all[index].breaker.leave(str(failure), now_s, is_sick=is_sick)
        self._taken_out(index, failure)

    def failed(self, index: int, failure: Failure, now_s: float) -> None:
        """Take note of a failure that counts; it is taken out if there are too many."""
        self._all[index].breaker.failed(str(failure), now_s)
        self._taken_out(index, failure)

    def probe(self, index: int) -> None:
        """Take note that a control goes to one that is out."""
        self._all[index].breaker.probe()
        self._tell(index)

    def control_failed(self, index: int, failure: Failure, now_s: float) -> None:
        """Take note that a control failed: the endpoint cannot be used, or not yet."""
        each, kind = self._all[index], meaning(failure)
        if index in self.out:
            self._probe_failed(index, failure, now_s)
        else:
            self.leave(index, failure, now_s)
        each.late_controls = each.late_controls + 1 if kind is Meaning.LATE else 0
        if kind is Meaning.SICK or each.late_controls >= STUCK_CONTROLS:
            each.is_stuck = kind is Meaning.LATE
            each.breaker.is_sick = True
            each.late_controls = 0

    def _probe_failed(self, index: int, failure: Failure, now_s: float) -> None:
        self._all[index].breaker.probe_failed(str(failure), now_s)
        self._all[index].quotes_data = quotes_data(failure)
        self._tell(index)

    def restore(self, index: int, *, is_trial: bool) -> None:
        """Use one again; as a trial if no control could be sent there."""
        each = self._all[index]
        each.is_trial = is_trial
        each.breaker = Breaker(each.breaker.rests + 1 if is_trial else 0)
        each.quotes_data = False
        self.out.discard(index)
        self._tell(index)

    def retire(self, index: int, reason: str) -> None:
        """Send nothing more to one; what is in flight there may still be answered."""
        self._all[index].breaker.retire(reason)
        self._all[index].quotes_data = False
        self.out.discard(index)
        self._tell(index)

    def take_changes(self) -> list[EndpointChanged]:
        """Return what has changed since the last call."""
        changes, self._changes = self._changes, []
        return changes

    def _new(self, name: str) -> Endpoint:
        return Endpoint(name, Window(self._limits.window_start, self._limits.window_max))

    def _taken_out(self, index: int, failure: Failure) -> None:
        if self._all[index].breaker.state == "resting" and index not in self.out:
            self.out.add(index)
            self._all[index].vouched_s = -math.inf
            self._all[index].quotes_data = quotes_data(failure)
            self._tell(index)

    def _tell(self, index: int) -> None:
        each = self._all[index]
        state, reason = each.breaker.state, each.breaker.reason
        self._changes.append(EndpointChanged(each.name, state, reason, each.quotes_data))
