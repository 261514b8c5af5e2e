"""Object stores that lose replies, refuse and cut short; two writers; processes that die."""

import contextlib
import random
import threading

import pytest

from tests.crash import jobs
from tests.crash.object_faults import BUCKET, faulty_server
from tritonbulk.errors import DamagedError, SinkError
from tritonbulk.job import commit as commit_module
from tritonbulk.job.commit import look, open_job
from tritonbulk.job.protocol import Put, StandingJob
from tritonbulk.job.spec import InputIdentity, JobSpec, ModelIdentity
from tritonbulk.job.statement import PartStatement, read_part
from tritonbulk.job.stores import object as object_module
from tritonbulk.job.stores.object import ObjectStore

pytestmark = [pytest.mark.ci, pytest.mark.timeout(7200)]

SEEDS = 300
STARTS_MAX = 60
PATIENCE_S = 0.8
"""How long a process waits for a reply in the schedules whose replies may be slow."""

SLOW_S = 1.0
SLOW_EVERY, RETRIES_EVERY = 40, 50
"""One schedule in so many has slow replies, or lets the library repeat by itself."""


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("moto")
    with faulty_server() as faulty:
        yield faulty


@pytest.fixture(autouse=True)
def quick(server, monkeypatch):
    """The protocol's own answers to faults are tested; the library's come in one of fifty."""
    for name, value in {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": "canary-key",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    server.share, server.slow_s, server.dice = 0.0, 0.0, random.Random(0)


class KilledError(BaseException):
    pass


class Process:
    """A store whose process dies before or after some puts."""

    def __init__(self, store, dice, kills):
        self.store, self.dice, self.kills = store, dice, kills

    def __getattr__(self, name):
        return getattr(self.store, name)

    def create(self, name, data):
        if self.kills and self.dice.random() < 0.3:
            self.kills -= 1
            if self.dice.random() < 0.5:
                self.store.create(name, data)
            raise KilledError
        return self.store.create(name, data)


class Clients:
    """Clients of the bucket, each with its settings; thousands of processes share a few."""

    def __init__(self):
        self.made = {}

    def take(self, *, retries=0, patience_s=None):
        """Return a store of a client's own memory: what it may replace belongs to one process."""
        key = (retries, patience_s)
        if key not in self.made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(object_module, "RETRIES", retries)
                if patience_s is not None:
                    patch.setattr(object_module, "READ_S_MAX", patience_s)
                    patch.setattr(object_module, "ANSWER_TIMEOUT_S", patience_s)
                    patch.setattr(object_module, "SLOWEST_BYTES_PER_S", 1e15)
                store = ObjectStore(f"s3://{BUCKET}/job")
                store._writer(1)
                self.made[key] = store
        store = ObjectStore.__new__(ObjectStore)
        store.__dict__.update(self.made[key].__dict__, _replaceable={})
        return store


@pytest.fixture(scope="module")
def clients():
    return Clients()


class Schedule:
    """One job under one seed."""

    def __init__(self, server, clients, seed):
        self.server, self.clients, self.seed = server, clients, seed
        dice = random.Random(seed)
        self.segments, self.writers = dice.randint(1, 3), dice.choice([1, 1, 2])
        self.kills, self.share = dice.choice([0, 0, 1, 2]), dice.choice([0.05, 0.15, 0.3])
        self.is_slow = seed % SLOW_EVERY == 1
        self.retries = 2 if seed % RETRIES_EVERY == 0 else 0
        self.is_damaged = dice.random() < 0.2
        self.dice = dice
        self.spec = JobSpec(
            inputs=(InputIdentity("in", 1, rows=self.segments),),
            input_format="parquet", columns=(), where=None, limit_rows=None, segment_rows=1,
            batch_rows=1, model=ModelIdentity("m", "1", "", ""), tensors={}, output=(),
            encoding="parquet-1", vectors="list",
        )  # fmt: skip

    def store(self):
        patience_s = PATIENCE_S if self.is_slow else None
        return self.clients.take(retries=self.retries, patience_s=patience_s)

    def process(self, dice, say=lambda _: None):
        """Run one process; return whether it finished."""
        store = Process(self.store(), dice, self.kills)
        self.kills = 0
        pauses = []

        def sleep(seconds):
            pauses.append(seconds)
            assert len(pauses) < 200, "a run waits within limits"

        try:
            job = open_job(store, self.spec, look(store, sleep), say, sleep=sleep)
            if isinstance(job, StandingJob):
                return True
            for at in range(self.segments):
                if at not in job.parts:
                    wanted = PartStatement(self.spec.fingerprint, at, 0, at, at + 1, 1, 0, 0)
                    # No two processes write the same bytes, so that one that replaces shows.
                    job.commit(wanted, f"{dice.random()}{wanted.to_text()}".encode())
            job.finish()
        except (KilledError, SinkError):
            return False
        except DamagedError:
            # Found by a run that began before it was damaged, as it were: the next one mends it.
            if not self.is_damaged:
                raise
            return False
        return True

    def damage(self):
        """Begin the job; a part of it is damaged."""
        store = self.clients.take()
        open_job(store, self.spec, look(store), lambda _: None)
        store.create("part-00000000.parquet", b"damaged")

    def run(self):
        """Start processes until one says that it finished, then return what is wrong."""
        self.server.clear()
        if self.is_damaged:
            self.damage()
        self.server.dice, self.server.share = random.Random(self.seed), self.share
        self.server.slow_s = SLOW_S if self.is_slow else 0.0
        failures = []

        def work(dice):
            try:
                for _ in range(STARTS_MAX):
                    if self.process(dice):
                        return
                failures.append("never finished")
            except Exception as error:
                failures.append(repr(error))

        threads = [
            threading.Thread(target=work, args=(random.Random(self.dice.random()),))
            for _ in range(self.writers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.server.share = 0.0
        self.server.settle()
        return failures or self.faults()

    def faults(self):
        store = self.clients.take()
        names = [name for name in store.names("") if name.startswith("part-")]
        if names != [f"part-{at:08d}.parquet" for at in range(self.segments)]:
            return [f"parts {names}"]
        standing = look(store)
        if not standing.jobs or standing.jobs[0].manifest is None:
            return ["there is no manifest"]
        digests = jobs.digests(store)
        return [
            f"{entry['name']} is not as listed"
            for entry in standing.jobs[0].manifest.parts
            if digests[entry["name"]] != entry["sha256"]
            or read_part(store.read(entry["name"])).segment != entry["segment"]
        ]


def test_every_schedule_of_faults_ends_with_every_part_once(server, clients, tally, cases):
    for seed in range(cases(SEEDS, 10_000)):
        schedule = Schedule(server, clients, seed)
        assert not (found := schedule.run()), (seed, found)
        tally("P10: schedules of an object store's faults")
        if schedule.writers == 2:
            tally("P10: of which with two writers")
        if schedule.is_damaged:
            tally("P10: of which with a damaged part")
    assert set(server.done) == {
        *("503", "409", "lost request", "late request", "lost reply", "cut short"),
        *("slow request", "slow reply"),
    }
    for fault, count in server.done.items():
        tally(f"P10: faults: {fault}", count)


def overwriting(self, name, data):
    """A bug: puts are unconditional."""
    with contextlib.suppress(self._obstore.exceptions.BaseError):
        self._obstore.put(self._store, name, data, mode="overwrite", use_multipart=False)
        return Put.CREATED
    return Put.UNKNOWN


def own_bytes(store, name, data, judge, sleep):
    """A bug: what was sent is taken for what stands there."""
    store.create(name, data)
    return judge(data)


def deleting(self, name, aside, damaged):
    """A bug: a damaged part is deleted, whatever stands there by then."""
    with self._errors("writing", aside), contextlib.suppress(FileNotFoundError):
        self._obstore.delete(self._store, name)


BUGS = {
    "puts overwrite": (
        (ObjectStore, "create", overwriting),
        # Which would find it at once.
        (ObjectStore, "prepare", lambda _: None),
    ),
    "what was sent is taken for what stands there": ((commit_module, "settle", own_bytes),),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_of_the_protocol_is_found(bug, server, clients, tally, monkeypatch):
    for target, attribute, value in BUGS[bug]:
        monkeypatch.setattr(target, attribute, value)
    assert any(Schedule(server, clients, seed).run() for seed in range(SEEDS))
    tally(f"P10: seeded bug found: {bug}")


def mended_by_a_rival_first(server, clients):
    """Let another process mend a part and finish the job while one is about to; what is wrong."""
    server.clear()
    schedule = Schedule(server, clients, 0)
    schedule.kills = schedule.retries = 0
    schedule.damage()
    try:
        schedule.process(random.Random(1), say=lambda _: schedule.process(random.Random(2)))
    except Exception as error:
        return [repr(error)]
    return schedule.faults()


def test_what_a_rival_has_mended_is_not_undone(server, clients, tally, monkeypatch):
    assert mended_by_a_rival_first(server, clients) == []
    monkeypatch.setattr(ObjectStore, "set_aside", deleting)
    assert mended_by_a_rival_first(server, clients) != []
    tally("P10: seeded bug found: a damaged part is deleted unseen")
