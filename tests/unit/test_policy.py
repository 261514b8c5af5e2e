"""What servers say is understood, row by row; the texts of Triton's are checked live as well."""

import pytest

from tritonbulk.dispatch import Failure, Meaning, fatal, meaning, refusal
from tritonbulk.dispatch.policy import ANSWER_STATUS, RULES, TREATMENTS, find_rule, outcome
from tritonbulk.errors import AuthError, ModelError

ECHO = "[request id: <id_unknown>] inference"
STUB = "Stub process 'm_0_0' is not healthy."
RAISED = "Failed to process the request(s) for model 'm_0_0', message: ValueError: no"
REFUSED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Failed"
TLS = f"{REFUSED}: Ssl handshake failed (TSI_PROTOCOL_FAILURE): certificate verify failed"
WORDS = [
    ("UNAVAILABLE", "[request id: 1] Exceeds maximum queue size", Meaning.BUSY),
    ("UNAVAILABLE", "Request timeout expired", Meaning.BUSY),
    ("UNAVAILABLE", "upstream connect error or disconnect: overflow", Meaning.BUSY),
    ("UNAVAILABLE", "Request for unknown model: 'm' version 1 is not at ready state", Meaning.AWAY),
    ("UNAVAILABLE", "Request for unknown model: 'm' has no available versions", Meaning.AWAY),
    ("UNAVAILABLE", "Server is stopping, scheduler for model has stopped", Meaning.AWAY),
    ("UNAVAILABLE", "Server exiting", Meaning.AWAY),
    ("UNAVAILABLE", "Server not ready", Meaning.AWAY),
    ("UNAVAILABLE", "GRPC server is shutting down and has stopped accepting", Meaning.AWAY),
    ("UNAVAILABLE", REFUSED, Meaning.AWAY),
    ("UNAVAILABLE", "Connection refused", Meaning.AWAY),
    ("UNAVAILABLE", "DNS resolution failed for pods:8001", Meaning.AWAY),
    ("UNAVAILABLE", "Name resolution failure", Meaning.AWAY),
    ("UNAVAILABLE", "upstream connect error, reset reason: connection failure", Meaning.AWAY),
    ("UNAVAILABLE", "no healthy upstream", Meaning.AWAY),
    ("UNAVAILABLE", TLS, Meaning.AWAY),
    ("UNAVAILABLE", "certificate has expired", Meaning.AWAY),
    ("UNAVAILABLE", "Stream removed (Socket closed)", Meaning.LOST),
    ("UNAVAILABLE", "recvmsg:Connection reset by peer", Meaning.LOST),
    ("UNAVAILABLE", "ping timeout", Meaning.LOST),
    ("UNAVAILABLE", "this customer is on holiday", Meaning.LOST),
    ("UNAVAILABLE", "This protocol is restricted, expecting header 'k'", Meaning.STOP),
    ("UNAUTHENTICATED", "no token", Meaning.STOP),
    ("PERMISSION_DENIED", "wrong token", Meaning.STOP),
    ("NOT_FOUND", "Request for unknown model: 'm' has no available versions", Meaning.AWAY),
    ("NOT_FOUND", "Request for unknown model: 'm' is not found", Meaning.AWAY),
    ("NOT_FOUND", "no such customer", Meaning.REJECTED),
    ("UNIMPLEMENTED", "doesn't support models with decoupled transaction policy", Meaning.STOP),
    ("UNIMPLEMENTED", "unknown service inference.GRPCInferenceService", Meaning.STOP),
    ("UNIMPLEMENTED", "Method not found!", Meaning.STOP),
    ("UNIMPLEMENTED", "this row is not supported", Meaning.REJECTED),
    ("INTERNAL", STUB, Meaning.SICK),
    ("INTERNAL", "Received RST_STREAM with error code 2", Meaning.LOST),
    ("INTERNAL", RAISED, Meaning.SUSPECT),
    ("UNKNOWN", "who knows", Meaning.SUSPECT),
    ("DATA_LOSS", "anything new", Meaning.SUSPECT),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", Meaning.LATE),
    ("CANCELLED", "CANCELLED", Meaning.LOST),
    ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (9 vs. 4)", Meaning.OVERSIZE),
    ("RESOURCE_EXHAUSTED", "too many requests", Meaning.BUSY),
    ("INVALID_ARGUMENT", f"{ECHO} unexpected shape for input 'x'", Meaning.REJECTED),
    ("INVALID_ARGUMENT", f"{ECHO} unexpected inference input 'z' for model", Meaning.REJECTED),
    ("INVALID_ARGUMENT", f"{ECHO} input 'x' data-type is 'INT32', but", Meaning.REJECTED),
    ("INVALID_ARGUMENT", f"{ECHO} request batch-size must be <= 64", Meaning.REJECTED),
    ("INVALID_ARGUMENT", f"{ECHO} expected 2 inputs but got 1 inputs", Meaning.REJECTED),
    ("INVALID_ARGUMENT", "row refused", Meaning.REJECTED),
    ("ALREADY_EXISTS", "row refused", Meaning.REJECTED),
    ("FAILED_PRECONDITION", "row refused", Meaning.REJECTED),
    ("OUT_OF_RANGE", "row refused", Meaning.REJECTED),
    (ANSWER_STATUS, "output 'y' came as FP64", Meaning.WRONG),
]


