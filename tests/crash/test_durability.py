"""What is visible is durable: a crash at any moment, on a disk that forgets what is not synced."""

import random
import shutil

import pytest

from tests.crash import bugs, forgetful, jobs
from tests.crash.program import run
from tritonbulk.options import ScoreOptions

pytestmark = [pytest.mark.ci, pytest.mark.timeout(3600)]

SEGMENTS = 30
SEGMENT_ROWS = 40


@pytest.fixture
def rows(folder):
    if why := forgetful.missing():
        pytest.skip(f"a disk that forgets: {why}")
    return jobs.write_rows(folder / "rows.parquet", SEGMENTS * SEGMENT_ROWS)


def options(rows, out):
    return ScoreOptions(
        inputs=(str(rows),), model="m", out=out, input_map={"x": ("a",)},
        segment_rows=SEGMENT_ROWS, batch_rows=16,
    )  # fmt: skip


def crash_states(rows, folder, begin):
    """Run the job to its end on a disk that forgets; return what crashes on the way would leave."""
    with forgetful.mounted(folder, begin) as (disk, states):
        out = disk / "out"
        run(options(rows, out))
        finished = jobs.digests(out)
    return forgetful.read_states(states), finished


def test_a_crash_at_any_moment_leaves_what_can_be_gone_on_with(rows, folder, tally, cases):
    dice, wanted, seen = random.Random(6), cases(60, 1000), 0
    clean, crashed, begin = folder / "clean", folder / "crashed", {}
    run(options(rows, clean))
    expected = jobs.digests(clean)
    while seen < wanted:
        states, finished = crash_states(rows, folder, begin)
        assert finished == expected
        final = {path: data for path, data in states[-1].items() if "part-" in path}
        assert len(final) == SEGMENTS, "a run that ended well has left every part on the disk"
        assert "/out/_tritonbulk/manifest.json" in states[-1]
        for state in states[: wanted - seen]:
            shutil.rmtree(crashed, ignore_errors=True)
            forgetful.restore(state, crashed)
            out = crashed / "out"
            assert not out.exists() or not jobs.faults(out)
            run(options(rows, out))
            assert jobs.digests(out) == expected
            seen += 1
            tally("P3: crashes of a disk that forgets")
        # The next round begins from one of these crashes.
        begin = dice.choice(states[: len(states) // 2])


@pytest.mark.parametrize("bug", ["nothing is synced", "files are not synced"])
def test_a_missing_sync_is_found(bug, rows, folder, tally, monkeypatch):
    for target, attribute, value in bugs.BUGS[bug]:
        monkeypatch.setattr(target, attribute, value)
    states, _ = crash_states(rows, folder, {})
    monkeypatch.undo()
    crashed = folder / "crashed"
    forgetful.restore(states[-1], crashed)
    lost = len(list(crashed.glob("out/part-*"))) < SEGMENTS
    assert lost or jobs.faults(crashed / "out")
    tally(f"P3: seeded bug found: {bug}")
