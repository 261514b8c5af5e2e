"""SIGINT and SIGTERM at any moment: what is complete is committed, and the same command goes on."""

import random
import shutil
import signal
import time

import pytest

from tests.crash import jobs

pytestmark = [pytest.mark.live, pytest.mark.ci, pytest.mark.timeout(1800)]

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
STOP_S_MAX = 10.0
"""A stop takes no longer, of which 5 s are the grace that the runs are given."""


def stop(job, forks, folder, dice, clean_s, bug=""):
    """Send a signal at a moment of chance; return (code, code expected, what it said)."""
    number = dice.choice(list(CODES))
    words = job.words(folder / "out", "--stop-grace", "5", "--batch-rows", "8")
    run = forks.start(words, folder, bug=bug, stop_at=folder / "out")
    assert run.until_stopped()
    run.send(signal.SIGCONT)
    time.sleep(dice.uniform(0, clean_s))
    run.send(number)
    began = time.monotonic()
    code = run.wait()
    assert time.monotonic() - began < STOP_S_MAX
    return code, CODES[number], run.said


@pytest.fixture(scope="module")
def clean(job, forks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    began = time.monotonic()
    run = forks.start(job.words(folder / "out", "--batch-rows", "8"), folder)
    assert run.wait() == 0, run.said
    return jobs.digests(folder / "out"), time.monotonic() - began


def test_a_signal_at_any_moment_commits_what_is_complete(job, forks, clean, folder, tally, cases):
    dice, out, stopped = random.Random(3), folder / "out", 0
    for _ in range(cases(20, 200)):
        code, expected, said = stop(job, forks, folder, dice, clean[1])
        assert code in (0, expected), said
        assert "Traceback" not in said
        stopped += code != 0
        if code and "stopped with" in said:
            assert "to go on: tritonbulk score" in said
        assert not out.exists() or not jobs.faults(out)
        run = forks.start(job.words(out, "--batch-rows", "8"), folder)
        assert run.wait() == 0, run.said
        assert jobs.digests(out) == clean[0]
        shutil.rmtree(out)
        tally("P15: signals at random moments")
    assert stopped >= 5, "the signals came too late to stop anything"


def test_deaf_runs_are_found(job, forks, clean, folder, tally):
    dice = random.Random(3)
    codes = set()
    for _ in range(5):
        codes.add(stop(job, forks, folder, dice, clean[1], "signals are ignored")[0])
        shutil.rmtree(folder / "out", ignore_errors=True)
    assert codes == {0}
    tally("P15: seeded bug found: signals are ignored")
