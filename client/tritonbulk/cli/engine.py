"""``tritonbulk score --engine``: the shards of one job as tasks of a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from typing import Any, Literal, TypeVar, get_args

import click

from tritonbulk.committing import Committed
from tritonbulk.errors import PlatformError
from tritonbulk.options import ScoreOptions

Engine = Literal["ray"]
SHARDS = 4
"""Default of ``--engine-shards``."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def engine_options(command: _Command) -> _Command:
    """Add the options that have a job done by an engine."""
    shards = click.option(
        "--engine-shards",
        type=click.IntRange(1, 10_000),
        default=SHARDS,
        show_default=True,
        metavar="N",
        help="With --engine: in how many tasks.",
    )
    engine = click.option(
        "--engine",
        type=click.Choice(get_args(Engine)),
        help="Score in tasks of a cluster (the one of RAY_ADDRESS, else one on this machine); the "
        "output is that of one run.",
    )
    return engine(shards(command))


def score_with_engine(options: ScoreOptions, shards: int, *, as_json: bool) -> int:
    """Score by shards in an engine's tasks, commit, print what was done; return the exit code."""
    try:
        score: Callable[..., Committed] = import_module("tritonbulk.engines.ray_job").score_with_ray
    except ModuleNotFoundError as error:
        raise PlatformError(
            f"--engine ray needs a package that is not installed ({error.name}); "
            "pip install 'tritonbulk[ray]'"
        ) from None
    done = score(options, shards, lambda text: click.echo(text, err=True))
    click.echo(
        f"{done.rows:,} rows in {done.parts:,} parts, {done.rows_failed:,} failed\n"
        f"output: {done.output}"
    )
    if as_json:
        click.echo(json.dumps(asdict(done)))
    return 1 if done.rows_failed else 0
