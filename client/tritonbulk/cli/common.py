"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from tritonbulk.errors import OptionError
from tritonbulk.options import DEFAULT_REPOSITORY, TransportName

_Command = TypeVar("_Command", bound=Callable[..., Any])


def model_options(command: _Command) -> _Command:
    """Add the options that say which model is asked, and where."""
    for option in reversed(
        (
            click.option("--model", required=True, help="Name of the model on the server."),
            click.option("--model-version", metavar="V", help="Version.  [default: the newest]"),
            click.option(
                "--repository",
                type=click.Path(path_type=Path),
                metavar="DIR",
                help=f"Model repository.  [default: {DEFAULT_REPOSITORY}, without --endpoint]",
            ),
            click.option(
                "--endpoint",
                multiple=True,
                metavar="HOST:PORT",
                help="A running Triton server (gRPC); repeat for several.  [default: embedded]",
            ),
            click.option("--instances", type=int, help="Model instances in the embedded server."),
            click.option(
                "--transport",
                type=click.Choice(get_args(TransportName)),
                default="auto",
                show_default=True,
                help="What carries the requests.",
            ),
            click.option(
                "--trust-shared-memory",
                is_flag=True,
                help="Share memory with the servers at --endpoint, which are on this machine.",
            ),
        )
    ):
        command = option(command)
    return command


input_map_option = click.option(
    "--input-map",
    multiple=True,
    metavar="TENSOR=COLUMN[,COLUMN…]",
    help="Columns that feed a tensor, patterns allowed.  [default: the model's contract]",
)


def number_or_auto(text: str) -> int | None:
    """Return a whole number, or None for ``auto``."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a whole number nor auto") from None


def parse_pairs(entries: Sequence[str], option: str) -> dict[str, str]:
    """Return the mapping that ``key=value`` entries describe.

    Raises:
        OptionError: an entry has another form; a retry does not help.
    """
    pairs: dict[str, str] = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not (key and equals and value):
            raise OptionError(f"{option} {entry!r} is not of the form tensor=column")
        pairs[key] = value
    return pairs
