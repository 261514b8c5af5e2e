"""Servers: sick, broken, away, coming and going; no row is lost or blamed for it."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.faults.checks.worlds import LIMITS, pinned, world
from tests.faults.simulated import RAISED, REFUSED, batches_of, check_exact, rows_of
from tritonbulk.dispatch import Failure, Probe, Send
from tritonbulk.dispatch.machine import Dispatch
from tritonbulk.errors import AnswerError, FailureLimitError, ModelError, OutageError
from tritonbulk.segments import Batch


def sick_server_convicts_nobody():
    """A server that raises at everything while it says that it is ready convicts nobody."""
    for servers in (1, 3):
        made = world(servers, limits=replace(LIMITS, max_outage_s=60.0))
        made.servers[0].is_broken = False
        made.after(0.05, lambda made=made: setattr(made.servers[0], "is_broken", True))
        made.after(9.0, lambda made=made: setattr(made.servers[0], "is_broken", False))
        made.run(batches_of(20_000))
        check_exact(made, 20_000, {})
        assert made.sends < 3 * 20_000 / 64 + 300, "the sick server is asked again and again"


def broken_from_the_start_ends_at_once():
    """If nothing is ever scored, the run ends soon, with the right error and no row failed."""
    for failure, error in (
        (RAISED, FailureLimitError),
        (REFUSED, ModelError),
        (Failure(2, "WRONG_ANSWER", "output 'y' came as FP64"), AnswerError),
    ):
        made = world(1)
        made.servers[0].take = lambda request, made=made, failure=failure: made.after(
            0.005, lambda: request.done(failure)
        )
        made.run(batches_of(20_000))
        assert isinstance(made.aborted, error), made.aborted
        assert not made.failed
        assert made.now < 60


def contract_error_stops_the_first_time_only():
    """A shape that the model refuses ends the run at first; later it is the row's fault."""
    words = "[request id: 1] unexpected shape for input 'x' for model 'm'. Expected [-1,1]"
    shape = Failure(3, "INVALID_ARGUMENT", words)
    made = world(1)
    made.servers[0].take = lambda request: made.after(0.005, lambda: request.done(shape))
    made.run(batches_of(2000))
    assert isinstance(made.aborted, ModelError)
    assert made.sends <= 8
    made = world(1)
    take = made.servers[0].take
    made.servers[0].take = lambda request: (
        made.after(0.005, lambda: request.done(shape))
        if (0, 500) in request.rows
        else take(request)
    )
    made.run(batches_of(1000))
    check_exact(made, 1000, {(0, 500): "shape"})


def permanent_faults_stop():
    """A wrong token stops the run at the first word."""
    words = Failure(14, "UNAVAILABLE", "This protocol is restricted, expecting header 'k'")
    made = world(1)
    made.servers[0].take = lambda request: made.after(0.005, lambda: request.done(words))
    made.run(batches_of(2000))
    assert made.aborted is not None
    assert made.sends <= 8


def outage_is_ridden_out():
    """A server that is killed and comes back costs seconds, and no row."""
    for down_s in (0.3, 3.0, 30.0):
        made = world(1)
        made.after(0.1, lambda made=made, down_s=down_s: made.servers[0].die(down_s))
        made.run(batches_of(20_000))
        check_exact(made, 20_000, {})
        back = min(at for at, _ in made.progress if at > 0.1 + down_s)
        assert back - (0.1 + down_s) <= 2.0, "goodput is back within 2 s"
        assert made.probes <= 20 + 2 * down_s, "who is down is asked about once a second"


def outage_ends_after_its_time():
    """Without any success for so long the run ends, not earlier, and says who said what."""
    made = world(2, limits=replace(LIMITS, max_outage_s=60.0))
    made.after(0.1, lambda: [server.die(math.inf) for server in made.servers])
    made.run(batches_of(20_000))
    assert isinstance(made.aborted, OutageError)
    assert "s0:1" in str(made.aborted) or "s1:1" in str(made.aborted)
    assert 59.9 <= made.now <= 62
    made = world(2, limits=replace(LIMITS, max_outage_s=math.inf))
    made.after(0.1, lambda: [server.die(10_000.0) for server in made.servers])
    made.run(batches_of(20_000))
    check_exact(made, 20_000, {})


def crashes_from_outside_convict_nobody():
    """Servers killed every few seconds convict nobody, and a drain is honoured."""
    for seed in range(4):
        made = world(2, seed, b_s=2e-4, down_s=0.7)
        for number in range(8):
            server = made.servers[number % 2]
            made.after(0.3 + 1.1 * number, lambda server=server: server.is_up and server.die())
        made.after(0.2, lambda made=made: setattr(made.servers[1], "is_leaving", True))
        made.after(0.5, lambda made=made: setattr(made.servers[1], "is_leaving", False))
        made.run(batches_of(60_000))
        check_exact(made, 60_000, {})


