"""What a failed attempt means, and what follows from it: two tables.

The first gives each status and text its meaning, the first match counting. Texts are Triton's own
(core, server, python_backend; the same since 2.40), gRPC's, or those of proxies that are common
before it. A status code alone is not enough: UNAVAILABLE says "queue full", "going away", "your
token is wrong" and "this row is bad" alike. The second table says what is done for each meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from tritonbulk.errors import (
    AuthError,
    ModelError,
    TritonbulkError,
)
from tritonbulk.events import Outcome


class Meaning(Enum):
    """What a failed attempt says."""

    BUSY = "busy"
    """Not executed: the server has too many requests."""
    AWAY = "away"
    """Not executed: the server is starting, ending, reloading, or cannot be reached."""
    LOST = "lost"
    """The connection broke under way: the server may have died, of this request or of another."""
    LATE = "late"
    """There was no answer in time; the server may still be working on it."""
    SICK = "sick"
    """The process that runs the model died, while the server says that all is well."""
    SUSPECT = "suspect"
    """Some row in what the server executed together, of this request or another, or the server."""
    REJECTED = "rejected"
    """The model or the server refused this request alone."""
    WRONG = "wrong"
    """It came with OK, but is not what the model promised."""
    OVERSIZE = "oversize"
    """The message is larger than the server, or a proxy before it, takes."""
    STOP = "stop"
    """Nothing that is sent can succeed."""


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

    def __str__(self) -> str:
        """Return status and text, as people are shown them."""
        return f"{self.status}: {self.text}"


ANSWER_STATUS = "WRONG_ANSWER"
"""Status that stands for an answer which came with OK but is not what the model promised."""

NAN = Failure(2, ANSWER_STATUS, "the model's prediction is not a number (NaN)")
"""How a row stands in the output whose prediction is NaN, where that is asked for."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table of texts.

    Attributes:
        status: name of a gRPC status.
        text: that the failure's text contains, in any case.
        meaning: of the failure.
        advice: what to do if it ends the run.
        error: what ends the run.
        at_first: it ends the run, whatever its meaning, if no request has succeeded yet.
    """

    status: str
    text: str
    meaning: Meaning
    advice: str = ""
    error: type[TritonbulkError] = ModelError
    at_first: bool = False


_HEADER = "the server wants a header that was not sent, or another value of it; ask its owner"
_TLS = "check the TLS settings of client and server"
_CREDENTIALS = "check the credentials"
_UNARY = "this model (a decoupled one?) cannot be scored by plain requests"
_SHAPE = "model and columns do not fit together; check --input-map and the model's configuration"
_M = Meaning

RULES: tuple[Rule, ...] = (
    Rule("UNAVAILABLE", "protocol is restricted", _M.STOP, _HEADER, AuthError),
    # gRPC says so of a server that dies while it is connected to as well, hence at first only.
    Rule("UNAVAILABLE", "handshake failed", _M.AWAY, _TLS, AuthError, at_first=True),
    Rule("UNAVAILABLE", "certificate", _M.AWAY, _TLS, AuthError, at_first=True),
    Rule("UNAVAILABLE", "exceeds maximum queue size", _M.BUSY),
    Rule("UNAVAILABLE", "request timeout expired", _M.BUSY),
    Rule("UNAVAILABLE", "overflow", _M.BUSY),  # Envoy's circuit breaker
    Rule("UNAVAILABLE", "is not at ready state", _M.AWAY),
    Rule("UNAVAILABLE", "no available versions", _M.AWAY),
    Rule("UNAVAILABLE", "server is stopping", _M.AWAY),
    Rule("UNAVAILABLE", "server exiting", _M.AWAY),
    Rule("UNAVAILABLE", "server not ready", _M.AWAY),
    Rule("UNAVAILABLE", "shutting down", _M.AWAY),
    Rule("UNAVAILABLE", "failed to connect", _M.AWAY),
    Rule("UNAVAILABLE", "connection refused", _M.AWAY),
    Rule("UNAVAILABLE", "dns resolution failed", _M.AWAY),
    Rule("UNAVAILABLE", "name resolution", _M.AWAY),
    Rule("UNAVAILABLE", "upstream connect error", _M.AWAY),  # Envoy
    Rule("UNAVAILABLE", "no healthy upstream", _M.AWAY),  # Envoy
    # "Socket closed", "Connection reset", "Stream removed", "ping timeout", and whatever a model
    # says that answers with this code: sent alone, such a row is found.
    Rule("UNAVAILABLE", "", _M.LOST),
    Rule("UNAUTHENTICATED", "", _M.STOP, _CREDENTIALS, AuthError),
    Rule("PERMISSION_DENIED", "", _M.STOP, _CREDENTIALS, AuthError),
    # A draining or reloading server says this for seconds at a time.
    Rule("NOT_FOUND", "no available versions", _M.AWAY),
    # Final if the server is ready, which is asked before it is used again.
    Rule("NOT_FOUND", "unknown model", _M.AWAY),
    Rule("UNIMPLEMENTED", "decoupled", _M.STOP, _UNARY),
    Rule("UNIMPLEMENTED", "unknown service", _M.STOP, "no inference server answers there"),
    Rule("UNIMPLEMENTED", "method not found", _M.STOP, "no inference server answers there"),
    # The process that runs the model died; readiness stays True and nothing restarts it.
    Rule("INTERNAL", "is not healthy", _M.SICK),
    Rule("INTERNAL", "received rst_stream", _M.LOST),
    Rule("DEADLINE_EXCEEDED", "", _M.LATE),
    Rule("CANCELLED", "", _M.LOST),
    Rule("RESOURCE_EXHAUSTED", "larger than max", _M.OVERSIZE),
    Rule("RESOURCE_EXHAUSTED", "", _M.BUSY),
    Rule("INVALID_ARGUMENT", "unexpected shape for input", _M.REJECTED, _SHAPE, at_first=True),
    Rule("INVALID_ARGUMENT", "unexpected inference input", _M.REJECTED, _SHAPE, at_first=True),
    Rule("INVALID_ARGUMENT", "data-type is", _M.REJECTED, _SHAPE, at_first=True),
    Rule("INVALID_ARGUMENT", "batch-size must be", _M.REJECTED, _SHAPE, at_first=True),
    Rule("INVALID_ARGUMENT", "inputs but got", _M.REJECTED, _SHAPE, at_first=True),
    Rule("INVALID_ARGUMENT", "", _M.REJECTED),
    Rule("NOT_FOUND", "", _M.REJECTED),
    Rule("ALREADY_EXISTS", "", _M.REJECTED),
    Rule("UNIMPLEMENTED", "", _M.REJECTED),
    Rule("FAILED_PRECONDITION", "", _M.REJECTED),
    Rule("OUT_OF_RANGE", "", _M.REJECTED),
    Rule(ANSWER_STATUS, "", _M.WRONG),
)

_UNCLEAR = Rule("", "", Meaning.SUSPECT)
"""INTERNAL, UNKNOWN, ABORTED, DATA_LOSS with any other text."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """What follows from a failure, besides that its rows are sent again.

    Attributes:
        cost: tokens of the retry quota.
        leaves: the endpoint gets no more requests until it was asked whether it can be used again.
        counts: it counts as a failure of the endpoint.
        blames: rows may stand accused by it; else they are sent again as they are.
    """

    cost: int = 5
    leaves: bool = False
    counts: bool = False
    blames: bool = False


TREATMENTS: Mapping[Meaning, Treatment] = {
    Meaning.BUSY: Treatment(),
    Meaning.AWAY: Treatment(leaves=True),
    Meaning.LOST: Treatment(leaves=True),
    Meaning.LATE: Treatment(cost=10, counts=True),
    Meaning.SICK: Treatment(leaves=True),
    Meaning.SUSPECT: Treatment(counts=True, blames=True),
    Meaning.REJECTED: Treatment(cost=0, blames=True),
    Meaning.WRONG: Treatment(counts=True, blames=True),
    Meaning.OVERSIZE: Treatment(cost=0),
}

_CONNECTION_TEXTS = ("socket", "connection", "stream removed", "ping timeout", "endpoint", "tcp")

_UNAVAILABLE = 14
"""Number of the gRPC status with which servers refuse."""


def find_rule(failure: Failure) -> Rule:
    """Return the row of the table that a failure falls under."""
    text = failure.text.lower()
    for rule in RULES:
        if rule.status == failure.status and rule.text in text:
            return rule
    return _UNCLEAR


def meaning(failure: Failure) -> Meaning:
    """Return what a failure means."""
    return find_rule(failure).meaning


def is_connection(failure: Failure) -> bool:
    """Return whether a lost request's text is the channel's, not the model's own."""
    return any(text in failure.text.lower() for text in _CONNECTION_TEXTS)


