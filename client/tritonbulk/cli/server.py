"""``tritonbulk server``: the embedded server's private environment, by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tritonbulk.server import environment


@click.group(
    "server",
    epilog="""\b
Examples:
  tritonbulk server install
  tritonbulk server install --wheelhouse wheels/   (on a machine without a network)
  tritonbulk server info""",
)
def command() -> None:
    """Install, show or remove the environment that the embedded Triton server runs in.

    It is made by itself on first use. TRITONBULK_CACHE moves it.
    """


@command.command("install", epilog="Example: tritonbulk server install --wheelhouse wheels/")
@click.option(
    "--wheelhouse",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take the wheels from this folder; no network is used.",
)
def install(wheelhouse: Path | None) -> None:
    """Make the environment now, unless it is there."""
    ready = environment.install(say=_say, wheelhouse=wheelhouse)
    click.echo(ready.path)


@command.command("info", epilog="Example: tritonbulk server info --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def info(as_json: bool) -> None:
    """Show where the environment is and what is in it; exit 1 if there is none that can be used."""
    found = environment.info()
    if found is None:
        click.echo("no environment; it is made on first use")
        sys.exit(1)
    facts = {
        "path": str(found.path),
        "complete": found.complete,
        "python": found.python,
        "size_bytes": found.size_bytes,
        "versions": dict(sorted(found.versions.items())),
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for name, fact in facts.items():
            click.echo(f"{name:12}{fact}")
    sys.exit(0 if found.complete else 1)


@command.command("remove", epilog="Example: tritonbulk server remove")
def remove() -> None:
    """Delete the environment; it is made again when it is needed."""
    if not environment.remove(say=_say):
        click.echo("there was nothing to remove")


def _say(line: str) -> None:
    click.echo(line, err=True)
