"""Bugs in the policy, each a changed attribute of the product, and the check that catches it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from tritonbulk.dispatch import (
    breaker,
    controls,
    deadlines,
    endpoints,
    filling,
    isolation,
    machine,
    policy,
    quota,
    silence,
    tally,
)
from tritonbulk.dispatch.policy import RULES, Meaning, Rule
from tritonbulk.dispatch.requests import Queue, Request
from tritonbulk.dispatch.window import Window

Change = tuple[object, str, object]


def _rules(change: Callable[[Rule], Rule]) -> Change:
    return (policy, "RULES", tuple(map(change, RULES)))


def _means(status: str, text: str, meaning: Meaning) -> Change:
    return _rules(
        lambda rule: (
            replace(rule, meaning=meaning, at_first=False)
            if (rule.status, rule.text) == (status, text)
            else rule
        )
    )


def _never_filled(self: Queue, request: Request, endpoint: int, now_s: float) -> int:
    request_id = _send(self, request, endpoint, now_s)
    self.rows += request.batch.rows - request.rows_sent
    request.rows_sent = request.batch.rows
    return request_id


def _plain_always(self: machine.Dispatch, request: Request, endpoint: int, now_s: float) -> object:
    return replace(_send_action(self, request, endpoint, now_s), is_filled=False)


def _convict_at_once(accusation: isolation.Accusation) -> isolation.Verdict:
    is_one = accusation.request.batch.rows == 1
    return isolation.Verdict.CONVICT if is_one else isolation.Verdict.CUT


def _no_window(
    self: endpoints.Endpoints, rows: int, now_s: float, but: Collection[int] = ()
) -> object:
    up = [i for i, each in enumerate(self._all) if each.is_up and i not in but]
    return up[int(now_s * 1000) % len(up)] if up else None


def _short_everywhere(self: filling.Filling, endpoint: int, *, is_filled: bool) -> bool:
    vouches = _control_passed(self, endpoint, is_filled=is_filled)
    self.short.update(range(3) if self.short else ())
    return vouches


def _forget_at_once(self: Window) -> None:
    _recover(self)
    if self._is_recovering and self.limit >= self._recovered:
        self._is_recovering = self._is_storm = False
        self._quiet_answers_min = 0


def _shared_window(self: endpoints.Endpoints, name: str) -> endpoints.Endpoint:
    window = Window(self._limits.window_start, self._limits.window_max)
    return endpoints.Endpoint(name, self.__dict__.setdefault("shared", window))


def _choose_any(
    self: endpoints.Endpoints, rows: int, now_s: float, but: Collection[int] = ()
) -> object:
    return next((i for i, each in enumerate(self._all) if each.breaker.state != "gone"), None)


def _ignore(*_: object, **__: object) -> None:
    """Do nothing, whatever is asked."""


def _lose(self: Queue, request: Request) -> None:
    first, _ = request.halves()
    self.put_back(first)


def _double(self: Queue, request: Request) -> None:
    for half in (*request.halves(), request.halves()[0]):
        self.put_back(half)


_send, _again = Queue.send, Queue.again
_recover = Window._recover
_control_passed = filling.Filling.control_passed
_send_action = machine.Dispatch._send

BUGS: Mapping[str, tuple[object, ...]] = {
    "INVALID_ARGUMENT is retried for ever": (
        "table_is_right",
        _means("INVALID_ARGUMENT", "", Meaning.AWAY),
    ),
    "a refused row ends the run": (
        "table_is_right",
        _means("INVALID_ARGUMENT", "", Meaning.STOP),
    ),
    "UNIMPLEMENTED always ends the run": (
        "table_is_right",
        _means("UNIMPLEMENTED", "", Meaning.STOP),
    ),
    "a wrong token is retried": (
        "permanent_faults_stop",
        _means("UNAVAILABLE", "protocol is restricted", Meaning.AWAY),
    ),
    "a drain ends the run": (
        "crashes_from_outside_convict_nobody",
        _means("UNAVAILABLE", "is not at ready state", Meaning.STOP),
    ),
    "a reload ends the run": (
        "table_is_right",
        _means("NOT_FOUND", "no available versions", Meaning.STOP),
    ),
    "a full queue is taken for a lost connection": (
        "storm_of_others_is_waited_out",
        _means("UNAVAILABLE", "exceeds maximum queue size", Meaning.LOST),
    ),
    "a refused connection makes suspects": (
        "table_is_right",
        _means("UNAVAILABLE", "failed to connect", Meaning.LOST),
    ),
    "a dead stub is taken for poison": (
        "stub_death_is_mended",
        _means("INTERNAL", "is not healthy", Meaning.SUSPECT),
    ),
    "a dead stub ends the run": (
        "stub_death_is_mended",
        _means("INTERNAL", "is not healthy", Meaning.STOP),
    ),
    "an exception is taken for a lost connection": (
        "table_is_right",
        (policy, "_UNCLEAR", replace(policy._UNCLEAR, meaning=Meaning.LOST)),
    ),
    "a message too large is refused to the row": (
        "a_message_too_large_is_halved",
        _means("RESOURCE_EXHAUSTED", "larger than max", Meaning.REJECTED),
    ),
    "a shape that never fits is bisected": (
        "contract_error_stops_the_first_time_only",
        _rules(lambda rule: replace(rule, at_first=False)),
    ),
    "convicted on the first INTERNAL": (
        "convictions_are_proven",
        (isolation, "judge", _convict_at_once),
    ),
    "one strike convicts": (
        "convictions_are_proven",
        (isolation, "STRIKES", dict.fromkeys(isolation.STRIKES, 1)),
    ),
    "suspects are not repeated to a full batch": (
        "suspects_are_sent_apart",
        (Queue, "send", _never_filled),
        (machine.Dispatch, "_send", _plain_always),
    ),
    "no control is asked for": (
        "suspects_are_sent_apart",
        (
            isolation.Isolation,
            "accuse",
            lambda self, each, **_: (
                self._queue.cut(each.request)
                if each.request.batch.rows > 1
                else self._queue.put_back(each.request)
            ),
        ),
    ),
    "a control that fails is believed to have passed": (
        "sick_server_convicts_nobody",
        (
            controls.Controls,
            "failed",
            lambda self, control, failure, now_s: self.passed(control, now_s),
        ),
    ),
    "readiness is believed": (
        "stub_death_is_mended",
        (
            controls.Controls,
            "_restore",
            lambda self, index, is_trial: self._endpoints.restore(index, is_trial=is_trial),
        ),
        (endpoints.Endpoints, "leave", _ignore),
        (endpoints.Endpoints, "failed", _ignore),
    ),
    "a killer is not sent alone": (
        "suspects_are_sent_apart",
        (machine, "LOSSES_PLAIN_MAX", math.inf),
    ),
    "the first crash convicts": (
        "suspects_are_sent_apart",
        (machine, "LOSSES_PLAIN_MAX", 1),
        (isolation, "judge", _convict_at_once),
    ),
    "a hang is never isolated": (
        "hang_is_convicted",
        (machine, "LATES_PLAIN_MAX", math.inf),
    ),
    "full batches are sent though they always fail": (
        "full_batches_that_fail_cost_no_row",
        (filling.Filling, "control_passed", lambda *_, **__: True),
        (filling.Filling, "control_failed", _ignore),
    ),
    "one passing control says that full batches fail": (
        "full_batches_that_fail_cost_no_row",
        (filling, "DOUBTS_MAX", 1),
    ),
    "full batches that fail at one endpoint fail at all": (
        "a_small_memory_narrows_nobody_else",
        (filling.Filling, "control_passed", _short_everywhere),
    ),
    "an outage never ends": (
        "outage_ends_after_its_time",
        (silence, "outage", _ignore),
    ),
    "the breaker rests for minutes": (
        "outage_is_ridden_out",
        (breaker, "REST_S_MAX", 300.0),
        (breaker, "REST_S_MIN", 60.0),
    ),
    "the breaker does not rest": (
        "outage_ends_after_its_time",
        (breaker, "REST_S_MAX", 0.0),
        (breaker, "REST_S_MIN", 0.0),
    ),
    "a full queue is not waited for": (
        "storm_of_others_is_waited_out",
        (machine, "BUSY_WAIT_S_MIN", 0.0),
        (machine, "BUSY_WAIT_S_MAX", 0.0),
        (breaker.Breaker, "refused", _ignore),
    ),
    "a storm is held to be over before it is": (
        "full_queue_is_no_storm",
        (Window, "_recover", _forget_at_once),
    ),
    "endpoints share one window": (
        "a_short_queue_narrows_nobody_else",
        (endpoints.Endpoints, "_new", _shared_window),
    ),
    "all endpoints get the same": (
        "balance_is_good",
        (endpoints.Endpoints, "choose", _no_window),
    ),
    "endpoints that are out get requests": (
        "endpoints_come_and_go",
        (endpoints.Endpoints, "choose", _choose_any),
    ),
    "retries have no quota": (
        "retries_are_never_the_storm",
        (quota.RetryQuota, "take", lambda *_: 0.0),
    ),
    "deadlines do not adapt": (
        "deadlines_adapt",
        (deadlines.Deadlines, "answered", _ignore),
    ),
    "deadlines are too short": (
        "deadlines_adapt",
        (deadlines, "DEADLINE_S_MIN", 0.0),
        (deadlines, "FACTOR", 0.5),
    ),
    "a cut loses a half": (
        "suspects_are_sent_apart",
        (Queue, "cut", _lose),
    ),
    "a cut sends a half twice": (
        "suspects_are_sent_apart",
        (Queue, "cut", _double),
    ),
    "no failure limit": (
        "limits_stop_a_quarantine",
        (tally.Tally, "over_limit", _ignore),
    ),
    "errors tell how a connection broke": (
        "sentences_are_the_same_in_every_run",
        (isolation, "sentence", lambda failure: failure),
    ),
    "a new endpoint is used unasked": (
        "endpoints_come_and_go",
        (
            endpoints.Endpoints,
            "add",
            lambda self, name: (self._all.append(self._new(name)), len(self._all) - 1)[1],
        ),
    ),
    "who is gone gets requests": (
        "endpoints_come_and_go",
        (endpoints.Endpoints, "retire", _ignore),
    ),
    "lost requests are dropped": (
        "outage_is_ridden_out",
        (
            Queue,
            "again",
            lambda self, request, at_s, now_s: (
                None if request.losses else _again(self, request, at_s, now_s)
            ),
        ),
    ),
}