def quotes_data(failure: Failure) -> bool:
    """Return whether a failure's text may be the model's own, which may quote values of rows."""
    kind = meaning(failure)
    is_own = kind is Meaning.LOST and not is_connection(failure)
    return is_own or kind in (Meaning.SUSPECT, Meaning.REJECTED, Meaning.WRONG)


def discreet(failure: Failure) -> str:
    """Return status and text for people, without what may quote values of rows."""
    return failure.status if quotes_data(failure) else str(failure)


def outcome(failure: Failure) -> Outcome:
    """Return what a failure is counted as."""
    name: Outcome = meaning(failure).value
    return name


def fatal(failure: Failure, address: str, *, is_first: bool) -> TritonbulkError | None:
    """Return the error that ends the run; None if the failure does not.

    Args:
        failure: how an attempt, or a question, failed.
        address: of the server.
        is_first: whether no request has succeeded yet.
    """
    rule = find_rule(failure)
    if rule.meaning is not Meaning.STOP and not (rule.at_first and is_first):
        return None
    return rule.error(f"{address}: {failure.text} ({failure.status}): {rule.advice}")


def refusal(text: str) -> Failure | None:
    """Return the failure that ``text`` alone stands for: a full queue; None for other texts.

    A stream reports failures by text, without a status. A full queue must be known at once, since
    to ask for its status would add to it.
    """
    failure = Failure(_UNAVAILABLE, "UNAVAILABLE", text)
    return failure if find_rule(failure).meaning is Meaning.BUSY else None
