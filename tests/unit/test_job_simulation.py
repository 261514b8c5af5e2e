"""The job over a simulated store and clock: kills, lost requests and replies, rivals, over seeds.

``TRITONBULK_TEST_SEEDS=200000 pytest tests/unit/test_job_simulation.py`` is the full run.
"""

import hashlib
import json
import os
import random
from dataclasses import replace

import pytest

from tritonbulk.errors import DamagedError, OutputError, SinkError
from tritonbulk.job import commit as commit_module
from tritonbulk.job import manifest as manifest_module
from tritonbulk.job import stock as stock_module
from tritonbulk.job.commit import look, open_job
from tritonbulk.job.protocol import Put, StandingJob, Start
from tritonbulk.job.spec import InputIdentity, JobSpec, ModelIdentity
from tritonbulk.job.statement import PartStatement, read_part, seal
from tritonbulk.testing import MemoryStore, StoreFault

SEEDS = int(os.environ.get("TRITONBULK_TEST_SEEDS", "5000"))
KILLS_MAX = 20
SLEEP_S_MAX = 120.0


@pytest.fixture(autouse=True)
def one_reader(monkeypatch):
    """Parts are read one after the other, so that a seed always gives the same history."""
    monkeypatch.setattr(stock_module, "READERS", 1)


class KilledError(BaseException):
    """The process dies; nothing that it had begun goes on."""


def spec(segments, model="1"):
    return JobSpec(
        inputs=(InputIdentity("in", 1, rows=segments),),
        input_format="parquet",
        columns=(),
        where=None,
        limit_rows=None,
        segment_rows=1,
        batch_rows=1,
        model=ModelIdentity("m", model, "", ""),
        tensors={},
        output=(),
        encoding="parquet-1",
        vectors="list",
    )


