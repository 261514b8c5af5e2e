"""Promises about faults over simulated servers, and that each seeded bug breaks one of them."""

import itertools
import os
from contextlib import ExitStack
from unittest import mock

import pytest

from tests.faults import checks, simulated
from tests.faults.bugs import BUGS

pytestmark = pytest.mark.ci

FULL = bool(os.environ.get("TRITONBULK_TEST_FULL"))
RATES = (0.0001, 0.001, 0.01, 0.1, 0.5)
PLACES = ("first", "last", "anywhere")
COSTLY = ("hang", "kill stub", "kill server")
CASES = [
    (kind, rate, place)
    for kind, rate, place in itertools.product(simulated.KINDS, RATES, PLACES)
    if not (kind in COSTLY and rate > 0.01)
]
"""Kinds of poison × shares × places; who kills servers is at most a row in a hundred."""

SEEDS = 5 if FULL else 1


@pytest.mark.parametrize("check", checks.CHECKS[:-1], ids=lambda check: check.__name__)
def test_promise(check):
    check()


def test_poison_is_found_and_nobody_else_is_blamed(capsys):
    convicted = probes = 0
    for seed, (number, case) in itertools.product(range(SEEDS), enumerate(CASES)):
        kind, rate, place = case
        made = checks.poison(
            kind,
            rate,
            place,
            servers=1 + (number + seed) % 3,
            seed=seed,
            rows=1500,
            neighbour=(None, "raise", "refuse", "wrong")[(number + seed) % 4],
        )
        convicted += len(made.failed)
        probes += made.probes
    with capsys.disabled():
        print(
            f"\nP5, simulated: {SEEDS * len(CASES)} cases, {convicted} rows convicted after "
            f"{probes} controls, false convictions 0"
        )


def test_slow_and_vanishing_endpoints_cost_their_share_alone(capsys):
    share = checks.balance()
    assert share >= 0.93
    with capsys.disabled():
        print(f"\nbalance, simulated: {share:.3f} of the ideal rate")


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_is_caught(name, monkeypatch):
    check, *changes = BUGS[name]
    monkeypatch.setattr(simulated, "STEPS_MAX", 60_000)
    with ExitStack() as seeded:
        for target, attribute, value in changes:
            seeded.enter_context(mock.patch.object(target, attribute, value))
        with pytest.raises((AssertionError, KeyError)):
            getattr(checks, check)()


def test_the_list_of_seeded_bugs(capsys):
    with capsys.disabled():
        print(f"\n{len(BUGS)} seeded bugs are each caught: {'; '.join(BUGS)}")
    assert len(BUGS) >= 25
