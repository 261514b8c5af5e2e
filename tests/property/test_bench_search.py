"""The search against accelerators whose best setting is known: it finds nearly that."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonbulk.bench.search import COARSE, Space, next_round
from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bench.trial import Executed, ServerSplit, Trial
from tritonbulk.bench.verdict import judge

TRIALS_MAX = 60
"""What fits into two minutes."""


@dataclass(frozen=True)
class Accelerator:
    """A server of which everything is known; see ``examples/accelerator``."""

    base_ms: float
    row_ms: float
    concurrency: int
    memory_rows: int
    limit: int = 4096
    round_trip_ms: float = 2.0

    def batch_ms(self, rows: float) -> float:
        return self.base_ms + self.row_ms * rows

    def executed_rows(self, setting: Setting) -> int:
        """Requests that wait are joined, as far as the limit allows."""
        busy = min(setting.variant.instances, self.concurrency)
        joined = max((setting.in_flight - busy) // busy, 1)
        return setting.batch_rows * max(
            min(joined, setting.variant.max_batch_size // setting.batch_rows), 1
        )

    def rate(self, setting: Setting) -> float:
        """Rows a second."""
        rows = self.executed_rows(setting)
        if rows > self.memory_rows:
            rows = setting.batch_rows // 4  # what is left after halving and trying again
        busy = min(setting.variant.instances, self.concurrency)
        if setting.in_flight <= busy:
            took_ms = self.batch_ms(rows) + self.round_trip_ms
            return setting.in_flight * setting.batch_rows / took_ms * 1e3
        return busy * rows / self.batch_ms(rows) * 1e3

    @property
    def best(self) -> float:
        rows = min(self.limit, self.memory_rows)
        return self.concurrency * rows / self.batch_ms(rows) * 1e3

    def measure(self, setting: Setting, number: int, why: str, scatter: float) -> Trial:
        rows = self.executed_rows(setting)
        has_failed = rows > self.memory_rows
        rate = self.rate(setting) * scatter
        infer_ms = 0.1 if has_failed else self.batch_ms(rows)
        executed = (Executed(rows, 10, infer_ms),)
        return Trial(
            setting, number, why, rows=10_000, seconds=1.0, rows_per_second=rate, is_steady=True,
            requests_failed=10 if has_failed else 0, bound_by="server compute",
            in_flight_little=setting.in_flight, cpu_s_client=0.01,
            round_trip_ms=setting.in_flight * setting.batch_rows / rate * 1e3,
            server=ServerSplit(rows, 0.0, 0.0, infer_ms, 0.0, executed),
        )  # fmt: skip


def search(accelerator, noise, seed, trials_max=TRIALS_MAX, space=None):
    """Run a whole search and return its trials, with the space."""
    base = Variant(1, 0, accelerator.limit, "1")
    grid = (64, 256, 1024, 4096)
    space = space or Space(grid, (1, 4, 16), base, (2, 4), (2000,), may_limit=True)
    generator = random.Random(seed)
    trials: list[Trial] = []
    for number in range(trials_max):
        steps = next_round(space, trials, seed, may_explore=len(trials) < 0.6 * trials_max)
        if not steps or len(trials) >= trials_max:
            break
        for step in steps[: trials_max - len(trials)]:
            scatter = 1 + generator.gauss(0, noise)
            trials.append(accelerator.measure(step.setting, number, step.why, scatter))
    return space, trials


ACCELERATORS = st.builds(
    Accelerator,
    base_ms=st.floats(0.5, 30),
    row_ms=st.floats(0.005, 0.2),
    concurrency=st.integers(1, 3),
    memory_rows=st.sampled_from([1500, 2048, 3000, 4000, 10_000]),
)


@settings(max_examples=40, deadline=None)
@given(ACCELERATORS, st.integers(0, 1000))
def test_without_noise_it_finds_97_percent_of_the_best(accelerator, seed):
    space, trials = search(accelerator, 0.0, seed)
    verdict = judge(trials, space.base, seed=seed)
    assert verdict is not None
    assert accelerator.rate(verdict.setting) >= 0.97 * accelerator.best
    assert accelerator.executed_rows(verdict.setting) <= accelerator.memory_rows
    assert verdict.fit is not None
    assert verdict.fit.a_ms == pytest.approx(accelerator.base_ms, rel=0.05, abs=0.01)
    assert verdict.fit.b_ms_per_row == pytest.approx(accelerator.row_ms, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(ACCELERATORS, st.sampled_from([16, 64, 250]), st.integers(0, 1000))
def test_a_limit_that_keeps_batches_small_is_raised(accelerator, limit, seed):
    small = replace(accelerator, limit=limit)
    base = Variant(1, 0, limit, "1")
    grid = tuple(sorted({max(limit // 16, 1), limit // 4, limit}))
    space = Space(grid, (1, 4, 16), base, (2, 4), (2000,), may_limit=True, rows_max=100_000)
    _, trials = search(small, 0.0, seed, space=space)
    verdict = judge(trials, base, seed=seed)
    assert verdict is not None
    # It ends where twice as large batches would hardly pay, or at 16 times the limit.
    reached = min(16 * limit, small.memory_rows)
    assert small.rate(verdict.setting) >= 0.93 * replace(small, limit=reached).best
    assert small.executed_rows(verdict.setting) <= small.memory_rows
    assert max(trial.setting.batch_rows for trial in trials) <= 16 * limit


def test_without_rows_for_larger_requests_none_is_tried():
    _, trials = search(Accelerator(8, 0.05, 2, 4000, limit=4096), 0.0, 0)
    assert max(trial.setting.batch_rows for trial in trials) == 4096


def test_what_is_left_of_a_late_grid_waits_for_what_promises_more():
    accelerator = Accelerator(8, 0.05, 2, 4000)
    space, trials = search(accelerator, 0.0, 0, trials_max=6)
    asked = next_round(space, trials, 0, may_explore=True, is_late=True)
    assert asked
    assert all("coarse" not in step.why for step in asked)
    for number in range(20):
        trials += [accelerator.measure(step.setting, number, step.why, 1.0) for step in asked]
        asked = next_round(space, trials, 0, may_explore=True, is_late=True)
    tried = {(t.setting.batch_rows, t.setting.in_flight) for t in trials if t.why == COARSE}
    assert len(tried) == 11, "all but 4,096 rows sixteen times, which would only wait"


def test_what_was_asked_for_is_measured_even_if_it_only_waits():
    space = Space((1024,), (32,), Variant(1, 0, 1024, "1"))
    asked = next_round(space, [], 0, may_explore=True)
    assert [(s.setting.batch_rows, s.setting.in_flight) for s in asked] == [(1024, 32)]


def test_with_noise_it_nearly_always_does():
    reached = []
    for seed in range(20):
        accelerator = Accelerator(8, 0.05, 2, 4000)
        space, trials = search(accelerator, 0.03, seed)
        verdict = judge(trials, space.base, seed=seed)
        assert verdict is not None
        reached.append(accelerator.rate(verdict.setting) / accelerator.best)
    assert sum(share >= 0.97 for share in reached) >= 19, sorted(reached)[:5]


@settings(max_examples=5, deadline=None)
@given(ACCELERATORS, st.integers(0, 1000))
def test_every_trial_says_why_and_the_search_ends(accelerator, seed):
    _, trials = search(accelerator, 0.02, seed, trials_max=300)
    assert len(trials) < 300
    assert all(trial.why for trial in trials)


@settings(max_examples=20, deadline=None)
@given(ACCELERATORS, st.integers(0, 1000), st.integers(0, 40))
def test_an_interrupted_search_asks_for_the_same_next(accelerator, seed, cut):
    space, trials = search(accelerator, 0.02, seed)
    before = trials[:cut]
    asked = next_round(space, before, seed, may_explore=True)
    assert asked == next_round(space, list(before), seed, may_explore=True)
    measured = {trial.setting for trial in before}
    if len(before) < 12:
        assert {step.setting for step in asked} & measured == set(), "the grid first"


def test_a_server_that_must_be_left_alone_is():
    accelerator = Accelerator(8, 0.05, 2, 4000)
    base = Variant(1, 0, 4096, "1")
    space = Space((64, 1024, 4096), (1, 4), base)
    trials: list[Trial] = []
    for number in range(30):
        for step in next_round(space, trials, 0, may_explore=True):
            assert step.setting.variant == base
            trials.append(accelerator.measure(step.setting, number, step.why, 1.0))
    assert judge(trials, base) is not None
