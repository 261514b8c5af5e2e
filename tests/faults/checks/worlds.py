"""Worlds of simulated servers, and poison in them, as the checks need them."""

from __future__ import annotations

import random
from dataclasses import replace

from tests.faults.simulated import World, batches_of, check_exact
from tritonbulk.dispatch import Limits

LIMITS = Limits(900.0, 10**9, attempt_s_max=20.0)


def pinned(requests):
    """The limits, with so many requests in flight."""
    return replace(LIMITS, window_start=requests, window_max=requests, requests_max=requests)


def world(servers=1, seed=0, limits=LIMITS, **given):
    made = World(limits, seed=seed)
    for index in range(servers):
        made.server(f"s{index}:1", **given)
    return made


def poison_at(place, rate, rows, kind, seed=0):
    count = max(1, int(rows * rate))
    where = {
        "first": range(count),
        "last": range(rows - count, rows),
        "anywhere": random.Random(seed).sample(range(rows), count),
    }[place]
    return {(0, row): kind for row in where}


def poison(kind, rate=0.01, place="anywhere", servers=1, seed=0, rows=2000, neighbour=None):
    """Every row to blame is convicted, and no other, whoever else sends what."""
    bad = poison_at(place, rate, rows, kind, seed)
    made = world(servers, seed, poison=bad, hang_s=60.0)
    made.annoy(100, 5.0, neighbour, 0.1 if neighbour else 0.0)
    made.run(batches_of(rows))
    check_exact(made, rows, bad)
    return made
