"""Whatever servers answer, in whatever order: every row is settled once, within the limits."""

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.simulated import CLOSED, DOWN, FULL, LATE, RAISED, REFUSED, SICK, WRONG, rows_of
from tritonbulk.dispatch import (
    Abort,
    Dispatch,
    FailRows,
    Limits,
    Probe,
    Send,
)
from tritonbulk.dispatch.controls import WRONG_CONTROLS_MAX
from tritonbulk.segments import Batch

ROW_BYTES = 10
STEPS_MAX = 20_000
STRANGERS_MAX = 3
"""Failures a batch that its rows are not to blame for: four may convict."""


def limits(requests_max, rows_max=100, bytes_max=10**9):
    return Limits(
        math.inf,
        10**9,
        window_start=requests_max,
        window_max=requests_max,
        requests_max=requests_max,
        rows_max=rows_max,
        bytes_max=bytes_max,
    )


class Servers:
    """Plays the driver: keeps what is in flight, settles rows, checks the limits on the way."""

    def __init__(self, dispatch, bounds, poisonous=frozenset()):
        self.dispatch = dispatch
        self.bounds = bounds
        self.poisonous = poisonous
        self.in_flight = {}
        self.settled = []
        self.failed = []
        self.now = 0.0

    def carry_out(self, actions):
        for action in actions:
            match action:
                case Send() | Probe():
                    assert action.request_id not in self.in_flight
                    self.in_flight[action.request_id] = action
                case FailRows(batch, _):
                    self.failed += rows_of(batch)
                    self.settled += rows_of(batch)
                case Abort(error):
                    raise error
        sent = [each.batch.rows for each in self.in_flight.values() if isinstance(each, Send)]
        assert len(sent) <= self.bounds.requests_max + 1, "one may go alone beside them"
        assert sum(sent) <= self.bounds.rows_max or len(sent) <= 2
        assert sum(sent) * ROW_BYTES <= self.bounds.bytes_max or len(sent) <= 2

    def answer(self, request_id, failure=None):
        action = self.in_flight.pop(request_id)
        rows = rows_of(action.batch) if isinstance(action, Send) else []
        if failure is None and self.poisonous.intersection(rows):
            failure = RAISED
        if failure is not None:
            self.carry_out(self.dispatch.failed(request_id, failure, self.now))
        else:
            self.settled += rows
            self.carry_out(self.dispatch.succeeded(request_id, self.now))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(1, 5),
    st.integers(20, 150),
    st.integers(200, 1500),
    st.integers(1, 3),
    st.sets(st.integers(0, 59), max_size=4),
    st.lists(
        st.sampled_from([FULL, DOWN, CLOSED, SICK, LATE, RAISED, REFUSED, WRONG]), max_size=60
    ),
    st.randoms(use_true_random=False),
)
def test_every_row_is_settled_once(
    sizes, requests_max, rows_max, bytes_max, endpoints, poison, failures, random
):
    bounds = limits(requests_max, rows_max, bytes_max)
    dispatch = Dispatch(bounds, [f"s{index}:1" for index in range(endpoints)], 16)
    poisonous = {(index, row) for index, size in enumerate(sizes) for row in poison if row < size}
    poisonous -= {(0, 0)}  # something must be scored, or nobody can be judged
    servers = Servers(dispatch, bounds, poisonous)
    dispatch.add([Batch(index, 0, size) for index, size in enumerate(sizes)], ROW_BYTES)
    blamed = Counter()
    for _ in range(STEPS_MAX):
        if dispatch.idle:
            break
        servers.carry_out(dispatch.step(servers.now))
        if servers.in_flight and random.random() < 0.9:
            request_id = random.choice(sorted(servers.in_flight))
            failure = failures.pop() if failures and random.random() < 0.3 else None
            asked = servers.in_flight[request_id]
            if failure not in (None, FULL, DOWN) and isinstance(asked, Send):
                blamed[asked.batch.segment] += 1
                failure = failure if blamed[asked.batch.segment] <= STRANGERS_MAX else None
            elif failure is WRONG:
                blamed["controls"] += 1
                failure = failure if blamed["controls"] < WRONG_CONTROLS_MAX else None
            servers.now += 0.01
            servers.answer(request_id, failure)
        elif dispatch.wake_s is not None:
            servers.now = max(servers.now, dispatch.wake_s)
        else:
            assert servers.in_flight or dispatch.idle, "nothing is in flight, nothing will happen"
    else:
        raise AssertionError("the run does not end")
    everything = [(index, row) for index, size in enumerate(sizes) for row in range(size)]
    assert sorted(servers.settled) == everything
    assert sorted(servers.failed) == sorted(poisonous)
    assert dispatch.tally.rows_ok + dispatch.tally.rows_failed == len(everything)
    assert dispatch.tally.rows_failed == len(poisonous)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.integers(1, 5),
    st.integers(2, 4),
    st.data(),
)
def test_an_endpoint_that_never_answers_takes_no_row_with_it(sizes, requests_max, endpoints, data):
    dead = data.draw(st.integers(0, endpoints - 1))
    bounds = limits(requests_max)
    dispatch = Dispatch(bounds, [f"s{index}:1" for index in range(endpoints)])
    servers = Servers(dispatch, bounds)
    dispatch.add([Batch(index, 0, size) for index, size in enumerate(sizes)], ROW_BYTES)
    lost = 0
    for _ in range(STEPS_MAX):
        if dispatch.idle:
            break
        servers.carry_out(dispatch.step(servers.now))
        request_id = data.draw(st.sampled_from(sorted(servers.in_flight)))
        action = servers.in_flight[request_id]
        lost += isinstance(action, Send) and action.endpoint == dead
        servers.now += 0.01
        servers.answer(request_id, DOWN if action.endpoint == dead else None)
    assert dispatch.tally.rows_ok == sum(sizes)
    assert lost <= requests_max, "what was in flight when it went; then it is only asked"


@given(st.lists(st.integers(1, 50), min_size=2, max_size=12), st.integers(2, 4))
def test_requests_go_to_the_endpoint_with_the_fewest_rows(sizes, endpoints):
    names = [f"s{index}:1" for index in range(endpoints)]
    dispatch = Dispatch(limits(99, rows_max=10**6), names)
    dispatch.add([Batch(index, 0, size) for index, size in enumerate(sizes)], ROW_BYTES)
    at = [0] * endpoints
    for action in dispatch.step(0.0):
        assert isinstance(action, Send)
        assert at[action.endpoint] == min(at)
        at[action.endpoint] += action.batch.rows


@given(st.integers(1, 12))
def test_a_request_waits_longer_after_each_refusal_up_to_a_limit(failures):
    dispatch = Dispatch(limits(4), ["a:1"])
    dispatch.add([Batch(0, 0, 5)], ROW_BYTES)
    now, waits = 0.0, []
    for _ in range(failures):
        refused_s = now
        while not (sent := dispatch.step(now)):
            now = dispatch.wake_s
        if now > refused_s:
            waits.append(round(now - refused_s, 6))
        assert dispatch.failed(sent[0].request_id, FULL, now) == []
    assert waits == sorted(waits)
    assert waits[:1] in ([], [0.05])
    assert max(waits, default=0.0) <= 1.0
