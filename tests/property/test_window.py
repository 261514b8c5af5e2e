"""The window over simulated servers: nearly the best rate, few refusals, always within bounds."""

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonbulk.dispatch.window import Window

LIMIT_MAX = 512
ROWS = 64
NETWORK_S = 0.001


def pinned(width):
    return Window(width, width)


class BatchingServer:
    """Dynamic batching in discrete events: an execution takes a + b · rows, jittered."""

    def __init__(self, a_s, b_s, instances=1, batch_rows=512, queue_max=None, seed=0):
        self.a_s, self.b_s = a_s, b_s
        self.idle = instances
        self.batch_requests = batch_rows // ROWS
        self.queue_max = queue_max
        self.random = random.Random(seed)

    def run(self, window, seconds):  # noqa: C901  one branch an event is how it reads best
        """Return rows/s and refusals of a client that always has more to send."""
        events, queue, ticket = [], [], 0
        now, rows, refusals, in_flight = 0.0, 0, 0, 0

        def push(when, what, payload=None):
            nonlocal ticket
            ticket += 1
            heapq.heappush(events, (when, ticket, what, payload))

        def send():
            nonlocal in_flight
            while in_flight < window.limit:
                in_flight += 1
                push(now + NETWORK_S, "arrive", now)

        def execute():
            while self.idle and queue:
                batch = [queue.pop(0) for _ in range(min(self.batch_requests, len(queue)))]
                self.idle -= 1
                jitter = self.random.uniform(0.95, 1.1)
                push(now + (self.a_s + self.b_s * ROWS * len(batch)) * jitter, "done", batch)

        send()
        while now < seconds:
            now, _, what, payload = heapq.heappop(events)
            if what == "arrive":
                if self.queue_max is not None and len(queue) >= self.queue_max:
                    push(now + NETWORK_S, "refused", payload)
                else:
                    queue.append(payload)
                    execute()
            elif what == "done":
                self.idle += 1
                for sent in payload:
                    push(now + NETWORK_S, "answered", sent)
                execute()
            elif what == "answered":
                rows += ROWS
                window.answered(ROWS, in_flight, now)
                in_flight -= 1
                send()
            elif what == "refused":
                refusals += 1
                window.refused(in_flight, now - payload, now)
                push(now + self.random.uniform(0.005, 0.05), "again")
            else:
                in_flight -= 1
                send()
        return rows / seconds, refusals


SERVERS = {
    "unlimited queue": {"a_s": 0.005, "b_s": 20e-6},
    "queue of 12": {"a_s": 0.005, "b_s": 20e-6, "queue_max": 12},
    "four instances, queue of 48": {"a_s": 0.005, "b_s": 20e-6, "instances": 4, "queue_max": 48},
    "tiny model": {"a_s": 0.0005, "b_s": 2e-6},
}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("seed", range(3))
def test_it_comes_near_the_best_fixed_width_without_a_storm_of_refusals(name, seed):
    best = max(
        BatchingServer(**SERVERS[name], seed=seed).run(pinned(width), 10)[0]
        for width in (4, 8, 12, 16, 24, 32, 48, 64)
    )
    rate, refusals = BatchingServer(**SERVERS[name], seed=seed).run(Window(4, LIMIT_MAX), 30)
    answers = rate * 30 / ROWS
    assert rate >= 0.93 * best
    assert refusals <= 0.01 * answers


def test_it_does_not_widen_for_nothing():
    window = Window(4, LIMIT_MAX)
    BatchingServer(**SERVERS["unlimited queue"]).run(window, 30)
    assert window.limit <= 64, "eight requests fill a batch and eight wait; more only wait longer"


def test_a_window_that_is_never_full_is_left_alone():
    window = Window(8, LIMIT_MAX)
    for answer in range(1000):
        window.answered(100, in_flight=2, now_s=answer * 0.01)
    assert window.limit == 8


def test_a_burst_of_refusals_narrows_it_once():
    window = Window(100, LIMIT_MAX)
    for _ in range(50):
        window.refused(in_flight=100, wait_s=0.1, now_s=1.0)
    assert window.limit == 70
    window.refused(in_flight=70, wait_s=0.1, now_s=1.3)
    assert window.limit == 49


ANSWER = st.tuples(st.just("answer"), st.integers(1, 10_000), st.integers(1, 600))
REFUSAL = st.tuples(st.just("refusal"), st.just(0), st.integers(1, 600))


@settings(max_examples=200)
@given(
    st.integers(1, 64),
    st.integers(1, LIMIT_MAX),
    st.lists(st.tuples(ANSWER | REFUSAL, st.floats(0, 0.2)), max_size=300),
)
def test_whatever_happens_it_stays_within_its_bounds(start, limit_max, events):
    window, now = Window(start, limit_max), 0.0
    for (kind, rows, in_flight), pause in events:
        now += pause
        if kind == "answer":
            window.answered(rows, in_flight, now)
        else:
            window.refused(in_flight, 0.01, now)
        assert 1 <= window.limit <= limit_max


@settings(max_examples=200)
@given(st.integers(2, LIMIT_MAX), st.integers(5, 300), st.floats(0.001, 0.5))
def test_a_storm_of_refusals_is_forgotten_within_some_round_trips(width, refusals, wait_s):
    window, now = Window(width, LIMIT_MAX), 0.0
    for _ in range(refusals):
        now += 3 * wait_s
        window.refused(window.limit, wait_s, now)
    answers = 0
    while window.limit < int(0.7 * width):
        now += wait_s / window.limit
        window.answered(ROWS, window.limit, now)
        answers += 1
        assert answers <= 10 + 8 * width, "four round trips of the whole width"


def test_a_queue_that_became_shorter_is_not_tried_again_and_again():
    short = BatchingServer(a_s=0.005, b_s=20e-6, queue_max=4)
    window = Window(64, LIMIT_MAX)
    rate, refusals = short.run(window, 120)
    assert refusals <= 0.01 * rate * 120 / ROWS


@settings(max_examples=100)
@given(
    st.integers(1, LIMIT_MAX),
    st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 600), st.floats(0, 0.2))),
)
def test_a_pinned_window_does_not_move_unless_it_is_refused(width, answers):
    window, now = pinned(width), 0.0
    for rows, in_flight, pause in answers:
        now += pause
        window.answered(rows, in_flight, now)
        assert window.limit == width


@pytest.mark.parametrize("queue_max", [4, 12, 48])
@pytest.mark.parametrize("more", [1, 4, 40])
def test_a_pinned_window_wider_than_the_queue_is_as_fast_as_one_that_fits(queue_max, more):
    made = {"a_s": 0.005, "b_s": 20e-6, "queue_max": queue_max}
    fits, refused = BatchingServer(**made).run(pinned(queue_max), 30)
    assert not refused
    window = pinned(queue_max + 8 + more)
    rate, refusals = BatchingServer(**made).run(window, 30)
    assert rate >= 0.93 * fits
    assert refusals <= 0.02 * rate * 30 / ROWS


@settings(max_examples=100)
@given(st.integers(2, LIMIT_MAX), st.integers(5, 300), st.floats(0.001, 0.5))
def test_a_pinned_window_comes_back_when_refusals_cease(width, refusals, wait_s):
    window, now = pinned(width), 0.0
    for _ in range(refusals):
        now += 3 * wait_s
        window.refused(window.limit, wait_s, now)
        assert 1 <= window.limit < width
    answers = 0
    while window.limit < int(0.7 * width):
        now += wait_s / window.limit
        window.answered(ROWS, window.limit, now)
        answers += 1
        assert window.limit <= width
        assert answers <= 10 + 8 * width, "four round trips of the whole width"
