"""Servers, clients and time in a simulation, to drive `Dispatch` through any history at once.

A server executes what waits together, up to a full batch, as Triton's dynamic batcher does: a row
that raises fails all that was executed with it, a row that kills takes all in flight with it.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field

from tritonbulk.dispatch import Abort, Dispatch, FailRows, Failure, Probe, Say, Send
from tritonbulk.segments import Batch

RAISED = Failure(13, "INTERNAL", "Failed to process the request(s), message: ValueError: poison")
NO_MEMORY = Failure(13, "INTERNAL", "out of memory: a batch of 64 rows does not fit")
REFUSED = Failure(3, "INVALID_ARGUMENT", "row refused")
UNAVAILABLE = Failure(14, "UNAVAILABLE", "this customer is on holiday")
WRONG = Failure(2, "WRONG_ANSWER", "output 'y' came with shape [3, 1]")
FULL = Failure(14, "UNAVAILABLE", "[request id: 1] Exceeds maximum queue size")
DOWN = Failure(14, "UNAVAILABLE", "failed to connect to all addresses: Connection refused")
CLOSED = Failure(14, "UNAVAILABLE", "Stream removed (Socket closed)")
SICK = Failure(13, "INTERNAL", "Stub process 'm_0_0' is not healthy.")
LATE = Failure(4, "DEADLINE_EXCEEDED", "Deadline Exceeded")
LEAVING = Failure(14, "UNAVAILABLE", "unknown model: 'm' version 1 is not at ready state")

KINDS = ("raise", "refuse", "unavailable", "wrong", "kill stub", "kill server", "hang")
ROW_BYTES = 8
STEPS_MAX = 10**7
"""Steps after which a run is held to be endless."""
ALONE = {"refuse": REFUSED, "unavailable": UNAVAILABLE, "wrong": WRONG}


@dataclass
class Arrived:
    """A request at a server."""

    rows: frozenset[object]
    count: int
    done: object  # told a failure or None
    is_ours: bool = True


@dataclass
class Server:
    """One simulated server; see the module.

    A batch takes ``a_s + b_s · rows`` seconds times ``slow``. Between two batches its batcher takes
    up to ``pick_s``, in which what waits goes on filling the queue.
    """

    world: World
    name: str
    poison: dict[object, str] = field(default_factory=dict)
    a_s: float = 0.005
    b_s: float = 20e-6
    slow: float = 1.0
    batch_max: int = 64
    queue_max: float = math.inf
    pick_s: float = 0.0
    down_s: float = 1.0
    hang_s: float = 30.0
    is_up: bool = True
    is_sick: bool = False
    is_broken: bool = False  # raises at everything while it says that it is ready
    is_leaving: bool = False
    memory_rows: float = math.inf  # a batch of more rows fails
    deaths: int = 0
    queue: list[Arrived] = field(default_factory=list)
    running: list[Arrived] = field(default_factory=list)
    life: int = 0
    is_picking: bool = False

    def take(self, request):
        if not self.is_up:
            request.done(DOWN)
        elif self.is_leaving:
            request.done(LEAVING)
        elif self.is_sick:
            self.world.after(0.2, lambda: request.done(SICK))
        elif len(self.queue) >= self.queue_max:
            request.done(FULL)
        else:
            self.queue.append(request)
            self._execute()

    def die(self, for_s=None):
        self.is_up, self.life = False, self.life + 1
        self.deaths += 1
        for request in self.running + self.queue:
            request.done(CLOSED)
        self.running, self.queue = [], []
        if for_s != math.inf:
            self.world.after(self.down_s if for_s is None else for_s, self.come_back)

    def come_back(self):
        self.is_up, self.is_sick = True, False

    def restart(self):
        self.die(math.inf)
        self.deaths -= 1
        self.come_back()

    def _execute(self):
        if self.running or self.is_picking or not self.queue:
            return
        rows = 0
        while self.queue and (not rows or rows + self.queue[0].count <= self.batch_max):
            request = self.queue.pop(0)
            rows += request.count
            self.running.append(request)
        seconds = (self.a_s + self.b_s * rows) * self.slow * self.world.random.uniform(0.95, 1.1)
        kinds = {self.poison.get(row) for each in self.running for row in each.rows}
        if "hang" in kinds:
            seconds += self.hang_s
        life = self.life
        self.world.after(seconds, lambda: self._finish(kinds, rows) if life == self.life else None)

    def _finish(self, kinds, rows):
        if "kill server" in kinds:
            self.die()
            return
        done, self.running = self.running, []
        if "kill stub" in kinds:
            self.is_sick = True
            for request in done + self.queue:
                request.done(SICK)
            self.queue = []
            return
        for request in done:
            if "raise" in kinds or self.is_broken:
                request.done(RAISED)
                continue
            if rows > self.memory_rows:
                request.done(NO_MEMORY)
                continue
            own = [self.poison.get(row) for row in request.rows]
            request.done(next((ALONE[kind] for kind in own if kind in ALONE), None))
        if self.pick_s:
            self.is_picking = True
            self.world.after(self.world.random.uniform(0, self.pick_s), self._pick)
        else:
            self._execute()

    def _pick(self):
        self.is_picking = False
        self._execute()


class World:
    """Plays driver, network and clock.

    Attributes:
        ok: how often each row was scored; failed: its failure, for those that were convicted.
        aborted: what ended the run, or None.
    """

    def __init__(self, limits, fill_rows=64, seed=0, net_s=0.0005):
        self.random = random.Random(seed)
        self.limits, self.fill_rows, self.net_s = limits, fill_rows, net_s
        self.now = 0.0
        self.servers, self.ok, self.failed, self.log = [], {}, {}, []
        self.aborted = None
        self.control = None
        self.refusals = self.answers = self.sends = self.probes = 0
        self.innocents = self.innocents_failed = 0
        self.progress, self.said = [], []
        self._events, self._order = [], itertools.count()

    def server(self, name, **given):
        self.servers.append(Server(self, name, batch_max=self.fill_rows, **given))
        return self.servers[-1]

    def after(self, seconds, call):
        heapq.heappush(self._events, (self.now + seconds, next(self._order), call))

    def run(self, batches, until_s=10**6):
        names = [server.name for server in self.servers]
        self.dispatch = Dispatch(self.limits, names, self.fill_rows)
        self.dispatch.add(list(batches), ROW_BYTES)
        for _ in range(STEPS_MAX):
            if self.aborted or self.dispatch.idle or self.now > until_s:
                return self
            for action in self.dispatch.step(self.now):
                self._carry_out(action)
            if self.dispatch.stuck:
                self._carry_out(self.dispatch.give_up())
            wake = self.dispatch.wake_s
            if self._events and (wake is None or self._events[0][0] <= wake):
                self.now, _, call = heapq.heappop(self._events)
                call()
            elif wake is not None:
                assert wake >= self.now - 1e-9, "to be woken in the past"
                self._idle = self._idle + 1 if wake <= self.now else 0
                assert self._idle < 50, "it wakes again and again, and nothing happens"
                self.now = max(wake, self.now)
            elif not self.dispatch.idle:
                raise AssertionError("nothing is in flight, and nothing will happen")
        raise AssertionError("the run does not end")

    _idle = 0

    def annoy(self, rows_per_s, until_s, poison=None, share=0.0):
        """Let another client send single rows, of which a share is poison of that kind."""
        for server in self.servers:
            when = 0.0
            while when < until_s:
                when += self.random.expovariate(rows_per_s)
                self.after(when, lambda server=server: self._annoy(server, poison, share))

    def _annoy(self, server, poison, share):
        row = ("other", next(self._order))
        is_poison = self.random.random() < share
        if is_poison:
            server.poison = {**server.poison, row: poison}

        def done(failure):
            if not is_poison:
                self.innocents += 1
                self.innocents_failed += failure is not None

        server.take(Arrived(frozenset([row]), 1, done, is_ours=False))

    def _carry_out(self, action):
        match action:
            case Send():
                self.sends += 1
                rows = rows_of(action.batch)
                count = max(self.fill_rows, len(rows)) if action.is_filled else len(rows)
                self._send(action, rows, count)
            case Probe():
                self.probes += 1
                self._probe(action)
            case FailRows(batch, failure):
                for row in rows_of(batch):
                    assert row not in self.failed, "a row is failed once"
                    self.failed[row] = failure
            case Say(text):
                self.said.append(text)
            case Abort(error):
                self.aborted = error

    def _send(self, action, rows, count):
        answered = []

        def done(failure):
            self.after(self.net_s, lambda: settle(failure))

        def settle(failure):
            if answered or self.aborted:
                return
            answered.append(failure)
            if failure is None:
                self._succeeded(action, rows)
            else:
                self.refusals += failure is FULL
                self._do(self.dispatch.failed(action.request_id, failure, self.now))

        server = self.servers[action.endpoint]
        self.after(self.net_s, lambda: server.take(Arrived(frozenset(rows), count, done)))
        self.after(action.timeout_s, lambda: settle(LATE))

    def _succeeded(self, action, rows):
        self.answers += 1
        for row in rows:
            self.ok[row] = self.ok.get(row, 0) + 1
        if isinstance(action, Send) and self.control is None:
            self.control = rows[0]
        self.progress.append((self.now, len(rows)))
        self._do(self.dispatch.succeeded(action.request_id, self.now))

    def _probe(self, action):
        server = self.servers[action.endpoint]
        if action.is_sick:
            server.restart() if server.is_up else None
        if action.asks and (not server.is_up or server.is_leaving):
            failure = LEAVING if server.is_up else DOWN
            self.after(
                self.net_s,
                lambda: self._do(self.dispatch.failed(action.request_id, failure, self.now)),
            )
        elif action.is_control:
            assert self.control is not None
            self._send_control(action)
        else:
            self.after(
                self.net_s, lambda: self._do(self.dispatch.succeeded(action.request_id, self.now))
            )

    def _send_control(self, action):
        answered = []

        def settle(failure):
            if answered or self.aborted:
                return
            answered.append(failure)
            if failure is None:
                self._do(self.dispatch.succeeded(action.request_id, self.now))
            else:
                self._do(self.dispatch.failed(action.request_id, failure, self.now))

        request = Arrived(
            frozenset([self.control]),
            self.fill_rows if action.is_filled else 1,
            lambda f: self.after(self.net_s, lambda: settle(f)),
        )
        self.after(self.net_s, lambda: self.servers[action.endpoint].take(request))
        self.after(action.timeout_s, lambda: settle(LATE))

    def _do(self, actions):
        for action in actions:
            self._carry_out(action)


def rows_of(batch):
    return [(batch.segment, row) for row in range(batch.row_begin, batch.row_begin + batch.rows)]


def batches_of(rows, batch_rows=64):
    return [Batch(0, begin, min(batch_rows, rows - begin)) for begin in range(0, rows, batch_rows)]


def check_exact(world, rows, poison):
    """Every row is settled once: scored, or, if it is to blame, failed."""
    assert world.aborted is None, world.aborted
    assert set(world.ok) | set(world.failed) == {(0, row) for row in range(rows)}, "rows are lost"
    assert not set(world.ok) & set(world.failed), "a row is scored and failed"
    assert max(world.ok.values(), default=1) == 1, "a row is scored twice"
    false = sorted(set(world.failed) - set(poison))
    assert not false, f"innocent rows are convicted: {false[:5]} {world.failed[false[0]]}"
    assert set(world.failed) == set(poison), "poison goes unnoticed"
