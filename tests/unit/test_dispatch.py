"""The dispatcher's ends and limits; what it does about rows is in ``tests/property``."""

import math

import pytest

from tritonbulk.contract import InputTensor, OutputTensor, datatype
from tritonbulk.dispatch import (
    Abort,
    Dispatch,
    Failure,
    FixedWindow,
    Limits,
    Probe,
    Send,
    batch_rows_auto,
    failed_rows_max,
    fill_rows,
)
from tritonbulk.dispatch.limits import window_max
from tritonbulk.errors import OutageError
from tritonbulk.segments import Batch

DOWN = Failure(14, "UNAVAILABLE", "failed to connect to all addresses")
FULL = Failure(14, "UNAVAILABLE", "[request id: 1] Exceeds maximum queue size")


def test_an_outage_ends_the_run_after_its_time_and_not_before():
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(1), ["gpu1:8001"])
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
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(2), ["a:1"])
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
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(1), ["a:1"])
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
    dispatch = Dispatch(Limits(math.inf, 10), FixedWindow(1), ["a:1"])
    dispatch.add([Batch(0, 0, 4)], 10)
    (send,) = dispatch.step(0.0)
    dispatch.failed(send.request_id, DOWN, 0.0)
    (probe,) = dispatch.step(10.0**6)
    assert isinstance(probe, Probe)


def test_time_in_which_nothing_was_asked_is_no_outage():
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(1), ["a:1"])
    dispatch.add([Batch(0, 0, 4)], 10)
    (send,) = dispatch.step(500.0)
    dispatch.failed(send.request_id, DOWN, 501.0)
    (again,) = dispatch.step(502.0)
    assert isinstance(again, Probe)


def test_idle_endpoints_take_turns():
    dispatch = Dispatch(Limits(10.0, 10), FixedWindow(1), ["a:1", "b:1", "c:1"])
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

    dispatch = Dispatch(Limits(900.0, 10), Told(2), ["a:1"])
    dispatch.add([Batch(0, 0, 4), Batch(0, 4, 5)], 10)
    first, second = dispatch.step(1.0)
    dispatch.failed(first.request_id, FULL, 3.0)
    dispatch.succeeded(second.request_id, 4.0)
    assert seen == [("refused", 2, 2.0, 3.0), ("answered", 5, 1, 4.0)]


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
