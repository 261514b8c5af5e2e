"""The dispatcher's ends and limits; what it does about rows is in ``tests/property``."""

import logging
import math

import pytest

from tritonbulk.contract import InputTensor, OutputTensor, datatype
from tritonbulk.dispatch import (
    Abort,
    Dispatch,
    FailRows,
    Failure,
    Limits,
    Probe,
    Send,
    batch_rows_auto,
    failed_rows_max,
    fill_rows,
)
from tritonbulk.dispatch.breaker import FAILURES_IN_A_ROW_MAX
from tritonbulk.dispatch.endings import outage
from tritonbulk.dispatch.limits import window_max
from tritonbulk.errors import OutageError
from tritonbulk.segments import Batch
from tritonbulk.telemetry.logs import RunLog, complain, configure_logs

DOWN = Failure(14, "UNAVAILABLE", "failed to connect to all addresses")
FULL = Failure(14, "UNAVAILABLE", "[request id: 1] Exceeds maximum queue size")
TOO_LARGE = Failure(8, "RESOURCE_EXHAUSTED", "Received message larger than max (900 vs. 200)")
CLOSED = Failure(14, "UNAVAILABLE", "Stream removed (Socket closed)")
REFUSED = Failure(3, "INVALID_ARGUMENT", "this row is refused")


def pinned(max_outage_s, failed_rows_max, requests):
    """Limits with so many requests in flight."""
    return Limits(
        max_outage_s,
        failed_rows_max,
        window_start=requests,
        window_max=requests,
        requests_max=requests,
    )


def test_an_outage_ends_the_run_after_its_time_and_not_before():
    dispatch = Dispatch(pinned(10.0, 10, 1), ["gpu1:8001"])
    dispatch.add([Batch(0, 0, 4)], 10)
    now = 0.0
    while now < 10.0:
        for action in dispatch.step(now):
            dispatch.failed(action.request_id, DOWN, now)
        assert dispatch.wake_s > now
        now = dispatch.wake_s
    assert now == 10.0
    (abort,) = dispatch.step(now)
    assert isinstance(abort, Abort)
    assert isinstance(abort.error, OutageError)
    assert "last word of gpu1:8001: UNAVAILABLE: failed to connect" in str(abort.error)


def test_a_row_scored_ends_an_outage():
    dispatch = Dispatch(pinned(10.0, 10, 2), ["a:1"])
    dispatch.add([Batch(0, 0, 4), Batch(0, 4, 4)], 10)
    first, second = dispatch.step(0.0)
    dispatch.failed(first.request_id, DOWN, 8.0)
    dispatch.succeeded(second.request_id, 9.0)
    (probe,) = dispatch.step(12.0)
    assert isinstance(probe, Probe)
    dispatch.succeeded(probe.request_id, 12.1)
    (again,) = dispatch.step(12.1)
    assert again.batch == first.batch


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


def test_a_queue_that_stays_full_is_an_outage_too():
    dispatch = Dispatch(pinned(10.0, 10, 1), ["a:1"])
    dispatch.add([Batch(0, 0, 4)], 10)
    now = 0.0
    while now < 10.0:
        for action in dispatch.step(now):
            assert isinstance(action, Send)
            dispatch.failed(action.request_id, FULL, now)
        now = dispatch.wake_s
    (abort,) = dispatch.step(now)
    assert isinstance(abort.error, OutageError)
    assert "full of other clients' requests" in str(abort.error)


def test_a_run_may_wait_for_ever():
    dispatch = Dispatch(pinned(math.inf, 10, 1), ["a:1"])
    dispatch.add([Batch(0, 0, 4)], 10)
    (send,) = dispatch.step(0.0)
    dispatch.failed(send.request_id, DOWN, 0.0)
    (probe,) = dispatch.step(10.0**6)
    assert isinstance(probe, Probe)


def test_time_in_which_nothing_was_asked_is_no_outage():
    dispatch = Dispatch(pinned(10.0, 10, 1), ["a:1"])
    dispatch.add([Batch(0, 0, 4)], 10)
    (send,) = dispatch.step(500.0)
    dispatch.failed(send.request_id, DOWN, 501.0)
    (again,) = dispatch.step(502.0)
    assert isinstance(again, Probe)


def test_time_in_which_nothing_was_owed_is_no_outage_though_a_server_failed():
    dispatch = Dispatch(pinned(10.0, 10, 2), ["a:1", "b:1"])
    dispatch.add([Batch(0, 0, 1), Batch(0, 1, 1)], 10)
    first, second = dispatch.step(0.0)
    dispatch.failed(second.request_id, DOWN, 0.1)
    dispatch.succeeded(first.request_id, 0.2)
    asked = [*dispatch.step(0.3), *dispatch.step(2.0)]
    (again,) = (each for each in asked if isinstance(each, Send))
    (probe,) = (each for each in asked if isinstance(each, Probe))
    dispatch.succeeded(again.request_id, 2.1)
    dispatch.failed(probe.request_id, DOWN, 2.2)  # the last word of anybody
    assert dispatch.idle
    assert not any(isinstance(each, Abort) for each in dispatch.step(900.0))
    dispatch.add([Batch(1, 0, 1)], 10)
    assert not any(isinstance(each, Abort) for each in dispatch.step(1800.0))


