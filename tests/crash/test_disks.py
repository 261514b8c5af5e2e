"""Disks that fail: a sentence and exit code 3, no half a part, and the next run goes on."""

import errno
import os
import random
import shutil
import subprocess
from dataclasses import replace

import pytest

from tests.crash import forgetful, jobs, program, strace
from tritonbulk.errors import SinkError
from tritonbulk.options import ScoreOptions

pytestmark = [pytest.mark.live, pytest.mark.ci, pytest.mark.timeout(1800)]

PART_BYTES = 12_000
"""About the size of a part here."""


def check_failed(run, out):
    """Check that a run ended well, or badly with one sentence, and left nothing half-done."""
    code = run.wait()
    assert code in (0, 3), run.said
    assert "Traceback" not in run.said
    if code:
        assert run.said.splitlines()[-1].startswith("tritonbulk: ")
        assert "then run again" in run.said.splitlines()[-1]
    assert not out.exists() or not jobs.faults(out)
    return code


def check_next(job, forks, folder, out, clean):
    run = forks.start(job.words(out), folder)
    assert run.wait() == 0, run.said
    assert jobs.digests(out) == clean


def test_calls_that_fail(job, forks, clean, calls, folder, tally, cases):
    dice, out = random.Random(5), folder / "out"
    failures = [
        (call, number, error)
        for call, errors in {
            "fsync": ("EIO", "ENOSPC", "EDQUOT"),
            "linkat": ("EIO", "ENOSPC", "EPERM", "EROFS"),
            "link": ("EIO", "ENOSPC", "EPERM", "EROFS"),
            "mkdir": ("EIO", "EACCES", "EROFS"),
        }.items()
        for number in range(1, calls.get(call, 0) + 1)
        for error in errors
    ]
    wanted, codes = cases(24, 330), []
    for call, number, error in dice.choices(failures, k=wanted):
        run = forks.start(job.words(out), folder, stop_at=out)
        assert run.until_stopped()
        strace.inject(run, call, number, f"error={error}")
        codes.append(check_failed(run, out))
        check_next(job, forks, folder, out, clean)
        shutil.rmtree(out)
        tally("P9: a system call fails")
    # Where links are refused, files are renamed; a folder that another thread makes is not missed.
    assert codes.count(3) >= wanted // 2, "the faults hit nothing"
    tally("P9: of which ended the run", codes.count(3))


FAILURES = {
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "create": (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS),
    "open": (errno.EIO, errno.EMFILE),
    "unlink": (errno.EIO, errno.EACCES),
    "link": (errno.EIO, errno.ENOSPC, errno.EMLINK),
    "fsync": (errno.EIO, errno.ENOSPC),
    "fsyncdir": (errno.EIO,),
    "mkdir": (errno.EIO, errno.ENOSPC),
    "read": (errno.EIO,),
}
LAST = {"mkdir": 3, "read": 20}
"""The last call that is made to fail; of the others one of the first `LATER` is."""

LATER = 12


def what_ended(work, *given):
    """Return the sentence that a piece of work ended with, "" if it came to its end."""
    try:
        work(*given)
    except SinkError as error:
        return str(error)
    return ""


def check_visible(out):
    try:
        assert not out.exists() or not jobs.faults(out)
    except OSError as error:
        raise SinkError(str(error)) from error


def test_files_of_the_output_whose_calls_fail(folder, tally, cases):
    """A disk of ours fails at one operation on the output's own files, at no other."""
    if why := forgetful.missing():
        pytest.skip(f"a disk whose calls fail: {why}")
    rows = jobs.write_rows(folder / "rows.parquet", 240)
    asked = {"input_map": {"x": ("a",)}, "segment_rows": 40, "batch_rows": 16}
    clean = ScoreOptions(inputs=(str(rows),), model="m", out=folder / "clean", **asked)
    program.run(clean)
    expected, dice, ended = jobs.digests(folder / "clean"), random.Random(11), 0
    for _ in range(cases(30, 300)):
        operation = dice.choice(list(FAILURES))
        number = dice.randint(1, LAST.get(operation, LATER))
        failure = (operation, number, dice.choice(FAILURES[operation]))
        with forgetful.mounted(folder, {}, failure) as (disk, _):
            options = replace(clean, out=disk / "out")
            if said := what_ended(program.run, options):
                assert "then run again" in said, failure
                ended += 1
            # The failure may be still to come, and hit whoever looks, or the next run.
            what_ended(check_visible, disk / "out")
            what_ended(program.run, options)
            program.run(options)
            check_visible(disk / "out")
            assert jobs.digests(disk / "out") == expected, failure
        tally("P9: a call to a file of the output fails")
    assert ended >= cases(30, 300) // 4, "the faults hit nothing"
    tally("P9: of these, ended the run", ended)


@pytest.fixture
def small_disk(folder):
    """Give a function that mounts a file system of so many kilobytes."""
    mounted = []

    def mount(kilobytes, *options):
        path = folder / f"disk-{len(mounted)}"
        path.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={kilobytes}k", *options))]
        if os.geteuid() or subprocess.run([*words, "tmpfs", path], check=False).returncode:
            pytest.skip("small disks: this user cannot mount a tmpfs")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", path], check=True)


def test_disks_that_fill_up(job, forks, clean, small_disk, folder, tally, cases):
    steps = cases(10, 50)
    full = 0
    for step in range(steps):
        disk = small_disk(16 + step * (200 // steps))
        out = disk / "out"
        run = forks.start(job.words(out), folder)
        code = check_failed(run, out)
        if code:
            assert "the disk is full" in run.said
            full += 1
            subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
        check_next(job, forks, folder, out, clean)
        tally("P9: the disk fills up")
    assert full >= steps // 3


def test_a_disk_that_turns_read_only(job, forks, clean, small_disk, folder, tally):
    disk = small_disk(10_000)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    run = forks.start(job.words(disk / "out"), folder)
    assert check_failed(run, disk / "out") == 3
    assert "read-only" in run.said
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    check_next(job, forks, folder, disk / "out", clean)
    tally("P9: the disk is read-only")


def test_files_that_may_not_grow(job, forks, clean, folder, tally, cases):
    out = folder / "out"
    for step in range(cases(6, 20)):
        bytes_max = 500 + step * PART_BYTES // 5
        run = forks.start(job.words(out), folder, file_bytes_max=bytes_max)
        if check_failed(run, out):
            assert "ulimit -f" in run.said
        check_next(job, forks, folder, out, clean)
        shutil.rmtree(out)
        tally("P9: files may not grow")


def test_short_writes_that_go_unseen_are_found(job, forks, folder, tally):
    out = folder / "out"
    run = forks.start(job.words(out), folder, file_bytes_max=4_000, bug="short writes go unseen")
    run.wait()
    assert jobs.faults(out)
    tally("P9: seeded bug found: short writes go unseen")