@pytest.mark.parametrize(("status", "text", "expected"), WORDS)
def test_what_servers_say_is_understood(status, text, expected):
    failure = Failure(1, status, text)
    assert meaning(failure) is expected
    assert outcome(failure) == expected.value


def test_no_row_of_the_table_is_without_a_case():
    assert {find_rule(Failure(1, status, text)) for status, text, _ in WORDS} >= set(RULES)


FATAL_AT_FIRST = {
    TLS: AuthError,
    "certificate has expired": AuthError,
    f"{ECHO} unexpected shape for input 'x'": ModelError,
    f"{ECHO} unexpected inference input 'z' for model": ModelError,
    f"{ECHO} input 'x' data-type is 'INT32', but": ModelError,
    f"{ECHO} request batch-size must be <= 64": ModelError,
    f"{ECHO} expected 2 inputs but got 1 inputs": ModelError,
}
FATAL_ALWAYS = {
    "This protocol is restricted, expecting header 'k'": AuthError,
    "no token": AuthError,
    "wrong token": AuthError,
    "doesn't support models with decoupled transaction policy": ModelError,
    "unknown service inference.GRPCInferenceService": ModelError,
    "Method not found!": ModelError,
}


@pytest.mark.parametrize(("status", "text", "expected"), WORDS)
def test_only_what_nothing_can_mend_ends_a_run(status, text, expected):
    failure = Failure(1, status, text)
    for is_first, errors in ((True, FATAL_AT_FIRST | FATAL_ALWAYS), (False, FATAL_ALWAYS)):
        error = fatal(failure, "gpu1:8001", is_first=is_first)
        assert type(error) is errors.get(text, type(None))
        if error is not None:
            assert str(error).startswith(f"gpu1:8001: {text} ({status}): ")
            assert error.exit_code == 2
            assert not error.retry_helps


def test_what_blames_no_row_never_does():
    blaming = {each for each, treatment in TREATMENTS.items() if treatment.blames}
    assert blaming == {Meaning.SUSPECT, Meaning.REJECTED, Meaning.WRONG}
    leaving = {each for each, treatment in TREATMENTS.items() if treatment.leaves}
    assert leaving == {Meaning.AWAY, Meaning.LOST, Meaning.SICK}
    assert set(TREATMENTS) == set(Meaning) - {Meaning.STOP}


def test_a_stream_knows_a_full_queue_by_its_text():
    assert refusal("[request id: 7] Exceeds maximum queue size") is not None
    assert refusal(RAISED) is None
