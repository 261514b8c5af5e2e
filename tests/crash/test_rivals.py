"""Two runs of one job, one of them paused: one valid result, the bytes of a clean run."""

import random
import shutil
import signal
import time

import pytest

from tests.crash import jobs

pytestmark = [pytest.mark.live, pytest.mark.ci, pytest.mark.timeout(1800)]

PAUSES_MAX = 4
BUG = "parts are overwritten and tell the time"


def test_two_runs_of_which_one_is_paused_give_one_result(
    slow, forks, slow_clean, folder, tally, cases
):
    dice, out = random.Random(4), folder / "out"
    for _ in range(cases(10, 300)):
        runs = [forks.start(slow.words(out), folder) for _ in range(2)]
        for _ in range(dice.randint(1, PAUSES_MAX)):
            paused = dice.choice(runs)
            time.sleep(dice.uniform(0, 0.1))
            paused.send(signal.SIGSTOP)
            time.sleep(dice.uniform(0, 0.3))
            paused.send(signal.SIGCONT)
        for run in runs:
            assert run.wait() == 0, run.said
        assert not jobs.faults(out)
        assert jobs.digests(out) == slow_clean[0]
        shutil.rmtree(out)
        tally("P17: races of two runs, one paused")


def sleep_through_a_whole_run(slow, forks, folder, bug=""):
    """Pause a run in its midst, let another finish the job, wake the first; return what changes."""
    out = folder / "out"
    sleeper = forks.start(slow.words(out), folder, bug=bug)
    while not list(out.glob("part-*")):
        assert sleeper.poll() is None, sleeper.said
        time.sleep(0.001)
    sleeper.send(signal.SIGSTOP)
    other = forks.start(slow.words(out), folder, bug=bug)
    assert other.wait() == 0, other.said
    finished = jobs.digests(out)
    sleeper.send(signal.SIGCONT)
    sleeper.wait()
    return jobs.faults(out) + [
        name for name, digest in jobs.digests(out).items() if finished.get(name) != digest
    ]


def test_a_run_that_wakes_after_all_is_done_changes_nothing(slow, forks, folder, tally):
    assert not sleep_through_a_whole_run(slow, forks, folder)
    tally("P17: a zombie that wakes when all is done")


def test_a_zombie_that_overwrites_is_found(slow, forks, folder, tally):
    assert sleep_through_a_whole_run(slow, forks, folder, BUG)
    tally("P17: seeded bug found: parts are overwritten")
