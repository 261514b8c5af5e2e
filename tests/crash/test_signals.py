"""SIGINT and SIGTERM at any moment: what is complete is committed, and the same command goes on."""

import random
import shutil
import signal
import time

import pytest

from tests.crash import jobs

pytestmark = [pytest.mark.live, pytest.mark.ci, pytest.mark.timeout(1800)]

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
GRACES_S = ("0.01", "5")
LATEST = 1.2
"""The last moments are after the end: a run that has just ended hears signals as well."""

STOP_S_MAX = 10.0
"""A stop takes no longer, the grace included."""


def stop(slow, forks, folder, dice, clean_s, bug=""):
    """Send a signal at a moment of chance; return (code, code expected, what it said)."""
    number = dice.choice(list(CODES))
    words = slow.words(folder / "out", "--stop-grace", dice.choice(GRACES_S))
    run = forks.start(words, folder, bug=bug, stop_at=folder / "out")
    assert run.until_stopped()
    run.send(signal.SIGCONT)
    time.sleep(dice.uniform(0, clean_s * LATEST))
    run.send(number)
    began = time.monotonic()
    code = run.wait()
    assert time.monotonic() - began < STOP_S_MAX
    return code, CODES[number], run.said


def test_a_signal_at_any_moment_commits_what_is_complete(
    slow, forks, slow_clean, folder, tally, cases
):
    dice, out, stopped = random.Random(3), folder / "out", 0
    (clean, clean_s), wanted = slow_clean, cases(20, 200)
    for _ in range(wanted):
        code, expected, said = stop(slow, forks, folder, dice, clean_s)
        assert code in (0, expected), said
        assert "Traceback" not in said
        stopped += code != 0
        if code:
            assert "to go on: tritonbulk score" in said
            parts = len(list(out.glob("part-*")))
            assert f"stopped with {parts} segments" in said or "before the first row" in said
        assert not out.exists() or not jobs.faults(out)
        run = forks.start(slow.words(out), folder)
        assert run.wait() == 0, run.said
        assert jobs.digests(out) == clean
        shutil.rmtree(out)
        tally("P15: signals at random moments")
    assert stopped >= wanted // 4, "the signals came too late to stop anything"
    tally("P15: of which stopped a run", stopped)


def test_deaf_runs_are_found(slow, forks, slow_clean, folder, tally):
    dice = random.Random(3)
    codes = set()
    for _ in range(5):
        codes.add(stop(slow, forks, folder, dice, slow_clean[1], "signals are ignored")[0])
        shutil.rmtree(folder / "out", ignore_errors=True)
    assert codes == {0}
    tally("P15: seeded bug found: signals are ignored")
