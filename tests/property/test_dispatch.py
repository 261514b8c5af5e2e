"""Whatever servers answer, in whatever order: every row is settled once, within the limits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tritonbulk.dispatch import Abort, Dispatch, FailRows, Failure, FixedWindow, Limits, Send
from tritonbulk.segments import Batch

QUEUE_FULL = Failure(14, "UNAVAILABLE", "Exceeds maximum queue size")
BAD_ROWS = Failure(13, "INTERNAL", "RuntimeError: a poisonous row")


def limits(rows_max=100, failed_rows_min=10**9):
    return Limits(rows_max, 900.0, failed_rows_min)


class Servers:
    """Plays the driver: keeps what is in flight, settles rows, checks the limits on the way."""

    def __init__(self, dispatch, bounds, window, poisonous=frozenset()):
        self.dispatch = dispatch
        self.bounds = bounds
        self.window = window
        self.poisonous = poisonous
        self.in_flight = {}
        self.settled = []
        self.failed = []
        self.now = 0.0

    def carry_out(self, actions):
        for action in actions:
            match action:
                case Send(request_id, batch, endpoint):
                    assert request_id not in self.in_flight
                    self.in_flight[request_id] = (batch, endpoint)
                case FailRows(batch, _):
                    self.failed += rows_of(batch)
                    self.settled += rows_of(batch)
                case Abort(error):
                    raise error
        assert len(self.in_flight) <= self.window.limit
        rows = sum(batch.rows for batch, _ in self.in_flight.values())
        assert rows <= self.bounds.rows_max or len(self.in_flight) == 1

    def answer(self, request_id, is_refused):
        batch, _ = self.in_flight.pop(request_id)
        if is_refused:
            self.carry_out(self.dispatch.failed(request_id, QUEUE_FULL, self.now))
        elif self.poisonous.intersection(rows_of(batch)):
            self.carry_out(self.dispatch.failed(request_id, BAD_ROWS, self.now))
        else:
            self.dispatch.succeeded(request_id, self.now)
            self.settled += rows_of(batch)


def rows_of(batch):
    return [(batch.segment, row) for row in range(batch.row_begin, batch.row_begin + batch.rows)]


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(1, 5),
    st.integers(20, 150),
    st.integers(1, 3),
    st.sets(st.integers(0, 59), max_size=4),
    st.randoms(use_true_random=False),
)
def test_every_row_is_settled_once(sizes, requests_max, rows_max, endpoints, poison, random):
    bounds, window = limits(rows_max), FixedWindow(requests_max)
    dispatch = Dispatch(bounds, window, endpoints, 0.0)
    poisonous = {(index, row) for index, size in enumerate(sizes) for row in poison if row < size}
    servers = Servers(dispatch, bounds, window, poisonous)
    dispatch.add([Batch(index, 0, size) for index, size in enumerate(sizes)])
    refusals_left = 30
    while not dispatch.idle:
        servers.carry_out(dispatch.step(servers.now))
        if servers.in_flight:
            is_refused = refusals_left > 0 and random.random() < 0.3
            refusals_left -= is_refused
            servers.answer(random.choice(sorted(servers.in_flight)), is_refused)
        else:
            assert dispatch.wake_s is not None, "nothing is in flight and nothing will happen"
            servers.now = dispatch.wake_s
    everything = [(index, row) for index, size in enumerate(sizes) for row in range(size)]
    assert sorted(servers.settled) == everything
    assert sorted(servers.failed) == sorted(poisonous)
    assert dispatch.rows_ok + dispatch.rows_failed == len(everything)
    assert dispatch.rows_failed == len(poisonous)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=12), st.integers(2, 4))
def test_requests_go_to_the_endpoint_with_the_fewest_rows(sizes, endpoints):
    dispatch = Dispatch(limits(rows_max=10**6), FixedWindow(99), endpoints, 0.0)
    dispatch.add([Batch(index, 0, size) for index, size in enumerate(sizes)])
    at = [0] * endpoints
    for action in dispatch.step(0.0):
        assert isinstance(action, Send)
        assert at[action.endpoint] == min(at)
        at[action.endpoint] += action.batch.rows


@given(st.integers(1, 12))
def test_retries_wait_longer_each_time_up_to_a_limit(failures):
    dispatch = Dispatch(limits(), FixedWindow(4), 1, 0.0)
    dispatch.add([Batch(0, 0, 5)])
    now, waits = 0.0, []
    for _ in range(failures):
        (send,) = dispatch.step(now)
        assert dispatch.failed(send.request_id, QUEUE_FULL, now) == []
        waits.append(round(dispatch.wake_s - now, 6))
        assert dispatch.step(now) == []
        now = dispatch.wake_s
    assert waits == sorted(waits)
    assert waits[0] == 0.1
    assert max(waits) <= 5.0
