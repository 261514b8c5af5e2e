"""Apply: a verdict becomes ``config.pbtxt``, but only if measuring once more confirms its gain.

The recommended configuration and the present one are measured in turn, each loaded through model
control, before the file is touched: whatever ends this early leaves the file as it was. A confirmed
one is written beside a backup, loaded from the file, and measured a last time; if the server then
does not serve what was measured, the backup takes its place again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tritonbulk.bench import configuration
from tritonbulk.bench.cells import knee_of, summarize
from tritonbulk.bench.result import Applied, Sweep
from tritonbulk.bench.runner import Runner
from tritonbulk.bench.search import Step
from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bench.statistics import paired_ratio
from tritonbulk.errors import InputError, OptionError, SinkError
from tritonbulk.scorer_options import DEFAULT_REPOSITORY

ROUNDS = 5
"""Trials of each configuration that must confirm the gain."""

LAST_SHARE = 0.9
"""Share of the confirmed rate that the file, loaded as it is, must reach."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of one ``config.pbtxt``.

    Attributes:
        path: of the file.
        before: its text.
        after: the recommended text.
        diff: what changes; "" for nothing.
    """

    path: Path
    before: str
    after: str
    diff: str


def propose(runner: Runner, sweep: Sweep) -> Proposal:
    """Return how the verdict changes the model's ``config.pbtxt``.

    Raises:
        UsageError: there is no verdict, no such file, or the server must not be varied.
    """
    if sweep.verdict is None:
        raise OptionError("--apply has nothing to write: the sweep has no verdict")
    if runner.control is None:
        raise OptionError("--apply needs --vary-server, to measure what it writes")
    if runner.options.endpoints and runner.options.repository is None:
        raise OptionError("--apply with --endpoint needs the server's --repository on this machine")
    repository = runner.options.repository or DEFAULT_REPOSITORY
    path = repository / runner.model.name / "config.pbtxt"
    try:
        before = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); check the repository") from error
    config = configuration.parse_text(before, str(path))
    # A version is chosen by requests, and not in this file.
    wanted = replace(sweep.verdict.setting.variant, version=runner.base.version)
    edited = configuration.with_variant(config, wanted, runner.base)
    after = before if edited == config else configuration.to_text(edited, before)
    return Proposal(path, before, after, configuration.difference(before, after, path.name))


async def carry_out(
    runner: Runner, sweep: Sweep, proposal: Proposal, say: Callable[[str], None]
) -> Applied:
    """Measure a proposal against what is there, and write it if it is faster for sure.

    Raises:
        SinkError: the file cannot be written; it is as it was.
        TritonbulkError: the servers are gone; the file is as it was.
    """
    assert sweep.verdict is not None, "a proposal comes of one"
    assert runner.control is not None, "and of a server that may be varied"
    new = replace(
        sweep.verdict.setting,
        variant=replace(sweep.verdict.setting.variant, version=runner.base.version),
    )
    old = _best_as_configured(sweep, runner.base, new)
    pairs: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        rates = {}
        for setting in (new, old) if number % 2 else (old, new):  # ABBA: drift hits both alike
            rates[setting] = (await runner.run(Step(setting, "to confirm"), number)).rows_per_second
        if min(rates.values()) <= 0:
            return Applied(None, is_kept=False, backup=None, why="a trial of it failed")
        pairs.append((rates[new], rates[old]))
        say(f"round {number + 1} of {ROUNDS}: {rates[new] / rates[old]:.3f} × as fast")
    ratio = paired_ratio(pairs)
    if ratio.low <= 1:
        return Applied(ratio, is_kept=False, backup=None, why="its gain is not confirmed")
    backup = _write(proposal)
    try:
        why = await _check(runner, new, LAST_SHARE * median(rate for rate, _ in pairs))
    except BaseException:
        backup.replace(proposal.path)
        raise
    if why:
        backup.replace(proposal.path)
        return Applied(ratio, is_kept=False, backup=None, why=why)
    return Applied(ratio, is_kept=True, backup=backup, why="")


async def _check(runner: Runner, wanted: Setting, rate_least: float) -> str:
    """Return what is wrong with the file once the server has loaded it; "" for nothing."""
    assert runner.control is not None
    if await runner.control.reload() != wanted.variant:
        return "the server does not read this file, or reads it differently"
    trial = await runner.run(Step(wanted, "as written"), ROUNDS)
    return "" if trial.rows_per_second >= rate_least else "loaded from the file it is slower"


def _best_as_configured(sweep: Sweep, base: Variant, new: Setting) -> Setting:
    """Return the best setting without any change of the server."""
    cells = [cell for cell in summarize(sweep.trials) if cell.setting.variant == base]
    best = knee_of(cells, base)
    return best.setting if best is not None else replace(new, variant=base)


def _write(proposal: Proposal) -> Path:
    """Replace the file and return the backup beside it."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    backup = proposal.path.with_name(f"{proposal.path.name}.{now}.bak")
    aside = proposal.path.with_name(f".{proposal.path.name}.{os.getpid()}")
    try:
        with backup.open("x", encoding="utf-8") as file:
            file.write(proposal.before)
            os.fsync(file.fileno())
        with aside.open("w", encoding="utf-8") as file:
            file.write(proposal.after)
            os.fsync(file.fileno())
        aside.replace(proposal.path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise SinkError(f"writing {proposal.path} failed ({error}); it is as it was") from error
    return backup