class World:
    """One store, one seed, any number of processes."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.segments = self.random.randint(1, 4)
        self.spec = spec(self.segments)
        self.objects = {}
        self.writers = 0
        self.is_deterministic = seed % 2 == 0
        self.kills = self.random.randint(0, KILLS_MAX)
        self.rivals = self.random.choice([0, 0, 1, 3])
        self.loss = self.random.choice([0.0, 0.05, 0.3])

    def fault(self, operation, name):
        """Decide what happens to one request of the process under way."""
        if self.kills and self.random.random() < 0.15:
            self.kills -= 1
            raise KilledError
        if self.rivals and self.random.random() < 0.15:
            self.rivals -= 1
            self.process()
        if self.random.random() < self.loss:
            return self.random.choice(list(StoreFault))
        return None

    def process(self, store=None):
        """Run one process until it is finished, killed, or gives up; return whether it finished."""
        self.writers += 1
        me, slept = self.writers, []

        def sleep(seconds):
            slept.append(seconds)
            assert sum(slept) < SLEEP_S_MAX * self.segments, "a run waits within limits"

        store = store or MemoryStore(self.objects, self.fault)
        try:
            job = open_job(store, self.spec, look(store, sleep), lambda _: None, sleep=sleep)
            if isinstance(job, StandingJob):
                return True
            missing = [at for at in range(self.segments) if at not in job.parts]
            self.random.shuffle(missing)
            for at in missing:
                wanted = PartStatement(self.spec.fingerprint, at, 0, at, at + 1, 1, 0, 0)
                answers = "" if self.is_deterministic else f" by {me}"
                job.commit(wanted, f"row {at}{answers} {wanted.to_text()} end".encode())
            job.finish()
        except (KilledError, SinkError):
            return False
        return True

    def run(self):
        """Restart until a process says that it finished, then check what stands there."""
        for _ in range(200):
            if self.process():
                break
        else:
            raise AssertionError("never finished")
        check(self)
        if self.is_deterministic:
            clean = World.__new__(World)
            clean.__dict__ = {**self.__dict__, "objects": {}}
            clean.process(MemoryStore(clean.objects))
            assert self.objects == clean.objects, "what stands there is that of a clean run"


def check(world):
    names = {f"part-{at:08d}.parquet" for at in range(world.segments)}
    assert {name for name in world.objects if name.startswith("part-")} == names
    manifest = json.loads(world.objects["_tritonbulk/manifest.json"])
    assert [entry["segment"] for entry in manifest["parts"]] == list(range(world.segments))
    for entry in manifest["parts"]:
        data = world.objects[entry["name"]]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"], "the stored bytes are listed"
        statement = read_part(data)
        assert statement.segment == entry["segment"]
        assert statement.fingerprint == world.spec.fingerprint
        assert data.startswith(b"row %d" % statement.segment)


def first_failure(seeds):
    for seed in range(seeds):
        try:
            World(seed).run()
        except (AssertionError, DamagedError, OutputError, KeyError) as error:
            return seed, error
    return None


def test_whatever_happens_every_row_stands_there_once():
    assert (failure := first_failure(SEEDS)) is None, failure
    print(f"{SEEDS:,} seeds")


def own_bytes(store, name, data, judge, sleep):
    """A bug: what was sent is taken for what stands there."""
    store.create(name, data)
    return judge(data)


def overwriting(self, name, data):
    """A bug: a put replaces."""
    self._fault("create", name)
    self.objects[name] = data
    return Put.CREATED


def in_pieces(self, name, data):
    """A bug: an object is seen before it is whole."""
    if name not in self.objects:
        self.objects[name] = data[: len(data) // 2]
        self._fault("create", name)
        self.objects[name] = data
    return Put.CREATED


def resume_without_the_parts(store, file, standing, *_):
    """A bug: what stands there is believed without a look."""
    parts = {}
    for name in standing.parts:
        at = int(name[5:13])
        wanted = PartStatement(file.fingerprint, at, 0, at, at + 1, 1, 0, 0)
        parts[at] = manifest_module.StoredPart(name, wanted, 1, "0" * 64)
    return parts


BUGS = {
    "own bytes after a put": (commit_module, "settle", own_bytes),
    "overwrite instead of create": (MemoryStore, "create", overwriting),
    "not atomic": (MemoryStore, "create", in_pieces),
    "parts believed unread": (commit_module, "take_stock", resume_without_the_parts),
    "continues what is finished": (commit_module, "start", lambda *_, **__: Start.CREATE),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_found(bug, monkeypatch):
    monkeypatch.setattr(*BUGS[bug])
    assert first_failure(500) is not None, "not found"


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": "sha256:other"}, {"segment": 1}, {"input": 1}, {"row_end": 2}],
)
def test_a_part_that_appeared_and_is_not_the_one_wanted_is_never_adopted(change):
    store = MemoryStore()
    mine = spec(2)
    job = open_job(store, mine, look(store), lambda _: None)
    wanted = PartStatement(mine.fingerprint, 0, 0, 0, 1, 1, 0, 0)
    theirs = seal(replace(wanted, **change).to_text().encode())[0]
    store.objects["part-00000000.parquet"] = theirs
    with pytest.raises(OutputError, match="a part of another job"):
        job.commit(wanted, wanted.to_text().encode())
    assert job.parts == {}
    assert store.objects["part-00000000.parquet"] == theirs


def test_a_part_that_a_rival_made_first_is_adopted_with_its_failed_rows():
    store = MemoryStore()
    mine = spec(1)
    job = open_job(store, mine, look(store), lambda _: None)
    wanted = PartStatement(mine.fingerprint, 0, 0, 0, 1, 1, 0, 0)
    theirs = replace(wanted, rows_failed=1)
    store.objects["part-00000000.parquet"] = seal(theirs.to_text().encode())[0]
    assert job.commit(wanted, wanted.to_text().encode()).statement == theirs
    assert job.finish()[0].rows_failed == 1


def test_two_jobs_never_share_a_prefix():
    for seed in range(200):
        world = World(seed)
        world.kills = 1
        world.process()
        theirs = World(seed)
        theirs.objects, theirs.spec = world.objects, spec(world.segments, model="2")
        if "_tritonbulk/job.json" not in world.objects:
            continue
        with pytest.raises(OutputError, match=r'model.version "1" → "2"'):
            theirs.process(MemoryStore(world.objects))
