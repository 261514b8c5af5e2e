"""The dispatcher's ends, and what servers' words mean."""

import pytest

from tritonbulk.contract import InputTensor, OutputTensor, datatype
from tritonbulk.dispatch import (
    Abort,
    Dispatch,
    FailRows,
    Failure,
    FixedWindow,
    Limits,
    Send,
    Verdict,
    batch_rows_auto,
    failed_rows_max,
    judge,
)
from tritonbulk.dispatch.limits import window_max
from tritonbulk.dispatch.policy import ANSWER_STATUS
from tritonbulk.errors import (
    AnswerError,
    AuthError,
    FailureLimitError,
    ModelError,
    OutageError,
    ServerGoneError,
)
from tritonbulk.segments import Batch

DOWN = Failure(14, "UNAVAILABLE", "failed to connect to all addresses")
BAD = Failure(13, "INTERNAL", "ValueError: no")


def test_an_outage_ends_the_run_after_its_time_and_not_before():
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(1), 1)
    dispatch.add([Batch(0, 0, 4)], 10)
    now = 0.0
    while now < 10.0:
        (send,) = dispatch.step(now)
        dispatch.failed(send.request_id, DOWN, now)
        now = dispatch.wake_s
    assert now == 10.0
    (abort,) = dispatch.step(now)
    assert isinstance(abort, Abort)
    assert isinstance(abort.error, OutageError)
    assert "failed to connect" in str(abort.error)


def test_an_answer_ends_an_outage():
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(2), 1)
    dispatch.add([Batch(0, 0, 4), Batch(0, 4, 4)], 10)
    first, second = dispatch.step(0.0)
    dispatch.failed(first.request_id, DOWN, 8.0)
    dispatch.succeeded(second.request_id, 9.0)
    (again,) = dispatch.step(12.0)
    assert again.batch == first.batch


def test_a_row_that_fails_alone_is_failed_and_its_neighbours_are_not():
    dispatch = Dispatch(Limits(900.0, 10), FixedWindow(1), 1)
    dispatch.add([Batch(0, 0, 8)], 10)
    failed, sent = [], 0
    while not dispatch.idle:
        for action in dispatch.step(0.0):
            sent += 1
            rows = range(action.batch.row_begin, action.batch.row_begin + action.batch.rows)
            if 5 in rows:
                done = dispatch.failed(action.request_id, BAD, 0.0)
                failed += [a.batch for a in done if isinstance(a, FailRows)]
            else:
                dispatch.succeeded(action.request_id, 0.0)
    assert failed == [Batch(0, 5, 1)]
    assert (dispatch.rows_ok, dispatch.rows_failed) == (7, 1)
    assert sent == 7, "two requests a halving, and the whole"


def test_too_many_failed_rows_stop_the_run():
    dispatch = Dispatch(Limits(900.0, failed_rows_max=2), FixedWindow(1), 1)
    dispatch.add([Batch(0, row, 1) for row in range(5)], 10)
    ends = []
    for _ in range(3):
        (send,) = dispatch.step(0.0)
        ends = dispatch.failed(send.request_id, BAD, 0.0)
    assert isinstance(ends[-1], Abort)
    assert isinstance(ends[-1].error, FailureLimitError)
    assert "3 rows failed" in str(ends[-1].error)


@pytest.mark.parametrize(
    ("status", "text", "verdict", "error"),
    [
        ("UNAVAILABLE", "Exceeds maximum queue size", Verdict.BUSY, None),
        ("UNAVAILABLE", "Request timeout expired", Verdict.BUSY, None),
        ("UNAVAILABLE", "Socket closed", Verdict.RETRY, None),
        ("UNAVAILABLE", "This protocol is restricted, expecting", Verdict.STOP, AuthError),
        ("UNAVAILABLE", "Tls handshake failed: CERTIFICATE_VERIFY_FAILED", Verdict.STOP, AuthError),
        ("NOT_FOUND", "unknown model: 'm' has no available versions", Verdict.RETRY, None),
        ("NOT_FOUND", "Request for unknown model: 'm' is not found", Verdict.STOP, ModelError),
        ("UNIMPLEMENTED", "decoupled", Verdict.STOP, ModelError),
        ("INTERNAL", "Stub process 'm_0_0' is not healthy.", Verdict.STOP, ServerGoneError),
        ("INTERNAL", "Failed to process the request(s)", Verdict.SUSPECT, None),
        ("INVALID_ARGUMENT", "unexpected shape for input 'x'", Verdict.SUSPECT, None),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Verdict.RETRY, None),
        ("DATA_LOSS", "anything new", Verdict.SUSPECT, None),
        (ANSWER_STATUS, "output 'y' came as FP64", Verdict.STOP, AnswerError),
    ],
)  # fmt: skip
def test_what_servers_say_is_understood(status, text, verdict, error):
    found, raised = judge(Failure(1, status, text))
    assert found is verdict
    assert type(raised) is (type(None) if error is None else error)
    if raised is not None:
        assert text in str(raised)


