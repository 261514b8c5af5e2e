"""Load: how much is sent where, how often again, and how long it may take."""

from __future__ import annotations

from dataclasses import replace

from tests.faults.checks.worlds import LIMITS, pinned, world
from tests.faults.simulated import FULL, RAISED, batches_of, check_exact
from tritonbulk.dispatch import Failure
from tritonbulk.dispatch.machine import Dispatch
from tritonbulk.segments import Batch


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
    assert timeouts[0] == 300.0, "nothing is known"
    assert timeouts[1] == timeouts[19] == 60.0, "twenty times the slowest, but at least a minute"
    assert timeouts[-1] == 12.0
    (send,) = dispatch.step(now)
    dispatch.failed(send.request_id, Failure(4, "DEADLINE_EXCEEDED", "late"), now + 12)
    (again,) = dispatch.step(now + 12)
    assert again.batch == send.batch
    assert again.timeout_s > 12.0


def deadlines_of_the_first_requests():
    """A hang among the first requests costs a minute, and a slow model as long as it takes."""
    bad = {(0, 70): "hang"}
    made = world(1, poison=bad, hang_s=10.0**9, limits=replace(LIMITS, attempt_s_max=300.0))
    made.run(batches_of(640))
    check_exact(made, 640, bad)
    assert made.now < 6000, made.now
    made = world(1, a_s=100.0, limits=replace(LIMITS, attempt_s_max=3000.0))
    made.run(batches_of(640))
    check_exact(made, 640, {})
    assert made.sends == 10, "nothing is sent twice"
    assert made.dispatch._deadlines.deadline_s(64) > 2000


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
