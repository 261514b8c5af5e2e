"""Killed at any moment, and several at once: the rows are in a sink once.

The runs are the real command line. A kill strikes at the N-th system call.
"""

import random
import signal

import pytest

from tests.crash import strace
from tests.sinks import jobs
from tests.sinks.places import postgresql as query
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.sinks.publish import publish

pytestmark = [pytest.mark.ci, pytest.mark.timeout(3600)]

HALF = ("--parts-per-commit", "5")


@pytest.fixture
def traced():
    if why := strace.missing():
        pytest.skip(f"system calls that kill: {why}")


def test_killed_at_any_call_and_run_again_is_run_once(
    traced, kind, out, make_place, forks, tmp_path, cases, tally
):
    place, dice = make_place(), random.Random(1)
    run = forks.start(place.words(out, *HALF), tmp_path, stop_at=out)
    assert run.until_stopped(), run.said
    calls = strace.count_calls(run, tmp_path / "calls")
    assert run.wait() == 0, run.said
    assert place.rows() == jobs.rows()
    points = [(call, number) for call, most in calls.items() for number in range(1, most + 1)]
    wanted = cases(12, 150)
    killed = 0
    for point in dice.sample(points, len(points)) * 10:
        place = make_place()
        run = forks.start(place.words(out, *HALF), tmp_path, stop_at=out)
        assert run.until_stopped(), run.said
        strace.inject(run, point[0], point[1], "signal=SIGKILL")
        killed += run.wait() == -signal.SIGKILL
        seen = len(place.rows())
        assert seen in (0, jobs.ROWS // 2, jobs.ROWS), point
        run = forks.start(place.words(out), tmp_path)
        assert run.wait() == 0, (point, run.said)
        assert place.rows() == jobs.rows(), point
        if killed == wanted:
            break
    assert killed == wanted
    tally(f"sinks: {kind}: killed at a system call", killed)


def test_several_at_once_add_each_row_once(kind, out, make_place, forks, tmp_path, cases, tally):
    for _ in range(cases(2, 20)):
        place = make_place()
        runs = [forks.start(place.words(out, *HALF), tmp_path, stop_at=out) for _ in range(3)]
        assert all(run.until_stopped() for run in runs)
        for run in runs:
            run.send(signal.SIGCONT)
        codes = [run.wait(120) for run in runs]
        # One that lost every race says so, and may be run again.
        assert set(codes) <= {0, 3}, [run.said for run in runs]
        assert 0 in codes, [run.said for run in runs]
        run = forks.start(place.words(out), tmp_path)
        assert run.wait() == 0, run.said
        assert place.rows() == jobs.rows()
        tally(f"sinks: {kind}: three at once")


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_a_server_that_ends_our_connection_is_connected_to_again(out, place, postgresql):
    class Cutting(LocalStore):
        """Ends every other connection to the server while the rows are sent."""

        cuts = 0

        def read(self, name):
            if name == "part-00000006.parquet" and Cutting.cuts < 2:
                Cutting.cuts += 1
                query(
                    postgresql,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
                )
            return super().read(name)

    said = []
    publish(Cutting(out), place.open(), say=said.append, sleep=lambda _: None)
    assert Cutting.cuts == 2
    assert len(said) == 2
    assert place.rows() == jobs.rows()
