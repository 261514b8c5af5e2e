"""What is promised about faults, each promise as a function over simulated servers that raises.

The tests run them over the product as it is, and over the product with one bug seeded.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

from tests.faults.simulated import (
    FULL,
    KINDS,
    RAISED,
    REFUSED,
    SICK,
    World,
    batches_of,
    check_exact,
    rows_of,
)
from tritonbulk.dispatch import Failure, Limits, Probe, Send, isolation
from tritonbulk.dispatch import policy as policy_module
from tritonbulk.dispatch.machine import Dispatch
from tritonbulk.errors import AnswerError, FailureLimitError, ModelError, OutageError
from tritonbulk.segments import Batch

LIMITS = Limits(900.0, 10**9, attempt_s_max=20.0)


def pinned(requests):
    """The limits, with so many requests in flight."""
    return replace(LIMITS, window_start=requests, window_max=requests, requests_max=requests)


def world(servers=1, seed=0, limits=LIMITS, **given):
    made = World(limits, seed=seed)
    for index in range(servers):
        made.server(f"s{index}:1", **given)
    return made


def poison_at(place, rate, rows, kind, seed=0):
    count = max(1, int(rows * rate))
    where = {
        "first": range(count),
        "last": range(rows - count, rows),
        "anywhere": random.Random(seed).sample(range(rows), count),
    }[place]
    return {(0, row): kind for row in where}


def poison(kind, rate=0.01, place="anywhere", servers=1, seed=0, rows=2000, neighbour=None):
    """Every row to blame is convicted, and no other, whoever else sends what."""
    bad = poison_at(place, rate, rows, kind, seed)
    made = world(servers, seed, poison=bad, hang_s=60.0)
    made.annoy(100, 5.0, neighbour, 0.1 if neighbour else 0.0)
    made.run(batches_of(rows))
    check_exact(made, rows, bad)
    return made


def convictions_are_proven():
    """A row is failed after three strikes, each between two controls at one endpoint."""
    bad = {(0, 77): "raise"}
    for trial in range(10):
        made = world(servers=1, seed=trial, poison=bad)
        made.run(batches_of(200))
        check_exact(made, 200, bad)
    # The same row, but it fails only the first time it stands alone: not to blame.
    for kind, failure in (("INTERNAL", RAISED), ("refused", REFUSED)):
        made = world(servers=1)
        alone = 0
        take = made.servers[0].take

        def flaky(request, failure=failure, take=take, made=made):
            nonlocal alone
            if (0, 77) in request.rows and (len(request.rows) > 1 or alone < 2):
                alone += len(request.rows) == 1
                made.after(0.005, lambda: request.done(failure))
            else:
                take(request)

        made.servers[0].take = flaky
        made.run(batches_of(200))
        check_exact(made, 200, {})
        assert alone == 2, f"{kind}: a row that fails twice is asked a third time"


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


def full_queue_is_no_storm():
    """Short queues are not stormed: refusals stay below 1 % of what is answered."""
    for queue in (1, 2, 4, 8):
        made = world(1, queue_max=queue)
        made.run(batches_of(200_000))
        check_exact(made, 200_000, {})
        assert made.refusals <= 0.01 * made.answers + 20, (queue, made.refusals, made.answers)
    # On a busy machine the batcher comes late, and a queue of one place is full most of the time.
    for queue, pick_s in ((1, 0.002), (1, 0.02), (2, 0.005), (4, 0.1)):
        made = world(1, queue_max=queue, pick_s=pick_s)
        made.run(batches_of(8000, 16))
        check_exact(made, 8000, {})
        assert made.refusals <= 0.01 * made.answers + 5, (queue, pick_s, made.refusals)


def a_short_queue_narrows_nobody_else():
    """One endpoint with a short queue and two good ones are faster than these two alone."""
    for pinned_to in (None, 48):
        for queue, seed in ((1, 0), (4, 1)):
            limits = LIMITS if pinned_to is None else pinned(pinned_to)
            good = world(2, seed, limits).run(batches_of(40_000, 8))
            made = world(3, seed, limits)
            made.servers[0].queue_max = queue
            made.run(batches_of(40_000, 8))
            check_exact(made, 40_000, {})
            assert made.now <= 0.98 * good.now, (pinned_to, queue, made.now, good.now)
            assert made.refusals <= 0.01 * made.answers + 20, (pinned_to, queue, made.refusals)


def storm_of_others_is_waited_out():
    """A queue that others keep full for a while is asked ever more seldom, and then used again."""
    made = world(1, queue_max=4)
    take = made.servers[0].take
    made.servers[0].take = lambda request: (
        request.done(FULL) if 1.0 < made.now < 21.0 else take(request)
    )
    made.run(batches_of(400_000))
    check_exact(made, 400_000, {})
    storm = [at for at, _ in made.progress if at > 21.0]
    assert made.refusals <= 40 * 20, "at most so many a second"
    assert storm[0] <= 23.0, "used again within 2 s"


def retries_are_never_the_storm():
    """Where two of five requests fail at first, their retries stay within the quota."""
    made = world(1)
    seen = set()

    def often(request):
        is_new = min(request.rows) not in seen
        seen.add(min(request.rows))
        fails = is_new and min(request.rows)[1] // 64 % 5 < 2
        made.after(0.001, lambda: request.done(RAISED if fails else None))

    made.servers[0].take = often
    made.run(batches_of(10**6), until_s=60)
    retries = made.sends - len(seen)
    assert retries > 100
    assert retries <= 100 + len(made.progress) / 5 + 10 * made.now + 20


def balance(servers=4):
    """Four accelerators, one four times slower, one away for 10 s: ≥ 0.93 of the ideal rate."""
    made = world(servers, a_s=0.02, b_s=5e-5)
    made.servers[0].slow = 4.0
    rows, away = 400_000, (4.0, 14.0)
    made.after(away[0], lambda: made.servers[1].die(away[1] - away[0]))
    made.run(batches_of(rows))
    check_exact(made, rows, {})
    one = 64 / ((0.02 + 5e-5 * 64) * 1.025)
    ideal = one * (made.now * 2.25 + max(made.now - (away[1] - away[0]), 0))
    return rows / ideal


def balance_is_good():
    """See `balance`."""
    share = balance()
    assert share >= 0.93, share


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


def limits_stop_a_quarantine():
    """More failed rows than allowed stop the run, one is enough if none may fail."""
    bad = poison_at("anywhere", 0.2, 2000, "raise")
    for allowed in (0, 10):
        made = world(1, poison=bad, limits=replace(LIMITS, failed_rows_max=allowed))
        made.run(batches_of(2000))
        assert isinstance(made.aborted, FailureLimitError)
        assert made.aborted.exit_code == 4
        assert len(made.failed) == allowed + 1


def deadlines_adapt():
    """An attempt has four times what its like took, at least 5 s, and longer after each time."""
    dispatch = Dispatch(replace(pinned(1), attempt_s_max=300.0), ["a:1"], 64)
    dispatch.add([Batch(0, 64 * index, 64) for index in range(60)], 8)
    now, timeouts = 0.0, []
    for _ in range(40):
        (send,) = dispatch.step(now)
        timeouts.append(send.timeout_s)
        now += 3.0
        dispatch.succeeded(send.request_id, now)
    assert timeouts[0] == 300.0
    assert timeouts[-1] == 12.0
    (send,) = dispatch.step(now)
    dispatch.failed(send.request_id, Failure(4, "DEADLINE_EXCEEDED", "late"), now + 12)
    (again,) = dispatch.step(now + 12)
    assert again.batch == send.batch
    assert again.timeout_s > 12.0


def a_message_too_large_is_halved():
    """What is larger than the server takes is sent in halves, unpadded."""
    made = world(1)
    take = made.servers[0].take
    big = Failure(8, "RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (9 vs. 4)")
    made.servers[0].take = lambda request: (
        made.after(0.001, lambda: request.done(big)) if request.count > 10 else take(request)
    )
    made.fill_rows = 20
    made.run(batches_of(2000))
    check_exact(made, 2000, {})
    assert not made.probes, "nobody is suspected"


def suspects_are_sent_apart():
    """What failed is repeated to a full batch; what may kill is alone at its endpoint."""
    bad = {(0, 100): "raise", (0, 900): "kill stub"}
    made = world(1, poison=bad)
    seen = []
    carry_out = made._carry_out

    def watched(action):
        if isinstance(action, Send):
            others = len(made.dispatch._queue.in_flight) - 1
            seen.append((set(rows_of(action.batch)), action.is_filled, others))
        carry_out(action)

    made._carry_out = watched
    made.run(batches_of(2000))
    check_exact(made, 2000, bad)
    singles = [each for each in seen if each[0] in ({(0, 100)}, {(0, 900)})]
    assert len([each for each in singles if each[0] == {(0, 100)}]) == 3
    assert len([each for each in singles if each[0] == {(0, 900)}]) == 2
    assert all(filled for _, filled, _ in singles)
    assert all(others == 0 for rows, _, others in singles if rows == {(0, 900)})


def table_is_right():
    """The table of texts says what the real server's words mean."""
    meaning = policy_module.meaning
    said = {
        RAISED: "suspect",
        REFUSED: "rejected",
        SICK: "sick",
        Failure(14, "UNAVAILABLE", "Stream removed (Socket closed)"): "lost",
        Failure(14, "UNAVAILABLE", "failed to connect to all addresses; recvmsg"): "away",
        Failure(14, "UNAVAILABLE", "model 'm' version 1 is not at ready state"): "away",
        Failure(5, "NOT_FOUND", "unknown model: 'm' has no available versions"): "away",
        Failure(5, "NOT_FOUND", "no such customer"): "rejected",
        Failure(12, "UNIMPLEMENTED", "row refused"): "rejected",
        Failure(14, "UNAVAILABLE", "Request timeout expired"): "busy",
        Failure(8, "RESOURCE_EXHAUSTED", "quota"): "busy",
        Failure(4, "DEADLINE_EXCEEDED", "Deadline Exceeded"): "late",
    }
    for failure, expected in said.items():
        assert meaning(failure).value == expected, failure