def test_a_row_is_convicted_though_full_batches_are_too_large_for_the_way():
    dispatch = Dispatch(pinned(10.0, 10, 2), ["a:1"], 64)
    dispatch.add([Batch(0, 0, 8), Batch(0, 8, 8)], 10)
    now, sent, failed, scored = 0.0, 0, [], 0
    while not dispatch.idle:
        actions = dispatch.step(now)
        while actions:
            action = actions.pop()
            if isinstance(action, FailRows):
                failed.append((action.batch.row_begin, action.batch.rows))
            if not isinstance(action, Send | Probe):
                continue
            sent += 1
            assert sent < 200, "sent again and again"
            batch = action.batch if isinstance(action, Send) else None
            rows = range(batch.row_begin, batch.row_begin + batch.rows) if batch else ()
            now += 0.01
            if action.is_filled:
                actions += dispatch.failed(action.request_id, TOO_LARGE, now)
            elif 5 in rows:
                actions += dispatch.failed(action.request_id, REFUSED, now)
            else:
                scored += len(rows)
                actions += dispatch.succeeded(action.request_id, now)
        now = max(now, min(dispatch.wake_s or now, now + 1.0))
    assert (failed, scored) == ([(5, 1)], 15)


def test_a_control_that_a_full_queue_refused_is_no_reason_to_be_awake():
    dispatch = Dispatch(pinned(100.0, 10, 1), ["a:1"], 8)
    dispatch.add([Batch(0, 0, 1)], 10)
    (send,) = dispatch.step(0.0)
    dispatch.succeeded(send.request_id, 0.1)
    dispatch.add([Batch(0, 1, 1)], 10)
    now = 60.0
    for _ in range(4):  # connections break with it: it may take the server down
        for action in dispatch.step(now):
            if isinstance(action, Probe):
                dispatch.succeeded(action.request_id, now)
            else:
                dispatch.failed(action.request_id, CLOSED, now)
        now += 1.0
    now = 120.0  # nobody has vouched for the server lately
    (probe,) = dispatch.step(now)
    assert isinstance(probe, Probe)
    dispatch.failed(probe.request_id, FULL, now)
    assert dispatch.step(now) == [], "not at once again"
    assert dispatch.wake_s == pytest.approx(now + 0.1)
    (probe,) = dispatch.step(now + 0.1)
    assert dispatch.wake_s is None or dispatch.wake_s > now + 0.1


def test_idle_endpoints_take_turns():
    dispatch = Dispatch(pinned(10.0, 10, 1), ["a:1", "b:1", "c:1"])
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


def test_a_full_queue_narrows_its_own_window_alone():
    dispatch = Dispatch(pinned(900.0, 10, 40), ["a:1", "b:1"])
    dispatch.add([Batch(0, row, 1) for row in range(40)], 10)
    sent = dispatch.step(1.0)
    assert sorted({each.endpoint for each in sent}) == [0, 1]
    full = next(each for each in sent if each.endpoint == 0)
    dispatch.failed(full.request_id, FULL, 3.0)
    windows = [dispatch._endpoints[index].window.limit for index in (0, 1)]
    assert windows == [28, 40]
    assert dispatch.window == 40, "both together may have what was asked for"


@pytest.mark.parametrize(
    ("request_bytes", "requests"), [(16_384, 64), (2**20, 8), (2**21, 4), (5 * 2**20, 4), (0, 64)]
)
def test_the_window_finds_no_more_requests_than_bytes_allow(request_bytes, requests):
    assert window_max(request_bytes) == requests


@pytest.mark.parametrize(
    ("max_batch_size", "row_bytes", "rows"), [(64, 4, 64), (0, 4, 1), (4096, 2**20, 16), (8, 0, 8)]
)
def test_a_batch_is_filled_as_far_as_bytes_allow(max_batch_size, row_bytes, rows):
    assert fill_rows(max_batch_size, row_bytes) == rows


@pytest.mark.parametrize(
    ("failure", "quotes"),
    [
        (Failure(13, "INTERNAL", "ValueError: cannot score 'Jane Doe'"), True),
        (Failure(3, "INVALID_ARGUMENT", "row of 'Jane Doe' refused"), True),
        (Failure(2, "WRONG_ANSWER", "output 'y' says 'Jane Doe'"), True),
        (Failure(14, "UNAVAILABLE", "'Jane Doe' is on holiday"), True),
        (Failure(14, "UNAVAILABLE", "Connection refused"), False),
        (Failure(14, "UNAVAILABLE", "Socket closed"), False),
        (Failure(13, "INTERNAL", "Stub process 'm_0_0' is not healthy."), False),
    ],
)
def test_what_may_quote_rows_is_in_no_log_and_in_no_sentence_of_the_run(failure, quotes, capfd):
    dispatch = Dispatch(pinned(100.0, 10, 1), ["a:1"])
    dispatch.take_changes()
    dispatch.add([Batch(0, 0, 1)], 8)
    for now in range(FAILURES_IN_A_ROW_MAX):
        for action in dispatch.step(float(now)):
            if isinstance(action, Send):
                dispatch.failed(action.request_id, failure, float(now))
    _, silence = dispatch.silence(9.0)
    dispatch._endpoints.leave(0, failure, 9.0)
    dispatch._endpoints.control_failed(0, failure, 9.5)
    changes = dispatch.take_changes()
    assert {each.quotes_data for each in changes} == {quotes}
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logs("json")
        for each in changes:
            RunLog().note(each)
        RunLog().say(silence)
        complain(outage("a:1", failure, 9.0), str(outage("a:1", failure, 9.0)), 3)
    finally:
        root.handlers[:], root.level = handlers, level
    logged = capfd.readouterr().err
    assert ("Jane" in str([each.reason for each in changes])) == quotes
    assert "Jane" not in logged
    assert ("digest" in logged) == quotes


def test_endpoints_are_up_from_the_start():
    changes = Dispatch(pinned(10.0, 10, 1), ["a:1", "b:1"]).take_changes()
    assert [(each.endpoint, each.state) for each in changes] == [("a:1", "up"), ("b:1", "up")]
