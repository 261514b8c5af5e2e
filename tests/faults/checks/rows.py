"""Rows: who is to blame is convicted, and nobody else."""

from __future__ import annotations

from dataclasses import replace

from tests.faults.checks.worlds import LIMITS, poison, poison_at, world
from tests.faults.simulated import KINDS, RAISED, REFUSED, SICK, batches_of, check_exact, rows_of
from tritonbulk.dispatch import Failure, Send, isolation
from tritonbulk.dispatch import policy as policy_module
from tritonbulk.errors import FailureLimitError


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


def limits_stop_a_quarantine():
    """More failed rows than allowed stop the run, one is enough if none may fail."""
    bad = poison_at("anywhere", 0.2, 2000, "raise")
    for allowed in (0, 10):
        made = world(1, poison=bad, limits=replace(LIMITS, failed_rows_max=allowed))
        made.run(batches_of(2000))
        assert isinstance(made.aborted, FailureLimitError)
        assert made.aborted.exit_code == 4
        assert len(made.failed) == allowed + 1


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