def tensor(kind, shape):
    return InputTensor("x", datatype(kind), shape)


OUT = (OutputTensor("y", datatype("FP32"), ()),)


@pytest.mark.parametrize(
    ("inputs", "max_batch_size", "rows"),
    [
        ([tensor("FP32", (64,))], 4096, 4096),
        ([tensor("FP32", (3, 224, 224))], 4096, 27),  # 16 MiB / 602,112 bytes
        ([tensor("FP32", (64,))], 0, 1024),
        ([tensor("FP32", (10**8,))], 64, 1),
        ([tensor("BYTES", ())], 10**6, 65_536),
        ([tensor("FP32", (-1,))], 10**5, 16_384),
    ],
)
def test_batch_rows_follow_from_the_model_alone(inputs, max_batch_size, rows):
    assert batch_rows_auto(inputs, OUT, max_batch_size) == rows


def test_a_refusal_is_an_answer_so_a_full_queue_is_no_outage():
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(1), 1)
    dispatch.add([Batch(0, 0, 4)], 10)
    now = 0.0
    while now < 30.0:
        (send,) = dispatch.step(now)
        assert isinstance(send, Send)
        dispatch.failed(
            send.request_id, Failure(14, "UNAVAILABLE", "Exceeds maximum queue size"), now
        )
        now = dispatch.wake_s


def test_time_in_which_nothing_was_asked_is_no_outage():
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(1), 1)
    dispatch.add([Batch(0, 0, 4)], 10)
    (send,) = dispatch.step(500.0)
    dispatch.failed(send.request_id, DOWN, 501.0)
    (again,) = dispatch.step(502.0)
    assert isinstance(again, Send)


def test_idle_endpoints_take_turns():
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(1), 3)
    dispatch.add([Batch(0, row, 1) for row in range(6)], 10)
    seen = []
    for _ in range(6):
        (send,) = dispatch.step(0.0)
        seen.append(send.endpoint)
        dispatch.succeeded(send.request_id, 0.0)
    assert sorted(seen) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("fraction", "rows", "allowed"),
    [(0.01, 10**6, 10**4), (0.01, 100, 10), (0.0, 10**6, 0), (1.0, 5, 10)],
)
def test_the_failures_allowed_are_a_share_of_all_rows(fraction, rows, allowed):
    assert failed_rows_max(fraction, rows) == allowed


def test_a_full_queue_narrows_the_window_and_an_answer_is_told_to_it():
    seen = []

    class Told(FixedWindow):
        def answered(self, rows, in_flight, now_s):
            seen.append(("answered", rows, in_flight, now_s))

        def refused(self, in_flight, wait_s, now_s):
            seen.append(("refused", in_flight, wait_s, now_s))

    dispatch = Dispatch(Limits(900.0, 10), Told(2), 1)
    dispatch.add([Batch(0, 0, 4), Batch(0, 4, 5)], 10)
    first, second = dispatch.step(1.0)
    dispatch.failed(first.request_id, Failure(14, "UNAVAILABLE", "Exceeds maximum queue size"), 3.0)
    dispatch.succeeded(second.request_id, 4.0)
    assert seen == [("refused", 2, 2.0, 3.0), ("answered", 5, 1, 4.0)]


@pytest.mark.parametrize(
    ("request_bytes", "requests"), [(16_384, 64), (2**20, 8), (2**21, 4), (5 * 2**20, 4), (0, 64)]
)
def test_the_window_finds_no_more_requests_than_bytes_allow(request_bytes, requests):
    assert window_max(request_bytes) == requests