def stub_death_is_mended():
    """A model's process that died is mended and nobody is blamed."""
    made = world(1)

    def die():
        made.servers[0].is_sick = True

    made.after(0.1, die)
    made.run(batches_of(20_000))
    check_exact(made, 20_000, {})
    assert made.now < 20


def hang_of_the_whole_server():
    """A server that stops for some seconds among others is left alone, then used again."""
    made = world(3, b_s=2e-4)
    made.after(2.0, lambda: setattr(made.servers[0], "slow", 2000.0))
    made.after(30.0, lambda: setattr(made.servers[0], "slow", 1.0))
    made.run(batches_of(400_000))
    check_exact(made, 400_000, {})


def endpoints_come_and_go():
    """A new endpoint is asked first and then used; one that goes is used no more."""
    dispatch = Dispatch(pinned(8), ["a:1"], 64)
    dispatch.add([Batch(0, 64 * index, 64) for index in range(40)], 8)
    first = dispatch.step(0.0)
    for action in first:
        dispatch.succeeded(action.request_id, 0.1)
    index = dispatch.add_endpoint("b:1")
    actions = dispatch.step(0.1)
    probes = [each for each in actions if isinstance(each, Probe)]
    assert [each.endpoint for each in probes] == [index]
    assert probes[0].asks
    assert not [each for each in actions if isinstance(each, Send) and each.endpoint == index]
    dispatch.succeeded(probes[0].request_id, 0.2)
    for action in actions:
        if isinstance(action, Send):
            dispatch.succeeded(action.request_id, 0.2)
    assert {each.endpoint for each in dispatch.step(0.2)} == {0, index}
    dispatch.retire_endpoint(0, "its name no longer says so", 0.3)
    for request_id in list(dispatch._queue.in_flight):
        dispatch.succeeded(request_id, 0.3)
    while not dispatch.idle:
        for action in dispatch.step(0.4):
            assert action.endpoint == index, "who is gone gets nothing"
            dispatch.succeeded(action.request_id, 0.5)


def full_batches_that_fail_cost_no_row():
    """Where full batches never pass, only poison fails, and it is said once."""
    for seed, (memory_rows, bad, neighbour, servers) in enumerate(
        (
            (40, {}, None, 1),
            (16, {}, None, 1),
            (40, {}, None, 3),
            (40, {(0, 700): "raise", (0, 1999): "refuse"}, None, 1),
            (40, {(0, 0): "raise", (0, 900): "wrong"}, "raise", 2),
        )
    ):
        made = world(servers, seed, poison=bad, memory_rows=memory_rows)
        made.annoy(100, 5.0, neighbour, 0.1 if neighbour else 0.0)
        made.run(batches_of(2000, 16))
        check_exact(made, 2000, bad)
        assert made.now < 120, made.now
        told = [text for text in made.said if "full batches of 64 rows" in text]
        assert 1 <= len(told) == len(set(told)) <= servers, made.said
    # Requests that are full themselves never pass either, until they are cut.
    made = world(1, memory_rows=40)
    made.run(batches_of(500))
    check_exact(made, 500, {})
    # A server that is mended after a control has failed teaches nothing.
    made = world(1)
    (server,), take = made.servers, made.servers[0].take

    def mended(request):
        take(request)
        if server.is_broken and request.rows == frozenset([made.control]):
            made.after(0.05, lambda: setattr(server, "is_broken", False))

    server.take = mended
    made.after(0.05, lambda: setattr(server, "is_broken", True))
    made.run(batches_of(20_000))
    check_exact(made, 20_000, {})
    assert not server.is_broken
    assert not made.said, made.said


def a_small_memory_narrows_nobody_else():
    """Where full batches fail at one endpoint, suspects are judged at others as ever, and fast."""
    bad = {(0, 700): "raise"}
    for batch_rows in (16, 64):
        good = world(2).run(batches_of(40_000, batch_rows))
        made = world(3, poison=bad)
        made.servers[0].memory_rows = 40
        filled, carry_out = [], made._carry_out

        def watched(action, filled=filled, carry_out=carry_out):
            if isinstance(action, Send) and rows_of(action.batch) == [(0, 700)]:
                filled.append((action.endpoint, action.is_filled))
            carry_out(action)

        made._carry_out = watched
        made.run(batches_of(40_000, batch_rows))
        check_exact(made, 40_000, bad)
        assert [text for text in made.said if "at s0:1" in text] == made.said
        assert made.now <= good.now, (batch_rows, made.now, good.now)
        assert len(filled) <= 6, "it is convicted as soon as where all take full batches"
    # Where the others go away, suspects are judged at the small one, and by others again after.
    bad = {(0, row): "raise" for row in range(0, 40_000, 1999)}
    made = world(2, poison=bad)
    made.servers[0].memory_rows = 40
    for away_s in (0.5, 2.5):
        made.after(away_s, lambda: made.servers[1].die(1.5))
    made.run(batches_of(40_000, 8))
    check_exact(made, 40_000, bad)
