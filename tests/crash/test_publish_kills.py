"""P16: killed at any call while publishing, the repository loads in the real server: old or new.

Every kill has an entry of its own in one repository, so that one server judges them all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.crash import strace
from tests.crash.publisher import ROWS, Order, line_of
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk_export.config import from_text
from tritonbulk_export.lint import errors_of, lint_repository

pytestmark = [pytest.mark.live, pytest.mark.ci, pytest.mark.timeout(3600)]

FULL = os.environ.get("TRITONBULK_TEST_FULL") == "1"
CALLS = ("mkdir", "openat", "write", "fsync", "rename", "unlinkat")
POINTS = 1000 if FULL else 4
"""Besides all renames, for each of the four things that change a repository."""

SERVED_MAX = 32
"""Models of one server: each has a process of its own."""

OLD, NEW = 2.0, 3.0
BEFORE = {
    "new": [],
    "update": [("publish", OLD, 1)],
    "tune": [("publish", NEW, 1)],
    "rollback": [("publish", NEW, 1), ("publish", OLD, 2)],
}
"""What was there, so that ``OLD`` is served before and ``NEW`` afterwards, or both are one."""

WHAT = {
    "new": ("publish", NEW, 1),
    "update": ("publish", NEW, 2),
    "tune": ("tune", NEW, 3),
    "rollback": ("rollback", NEW, 0),
}


class Child:
    """A stopped child of the publisher, as `strace` takes it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def send(self, number: int) -> None:
        os.kill(self.pid, number)


class Publisher:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, order: Order) -> Child:
        assert self.process.stdin is not None
        self.process.stdin.write(line_of(order))
        self.process.stdin.flush()
        return Child(int(self._line()))

    def code(self) -> int:
        return int(self._line())

    def do(self, order: Order) -> None:
        self.start(order)
        assert self.code() == 0

    def start_stopped(self, order: Order) -> Child:
        child = self.start(Order(**{**order.__dict__, "stop": True}))
        deadline = time.monotonic() + 60
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return child

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    if why := strace.missing():
        pytest.skip(why)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.publisher"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        yield Publisher(process)
        assert process.stdin is not None
        process.stdin.close()


def prepared(publisher, repository, name, what):
    """Bring an entry to where the kill will strike and return the order that it strikes."""
    for do, factor, minute in BEFORE[what]:
        publisher.do(Order(do, str(repository), name, factor, minute))
    do, factor, minute = WHAT[what]
    return Order(do, str(repository), name, factor, minute)


def points_of(publisher, folder, what):
    """Return some of the calls that a publication makes, evenly spaced."""
    order = prepared(publisher, folder / what, "m", what)
    child = publisher.start_stopped(order)
    made = strace.count_calls(child, folder / f"{what}.strace")
    assert publisher.code() == 0
    points = [(call, n) for call in CALLS for n in range(1, made.get(call, 0) + 1)]
    assert len(points) > POINTS or FULL
    # What is seen changes at renames: before each of them, and at some calls between.
    renames = [point for point in points if point[0] == "rename"]
    others = [point for point in points if point[0] != "rename"]
    step = max(len(others) / POINTS, 1)
    return renames + [others[int(n * step)] for n in range(min(POINTS, len(others)))]


@pytest.fixture(scope="module")
def killed(publisher, tmp_path_factory):
    """Entries in one repository, each of a publication that was killed; what each was, by name."""
    folder = tmp_path_factory.mktemp("kills")
    repository = folder / "r"
    orders: dict[str, tuple[str, tuple[str, int], Order]] = {}
    for what in WHAT:
        for point in points_of(publisher, folder, what):
            name = f"m{len(orders)}"
            order = prepared(publisher, repository, name, what)
            child = publisher.start_stopped(order)
            strace.inject(child, *point, "signal=SIGKILL")
            assert publisher.code() == -signal.SIGKILL, (what, point)
            orders[name] = what, point, order
    return repository, orders


def test_after_every_kill_the_repository_loads_old_or_new(killed, tally):
    repository, orders = killed
    there = {path.name for path in repository.iterdir() if path.is_dir()}
    assert there <= set(orders)
    assert not errors_of(lint_repository(repository, has_gpu=False))
    answers: dict[float, int] = {}
    names = sorted(there)
    for group in (names[n : n + SERVED_MAX] for n in range(0, len(names), SERVED_MAX)):
        with (
            EmbeddedTriton(repository, models=group, stop_deadline_s=0, start_deadline_s=900) as t,
            grpc.insecure_channel(t.grpc) as channel,
        ):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for name in group:
                factor = scored(stub, name)
                assert factor in (OLD, NEW), orders[name]
                answers[factor] = answers.get(factor, 0) + 1
    for name, (what, point, _) in orders.items():
        assert name in there or what == "new", (name, point)
    assert len(orders) >= 20
    assert set(answers) == {OLD, NEW}
    tally("P16 kills while publishing", len(orders))


def test_what_was_killed_is_finished_by_doing_it_again(killed, publisher):
    repository, orders = killed
    for name, (what, point, order) in orders.items():
        if what == "rollback" and served(repository / name) == version_at(repository / name, 0):
            continue
        publisher.do(order)
        assert served(repository / name), point
    assert not errors_of(lint_repository(repository, has_gpu=False))
    assert [path.name for path in repository.parent.iterdir() if "staging" in path.name] == []
    for name, (what, point, _) in orders.items():
        folders = [p for p in (repository / name).iterdir() if p.name.isdigit()]
        assert len(folders) == (2 if what in ("update", "rollback") else 1), (what, point)


def served(entry):
    (version,) = from_text((entry / "config.pbtxt").read_text()).version_policy.specific.versions
    return version


def version_at(entry, position):
    return sorted(int(p.name) for p in entry.iterdir() if p.name.isdigit())[position]


def scored(stub, name):
    """Return what the served model multiplies by."""
    request = service_pb2.ModelInferRequest(model_name=name, raw_input_contents=[ROWS.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=ROWS.shape)
    answer = stub.ModelInfer(request, timeout=60)
    values = np.frombuffer(answer.raw_output_contents[0], np.float32)
    assert np.array_equal(values, ROWS[:, 0] * values[1])
    return float(values[1])
