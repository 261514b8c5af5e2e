"""Corruption is found before use: one flipped bit anywhere in a part, a manifest or a job file."""

import random
import shutil

import pytest

from tests.crash import bugs, jobs
from tests.crash.program import run
from tritonbulk.checking import verify
from tritonbulk.errors import TritonbulkError
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.options import ScoreOptions

pytestmark = [pytest.mark.ci, pytest.mark.timeout(1800)]

ROWS = 300
MANIFEST = "_tritonbulk/manifest.json"


@pytest.fixture
def options(folder):
    rows = jobs.write_rows(folder / "rows.parquet", ROWS)
    return ScoreOptions(
        inputs=(str(rows),), model="m", out=folder / "out", input_map={"x": ("a",)},
        segment_rows=50, batch_rows=16,
    )  # fmt: skip


def flip(path, dice):
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def is_noticed_by_verify(out):
    try:
        return bool(verify(LocalStore(out)).problems)
    except TritonbulkError:
        return True


def test_a_flipped_bit_is_noticed_by_verify_and_by_the_next_run(options, folder, tally, cases):
    dice, out, clean = random.Random(7), folder / "out", folder / "clean"
    run(options)
    out.rename(clean)
    expected = jobs.digests(clean)
    for _ in range(cases(200, 5000)):
        shutil.copytree(clean, out)
        name = dice.choice(sorted(expected))
        flip(out / name, dice)
        assert is_noticed_by_verify(out), name
        if name.startswith("part-"):
            (out / MANIFEST).unlink()
            assert run(options)[:2] == (1, len(expected) - 2)
            assert jobs.digests(out) == expected
            assert list((out / "_tritonbulk" / "damaged").glob(f"{name}.*"))
        else:
            with pytest.raises(TritonbulkError, match="manifest"):
                run(options)
        shutil.rmtree(out)
        tally("P11: flipped bits")


def test_what_is_whole_is_not_complained_of(options):
    run(options)
    assert not is_noticed_by_verify(options.out)


def test_damage_is_missed_without_the_seal(options, folder, tally, monkeypatch):
    dice, out = random.Random(7), folder / "out"
    run(options)
    expected = jobs.digests(out)
    (out / MANIFEST).unlink()
    # In the pages, which nothing but the seal would notice.
    part = out / "part-00000002.parquet"
    data = bytearray(part.read_bytes())
    data[dice.randrange(4, 60)] ^= 1
    part.write_bytes(data)
    for target, attribute, value in bugs.BUGS["the seal is not checked"]:
        monkeypatch.setattr(target, attribute, value)
    run(options)
    assert jobs.digests(out) != expected
    tally("P11: seeded bug found: the seal is not checked")
