"""``tritonbulk bench-diff`` and ``bench-restore``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tritonbulk.bench.compare import THRESHOLD, Difference, compare
from tritonbulk.bench.figures import read_trials
from tritonbulk.bench.setting import Variant, describe_variant
from tritonbulk.bench.vary import restore
from tritonbulk.cli.common import access_options, parse_access
from tritonbulk.errors import InputError, OptionError


@click.command(
    name="bench-diff",
    epilog="Example:  tritonbulk bench-diff main.json branch.json --threshold 0.05 > comment.md",
)
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=float,
    default=THRESHOLD,
    show_default=True,
    help="Smallest change that counts, as a share.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as one JSON object.")
def diff_command(first: Path, second: Path, threshold: float, as_json: bool) -> int:
    """Compare two sweeps: whether SECOND is faster or slower than FIRST. Prints Markdown.

    Rates are compared in pairs, round by round. It is a change only if the 95 % interval of the
    ratio excludes 1 and the change passes --threshold.

    Exit codes: 0 not slower, 1 slower, 2 wrong use.
    """
    if not 0 <= threshold < 1:
        raise OptionError(f"--threshold is {threshold}; give a share from 0 to below 1")
    try:
        overall, single = compare(read_trials(first), read_trials(second), threshold)
    except ValueError:
        raise InputError(f"{first} and {second} have no setting in common") from None
    click.echo(markdown(overall, single, first.name, second.name, threshold))
    if as_json:
        plain = {"overall": asdict(overall), "settings": [asdict(each) for each in single]}
        click.echo(json.dumps(plain))
    return 1 if any(each.change == "slower" for each in (overall, *single)) else 0


def markdown(
    overall: Difference, single: Sequence[Difference], first: str, second: str, threshold: float
) -> str:
    """Return the differences as a comment for a pull request."""
    said = {
        "faster": f"**{second} is faster**",
        "slower": f"**{second} is slower**",
        "no change": "no change",
    }[overall.change]
    rule = f"a change is one whose interval excludes 1 and that passes {threshold:.0%}"
    lines = [
        f"### Bench: {said}",
        "",
        f"{_ratio(overall)} over {overall.pairs} rounds; {rule}.",
        "",
        f"| batch rows | in flight | server | {second} ÷ {first} | 95 % interval | |",
        "|--:|--:|---|--:|--:|---|",
    ]
    for each in single:
        assert each.setting is not None, "only the overall difference has none"
        mark = {"faster": "▲ faster", "slower": "▼ slower", "no change": "~"}[each.change]
        lines.append(
            f"| {each.setting.batch_rows:,} | {each.setting.in_flight} "
            f"| {describe_variant(each.setting.variant, Variant(), is_short=True)} "
            f"| {each.ratio.value:.3f} | {each.ratio.low:.3f} … {each.ratio.high:.3f} | {mark} |"
        )
    return "\n".join(lines)


def _ratio(difference: Difference) -> str:
    ratio = difference.ratio
    return f"{ratio.value:.3f} × ({ratio.low:.3f} … {ratio.high:.3f})"


@click.command(name="bench-restore", epilog="Example:  tritonbulk bench-restore")
@access_options
def restore_command(**given: Any) -> int:
    """Put back the servers that a killed bench --vary-server has left varied.

    Every bench does so when it begins; this is for doing it at once.
    """
    told: list[str] = []
    left = asyncio.run(restore(told.append, parse_access(given)))
    for text in told or ["no server was left varied"]:
        click.echo(text)
    return 3 if left else 0
