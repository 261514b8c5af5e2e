"""Sweep: runs trials until the search asks for none or the time is up, and saves each at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tritonbulk.bench.log import TrialLog
from tritonbulk.bench.options import IN_FLIGHT, QUEUE_DELAYS_US, BenchOptions
from tritonbulk.bench.result import Sweep
from tritonbulk.bench.runner import Runner
from tritonbulk.bench.search import COARSE, Space, Step, grid_rounds, next_round
from tritonbulk.bench.verdict import judge
from tritonbulk.environment import environment
from tritonbulk.errors import OptionError

COARSE_SHARE = 0.35
"""Share of a budget after which what is left of the coarse grid has to wait."""

EXPLORE_SHARE = 0.7
"""Share of a budget in which new settings are tried; the rest is for repeats."""

INSTANCE_FACTORS = (2, 4)
"""Times as many instances as configured that a search tries."""


async def sweep(
    runner: Runner,
    say: Callable[[str], None],
    tell: Callable[[Sweep], None],
) -> Sweep:
    """Measure all that is to be measured and return it with the verdict.

    A sweep that was interrupted goes on where it was: its file of raw trials tells.

    Args:
        runner: measures.
        say: told one sentence at a time.
        tell: told the state after the ceiling and after each trial.

    Raises:
        OptionError: servers would have to be varied that must not be; nothing was sent.
        TritonbulkError: the servers are gone; the same command goes on later.
    """
    bench = runner.bench
    space = _space(runner)
    log = TrialLog(bench.raw)
    state = Sweep(
        runner.model.name,
        runner.options.inputs,
        runner.source.rows,
        space,
        {**environment(), **_circumstances(runner)},
    )
    saved = log.begin(_asked(runner, space))
    if saved is not None:
        say(f"going on with a sweep of {len(saved.trials)} trials in {log.path}")
        state = replace(state, ceiling=saved.ceiling, trials=saved.trials, took_s=saved.took_s)
    began_s = time.perf_counter()
    ceiling = await runner.ceiling()  # also after an interruption: it warms the server up
    if state.ceiling is None and ceiling is not None:
        took_s = time.perf_counter() - began_s
        log.ceiling(ceiling, took_s)
        state = replace(state, ceiling=ceiling, took_s=state.took_s + took_s)
    tell(state)
    pending = _grid(bench, space, state)
    while True:
        if not pending or (pending[0][0].why == COARSE and _is_late(bench, state)):
            pending = _round(bench, space, state)
        if not pending or _is_over(bench, state):
            break
        step, number = pending.pop(0)
        began_s = time.perf_counter()
        trial = await runner.run(step, number)
        took_s = time.perf_counter() - began_s
        log.add(trial, took_s)
        state = replace(state, trials=(*state.trials, trial), took_s=state.took_s + took_s)
        tell(state)
    verdict = judge(state.trials, space.base, bench.price_per_hour, state.file_rows, bench.seed)
    log.finish()
    return replace(state, verdict=verdict)


def _grid(bench: BenchOptions, space: Space, state: Sweep) -> list[tuple[Step, int]]:
    """Return what is left of a full grid, each trial with its round; nothing for a search."""
    if bench.budget_s is not None:
        return []
    rounds = grid_rounds(space, bench.repeats, state.trials, bench.seed)
    return [(step, number) for number, steps in enumerate(rounds) for step in steps]


def _round(bench: BenchOptions, space: Space, state: Sweep) -> list[tuple[Step, int]]:
    """Return the next round of a search; nothing for a full grid."""
    if bench.budget_s is None:
        return []
    may_explore = state.took_s < EXPLORE_SHARE * bench.budget_s
    is_late = _is_late(bench, state)
    steps = next_round(space, state.trials, bench.seed, may_explore=may_explore, is_late=is_late)
    number = 1 + max((trial.round for trial in state.trials), default=-1)
    return [(step, number) for step in steps]


def _is_late(bench: BenchOptions, state: Sweep) -> bool:
    """Return whether a search's coarse grid has had its time."""
    return bench.budget_s is not None and state.took_s >= COARSE_SHARE * bench.budget_s


def _is_over(bench: BenchOptions, state: Sweep) -> bool:
    """Return whether one more trial, as long as those so far, would exceed the budget."""
    if bench.budget_s is None or not state.trials:
        return False
    return state.took_s * (1 + 1 / len(state.trials)) > bench.budget_s


def _space(runner: Runner) -> Space:
    bench, base = runner.bench, runner.base
    asked = [
        name
        for name, given in (
            ("--instances", bench.instances),
            ("--queue-delay", bench.queue_delays_us),
            ("--versions", bench.versions),
        )
        if given
    ]
    if asked and runner.control is None:
        raise OptionError(
            f"{' and '.join(asked)} would change how {', '.join(runner.servers.addresses)} serves "
            "the model; add --vary-server if it may be, or leave out --endpoint"
        )
    instances, delays = bench.instances, bench.queue_delays_us
    is_search = bench.budget_s is not None
    if runner.control is not None and is_search:
        if not instances and base.instances:
            most = max(2 * (os.cpu_count() or 1), 2 * base.instances)
            tried = (base.instances * factor for factor in INSTANCE_FACTORS)
            instances = tuple(each for each in tried if each <= most)
        if not delays and base.queue_delay_us >= 0:
            delays = tuple(each for each in QUEUE_DELAYS_US if each != base.queue_delay_us)
    return Space(
        batch_rows=tuple(sorted(set(runner.batch_rows))),
        in_flight=tuple(sorted(set(bench.in_flight or IN_FLIGHT))),
        base=base,
        instances=instances,
        queue_delays_us=delays,
        versions=bench.versions,
        # The limit of an ensemble is that of its steps, which stay as they are.
        may_limit=(
            runner.control is not None
            and is_search
            and runner.control.config.platform != "ensemble"
        ),
        rows_max=runner.sliced.rows or 0,
    )


def _asked(runner: Runner, space: Space) -> dict[str, Any]:
    """Return what two sweeps must have in common for one to go on with the other, as JSON."""
    bench, model = runner.bench, runner.model
    return {
        "model": [model.name, model.version, model.config_digest],
        "inputs": [*runner.options.inputs, runner.source.rows, str(runner.options.where)],
        "servers": list(runner.options.endpoints),
        "batch_rows": list(space.batch_rows),
        "in_flight": list(space.in_flight),
        "instances": list(space.instances),
        "queue_delays_us": list(space.queue_delays_us),
        "versions": list(space.versions),
        "trial_s": bench.trial_length_s,
        "is_search": bench.budget_s is not None,
        "no_write": bench.no_write,
        "transport": runner.options.transport,
        "seed": bench.seed,
    }


def _circumstances(runner: Runner) -> dict[str, str]:
    """Return what figures depend on besides the machine and the versions."""
    model, bench = runner.model, runner.bench
    return {
        "servers": ", ".join(runner.servers.addresses),
        "model config": model.config_digest or "not told",
        "writes": "nothing" if bench.no_write else f"beside {runner.options.out}",
        "trial": f"{bench.trial_length_s:g} s",
        "seed": str(bench.seed),
    }