def sentences_are_the_same_in_every_run():
    """What stands in the output does not tell how a connection happened to break."""
    for text in ("Socket closed", "recvmsg:Connection reset by peer"):
        failure = isolation.sentence(Failure(14, "UNAVAILABLE", text))
        assert failure.text == "the server died each time this row was sent alone"


def hang_is_convicted():
    """A row that never ends is found by being sent alone, and the others are scored."""
    poison("hang", rate=0.001, rows=1000)


def hang_for_ever_is_convicted():
    """A row in which a server is stuck for ever is found, where the server is started again."""
    for seed in range(3):
        bad = poison_at("anywhere", 0.001, 3000, "hang", seed)
        made = world(1, seed, poison=bad, hang_s=10.0**9)
        made.run(batches_of(3000))
        check_exact(made, 3000, bad)
    # With the time-out as it is if nobody says, and in a last batch of another size.
    bad = {(0, 15_000): "hang", (0, 19_990): "hang"}
    limits = replace(LIMITS, attempt_s_max=300.0)
    made = world(1, poison=bad, hang_s=10.0**9, limits=limits)
    made.run(batches_of(20_000))
    check_exact(made, 20_000, bad)


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


QUICK_POISON = tuple(
    (kind, place, servers, neighbour)
    for kind in KINDS
    for place, servers, neighbour in (("first", 1, None), ("anywhere", 3, "raise"))
)


def poison_of_every_kind():
    """See `poison`, for every kind."""
    for kind, place, servers, neighbour in QUICK_POISON:
        rate = 0.002 if kind in ("hang", "kill server", "kill stub") else 0.01
        poison(kind, rate, place, servers, neighbour=neighbour)


CHECKS = (
    table_is_right,
    sentences_are_the_same_in_every_run,
    endpoints_come_and_go,
    deadlines_adapt,
    suspects_are_sent_apart,
    hang_is_convicted,
    hang_for_ever_is_convicted,
    convictions_are_proven,
    permanent_faults_stop,
    contract_error_stops_the_first_time_only,
    broken_from_the_start_ends_at_once,
    limits_stop_a_quarantine,
    a_message_too_large_is_halved,
    outage_ends_after_its_time,
    outage_is_ridden_out,
    stub_death_is_mended,
    sick_server_convicts_nobody,
    full_batches_that_fail_cost_no_row,
    a_small_memory_narrows_nobody_else,
    crashes_from_outside_convict_nobody,
    poison_of_every_kind,
    storm_of_others_is_waited_out,
    full_queue_is_no_storm,
    a_short_queue_narrows_nobody_else,
    retries_are_never_the_storm,
    hang_of_the_whole_server,
    balance_is_good,
)
