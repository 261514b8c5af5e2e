"""Whatever servers answer, in whatever order: every row is settled once, within the limits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tritonbulk.dispatch import Abort, Dispatch, FailRows, Failure, FixedWindow, Limits, Send
from tritonbulk.segments import Batch

QUEUE_FULL = Failure(14, "UNAVAILABLE", "Exceeds maximum queue size")
GONE = Failure(14, "UNAVAILABLE", "failed to connect to all addresses")
ROW_BYTES = 10
BAD_ROWS = Failure(13, "INTERNAL", "RuntimeError: a poisonous row")


def limits(rows_max=100, bytes_max=10**9):
    return Limits(900.0, 10**9, rows_max, bytes_max)


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
        assert rows * ROW_BYTES <= self.bounds.bytes_max or len(self.in_flight) == 1

    def answer(self, request_id, refusal=None):
        batch, _ = self.in_flight.pop(request_id)
        if refusal is not None:
            self.carry_out(self.dispatch.failed(request_id, refusal, self.now))
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
    st.integers(200, 1500),
    st.integers(1, 3),
    st.sets(st.integers(0, 59), max_size=4),
    st.randoms(use_true_random=False),
)
def test_every_row_is_settled_once(
    sizes, requests_max, rows_max, bytes_max, endpoints, poison, random
):
    bounds, window = limits(rows_max, bytes_max), FixedWindow(requests_max)
    dispatch = Dispatch(bounds, window, endpoints)
    poisonous = {(index, row) for index, size in enumerate(sizes) for row in poison if row < size}
    servers = Servers(dispatch, bounds, window, poisonous)
    dispatch.add([Batch(index, 0, size) for index, size in enumerate(sizes)], ROW_BYTES)
    refusals_left = 30
    while not dispatch.idle:
        servers.carry_out(dispatch.step(servers.now))
        if servers.in_flight:
            refusal = random.choice([QUEUE_FULL, GONE, None, None, None, None])
            refusals_left -= refusal is not None
            request_id = random.choice(sorted(servers.in_flight))
            servers.answer(request_id, refusal if refusals_left > 0 else None)
        else:
            assert dispatch.wake_s is not None, "nothing is in flight and nothing will happen"
            servers.now = dispatch.wake_s
    everything = [(index, row) for index, size in enumerate(sizes) for row in range(size)]
    assert sorted(servers.settled) == everything
    assert sorted(servers.failed) == sorted(poisonous)
    assert dispatch.rows_ok + dispatch.rows_failed == len(everything)
    assert dispatch.rows_failed == len(poisonous)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.integers(1, 5),
    st.integers(2, 4),
    st.data(),
)
def test_an_endpoint_that_never_answers_takes_no_row_with_it(sizes, requests_max, endpoints, data):
    dead = data.draw(st.integers(0, endpoints - 1))
    bounds, window = limits(), FixedWindow(requests_max)
    dispatch = Dispatch(bounds, window, endpoints)
    servers = Servers(dispatch, bounds, window)
    dispatch.add([Batch(index, 0, size) for index, size in enumerate(sizes)], ROW_BYTES)
    lost = 0
    while not dispatch.idle:
        servers.carry_out(dispatch.step(servers.now))
        request_id = data.draw(st.sampled_from(sorted(servers.in_flight)))
        is_lost = servers.in_flight[request_id][1] == dead
        lost += is_lost
        servers.now += 0.01
        servers.answer(request_id, GONE if is_lost else None)
    assert dispatch.rows_ok == sum(sizes)
    assert lost <= requests_max * (1 + servers.now / 0.1)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=12), st.integers(2, 4))
def test_requests_go_to_the_endpoint_with_the_fewest_rows(sizes, endpoints):
    dispatch = Dispatch(limits(rows_max=10**6), FixedWindow(99), endpoints)
    dispatch.add([Batch(index, 0, size) for index, size in enumerate(sizes)], ROW_BYTES)
    at = [0] * endpoints
    for action in dispatch.step(0.0):
        assert isinstance(action, Send)
        assert at[action.endpoint] == min(at)
        at[action.endpoint] += action.batch.rows


@given(st.integers(1, 12))
def test_a_request_waits_longer_after_each_refusal_up_to_a_limit(failures):
    dispatch = Dispatch(limits(), FixedWindow(4), 1)
    dispatch.add([Batch(0, 0, 5)], ROW_BYTES)
    now, waits = 0.0, []
    for _ in range(failures):
        (send,) = dispatch.step(now)
        assert dispatch.failed(send.request_id, QUEUE_FULL, now) == []
        waits.append(round(dispatch.wake_s - now, 6))
        assert dispatch.step(now) == []
        now = dispatch.wake_s
    assert waits == sorted(waits)
    assert waits[0] == 0.05
    assert max(waits) <= 1.0
