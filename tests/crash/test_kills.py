"""Killed at any moment, any number of times: every row once, in order, the bytes of a clean run.

The runs are the real command line against the real server, which stays up. A kill strikes at the
N-th system call, or at a moment of chance.
"""

import random
import shutil
import signal
import time
from dataclasses import replace

import numpy as np
import pyarrow.dataset as ds
import pytest
import tritonclient.grpc as grpcclient

from tests.crash import jobs, strace

pytestmark = [pytest.mark.live, pytest.mark.ci, pytest.mark.timeout(3600)]

MORE_KILLS_MAX = 2
KILLS_MAX = 20


def kill_and_go_on(job, forks, folder, point, dice, bug=""):
    """Kill a run at a call, perhaps later ones too, and go on.

    Return whether the call was reached, and what is wrong then.
    """
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    run = forks.start(job.words(out), folder, stop_at=out, bug=bug)
    assert run.until_stopped(), run.said
    strace.inject(run, point[0], point[1], "signal=SIGKILL")
    code = run.wait()
    assert code in (0, -signal.SIGKILL), run.said
    found = jobs.faults(out) if out.exists() else []
    for _ in range(dice.randint(0, MORE_KILLS_MAX)):
        run = forks.start(job.words(out), folder)
        time.sleep(dice.uniform(0, 0.3))
        run.send(signal.SIGKILL)
        run.wait()
        found += jobs.faults(out) if out.exists() else []
    run = forks.start(job.words(out), folder)
    if run.wait() != 0:
        found.append(run.said)
    return code != 0, found


def test_a_run_killed_at_any_call_is_gone_on_with(job, forks, clean, calls, folder, tally, cases):
    dice, killed = random.Random(1), 0
    points = [(call, number) for call, most in calls.items() for number in range(1, most + 1)]
    wanted = cases(60, 1000)
    # Every call at least once; again with other later kills where there are fewer points.
    first = [(call, dice.randint(1, most)) for call, most in calls.items()]
    rest = dice.sample(points, len(points)) * (2 * wanted // len(points) + 1)
    for point in first + rest:
        was_killed, found = kill_and_go_on(job, forks, folder, point, dice)
        assert not found, (point, found)
        assert jobs.digests(folder / "out") == clean, point
        # Threads share the calls otherwise from run to run: not every one is reached.
        if was_killed:
            tally("P1, P2: killed at a system call")
            killed += 1
        if killed == wanted:
            break
    assert killed == wanted


@pytest.mark.parametrize("bug", ["parts are written in place", "the manifest is early"])
def test_a_bug_is_found_by_kills_at_calls(bug, job, forks, clean, calls, folder, tally):
    call = "write" if "place" in bug else "fsync"
    for number in range(2, 40):
        _, found = kill_and_go_on(job, forks, folder, (call, number), random.Random(0), bug)
        if found or jobs.digests(folder / "out") != clean:
            tally(f"P1: seeded bug found: {bug}")
            return
    raise AssertionError("the bug was not found")


def test_jobs_killed_at_random_moments_end_as_undisturbed_ones(
    slow, forks, slow_clean, folder, tally, cases
):
    dice, (clean, clean_s) = random.Random(2), slow_clean
    for number in range(cases(5, 100)):
        out = folder / f"out-{number}"
        for _ in range(dice.randint(5, KILLS_MAX)):
            run = forks.start(slow.words(out), folder)
            time.sleep(dice.uniform(0, clean_s / 4))
            run.send(signal.SIGKILL)
            if run.wait():
                tally("P1: kills at random moments")
            assert not out.exists() or not jobs.faults(out)
        run = forks.start(slow.words(out), folder)
        assert run.wait() == 0, run.said
        assert jobs.digests(out) == clean
        shutil.rmtree(out)
        tally("P1, P2: jobs killed at random moments")


BATCH_ROWS = (1, 3, 7, 8, 16, 17, 64, 100, 128, 256)


def measured_variance(model, endpoint):
    """Return by how much the model's answers to each row differ with the rows that it comes with.

    Asked while nobody else asks: a request then is a batch.
    """
    values = np.arange(4 * jobs.ROWS, dtype=np.float32).reshape(-1, 4)
    least, most = np.full_like(values, np.inf), np.full_like(values, -np.inf)
    with grpcclient.InferenceServerClient(endpoint) as client:
        for rows in BATCH_ROWS:
            # Of the smallest batches a few rows tell enough: what varies is a factor.
            for begin in range(0, jobs.ROWS if rows > 8 else 64 * rows, rows):
                piece = values[begin : begin + rows]
                tensor = grpcclient.InferInput("x", piece.shape, "FP32")
                tensor.set_data_from_numpy(piece)
                answer = client.infer(model, [tensor]).as_numpy("y")
                span = slice(begin, begin + len(piece))
                least[span] = np.minimum(least[span], answer)
                most[span] = np.maximum(most[span], answer)
    # A row's own variance, where it was seen in all sizes; relative for the others.
    seen = slice(1, 64)
    share = ((most - least)[seen] / np.abs(most[seen])).max()
    return np.maximum(most - least, share * np.abs(most))


def predictions(out):
    return np.array(ds.dataset(out).to_table()["y"].to_pylist())


@pytest.mark.parametrize("batch_rows", [256, 32])
def test_a_model_that_varies_with_its_batch_varies_no_more_when_killed(
    batch_rows, job, forks, folder, tally
):
    job, dice = replace(job, model="varying"), random.Random(10)
    words = {name: job.words(folder / name, "--batch-rows", str(batch_rows))
             for name in ("clean", "killed")}  # fmt: skip
    began = time.monotonic()
    run = forks.start(words["clean"], folder)
    assert run.wait() == 0, run.said
    clean_s = time.monotonic() - began
    for _ in range(5):
        run = forks.start(words["killed"], folder)
        time.sleep(dice.uniform(0, clean_s / 2))
        run.send(signal.SIGKILL)
        run.wait()
        assert not (folder / "killed").exists() or not jobs.faults(folder / "killed")
    run = forks.start(words["killed"], folder)
    assert run.wait() == 0, run.said
    if batch_rows == 256:
        # Requests of as many rows as the model takes at once share their batch with nobody.
        assert jobs.digests(folder / "killed") == jobs.digests(folder / "clean")
    variance = measured_variance("varying", job.endpoint)
    assert variance.max() > 0, "the model is meant to vary"
    difference = np.abs(predictions(folder / "killed") - predictions(folder / "clean"))
    assert (difference <= variance).all()
    tally(f"P2: a batch-variant model, {batch_rows} rows a request")


def test_parts_that_differ_from_run_to_run_are_found(job, forks, clean, folder, tally):
    run = forks.start(job.words(folder / "out"), folder, bug="parts tell the time")
    assert run.wait() == 0, run.said
    assert jobs.digests(folder / "out") != clean
    tally("P2: seeded bug found: parts tell the time")
