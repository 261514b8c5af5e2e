"""What a failed attempt means, as a table: first match wins.

Texts are Triton's own (core, server, python_backend; the same since 2.40). A status code alone is
not enough: UNAVAILABLE says "queue full", "going away" and "your token is wrong" alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from tritonbulk.errors import (
    AnswerError,
    AuthError,
    ModelError,
    ServerGoneError,
    TritonbulkError,
)
from tritonbulk.events import Outcome


class Verdict(Enum):
    """What to do about a failed attempt."""

    RETRY = "retry"
    """Nothing is known against the rows: send them again, elsewhere or later."""
    BUSY = "busy"
    """The server has too many requests: send it again later, and have fewer in flight."""
    SUSPECT = "suspect"
    """Some row of the request may be at fault: cut it down until a single row stands alone."""
    STOP = "stop"
    """Nothing that is sent can succeed: stop the run."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed.

    Attributes:
        code: gRPC status code number (grpc.StatusCode), never 0.
        status: its name, such as ``UNAVAILABLE``.
        text: the server's or the channel's own words.
    """

    code: int
    status: str
    text: str


@dataclass(frozen=True, slots=True)
class _Rule:
    status: str
    text: str
    verdict: Verdict
    error: type[TritonbulkError] = TritonbulkError
    advice: str = ""


_RULES = (
    _Rule(
        "UNAVAILABLE",
        "This protocol is restricted",
        Verdict.STOP,
        AuthError,
        "the server wants a header that was not sent; ask its owner for it",
    ),
    _Rule(
        "UNAVAILABLE",
        "handshake failed",
        Verdict.STOP,
        AuthError,
        "check the TLS settings of client and server",
    ),
    _Rule("UNAVAILABLE", "Exceeds maximum queue size", Verdict.BUSY),
    _Rule("UNAVAILABLE", "Request timeout expired", Verdict.BUSY),
    _Rule("UNAVAILABLE", "", Verdict.RETRY),
    _Rule("UNAUTHENTICATED", "", Verdict.STOP, AuthError, "check the credentials"),
    _Rule("PERMISSION_DENIED", "", Verdict.STOP, AuthError, "check the credentials"),
    # A draining or reloading server says this for seconds at a time.
    _Rule("NOT_FOUND", "no available versions", Verdict.RETRY),
    _Rule(
        "NOT_FOUND",
        "",
        Verdict.STOP,
        ModelError,
        "the model or version is gone; load it again, or start a new run with the one there",
    ),
    _Rule(
        "UNIMPLEMENTED",
        "",
        Verdict.STOP,
        ModelError,
        "this kind of model (decoupled?) cannot be scored by plain requests",
    ),
    # The process that runs the model died; readiness stays True and nothing restarts it.
    _Rule(
        "INTERNAL",
        "is not healthy",
        Verdict.STOP,
        ServerGoneError,
        "the process that runs the model died; reload the model or restart the server, then run "
        "again",
    ),
    _Rule("DEADLINE_EXCEEDED", "", Verdict.RETRY),
    _Rule("CANCELLED", "", Verdict.RETRY),
    _Rule(
        "RESOURCE_EXHAUSTED",
        "larger than max",
        Verdict.STOP,
        ModelError,
        "the request is larger than the server allows; lower --batch-rows",
    ),
    _Rule("RESOURCE_EXHAUSTED", "", Verdict.BUSY),
    _Rule("INVALID_ARGUMENT", "", Verdict.SUSPECT),
    _Rule("INTERNAL", "", Verdict.SUSPECT),
    _Rule("UNKNOWN", "", Verdict.SUSPECT),
)

_UNAVAILABLE = 14
"""Number of the gRPC status with which servers refuse."""

ANSWER_STATUS = "WRONG_ANSWER"
"""Status that stands for an answer which came with OK but is not what the model promised."""


def judge(failure: Failure) -> tuple[Verdict, TritonbulkError | None]:
    """Return what to do about a failure, and the error to stop with if that is the verdict."""
    if failure.status == ANSWER_STATUS:
        return Verdict.STOP, AnswerError(
            f"{failure.text}; it was not written: mend the model, then run again"
        )
    for rule in _RULES:
        if rule.status == failure.status and rule.text in failure.text:
            if rule.verdict is not Verdict.STOP:
                return rule.verdict, None
            return Verdict.STOP, rule.error(f"{failure.text} ({failure.status}): {rule.advice}")
    return Verdict.SUSPECT, None


def outcome(failure: Failure) -> Outcome:
    """Return what a failure is counted as."""
    if failure.status == ANSWER_STATUS:
        return "wrong"
    return _OUTCOMES[judge(failure)[0]]


_OUTCOMES: Mapping[Verdict, Outcome] = {
    Verdict.RETRY: "away",
    Verdict.BUSY: "busy",
    Verdict.SUSPECT: "suspect",
    Verdict.STOP: "stop",
}


def refusal(text: str) -> Failure | None:
    """Return the failure that ``text`` alone stands for: a full queue; None for other texts.

    A stream reports failures by text, without a status. A full queue must be known at once, since
    to ask for its status would add to it.
    """
    for rule in _RULES:
        if rule.verdict is Verdict.BUSY and rule.text and rule.text in text:
            return Failure(_UNAVAILABLE, rule.status, text)
    return None
