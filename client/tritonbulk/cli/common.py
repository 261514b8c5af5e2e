"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from tritonbulk.contract import parse_input_map
from tritonbulk.errors import OptionError
from tritonbulk.options import DEFAULT_REPOSITORY, Format, TransportName

_Command = TypeVar("_Command", bound=Callable[..., Any])


def model_options(command: _Command) -> _Command:
    """Add the options that say which model is asked, where, and what goes in and out."""
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
            click.option(
                "--cpu", is_flag=True, help="Embedded server: serve models for GPUs on the CPU."
            ),
            click.option(
                "--keep",
                metavar="COLUMNS",
                help="Input columns to keep, comma-separated, patterns allowed; '' keeps none.  "
                "[default: all of --columns]",
            ),
            click.option(
                "--rename",
                multiple=True,
                metavar="TENSOR=COLUMN",
                help="Name a prediction column.",
            ),
            click.option(
                "--input-map",
                multiple=True,
                metavar="TENSOR=COLUMN[,COLUMN…]",
                help="Columns that feed a tensor, patterns allowed.  "
                "[default: the model's contract]",
            ),
        )
    ):
        command = option(command)
    return command


def source_options(command: _Command) -> _Command:
    """Add the options that say how the input is read."""
    for option in reversed(
        (
            click.option(
                "--format",
                "input_format",
                type=click.Choice(get_args(Format)),
                help="Of all input files.  [default: by their extensions]",
            ),
            click.option(
                "--columns",
                metavar="COLUMNS",
                help="Input columns to look at, comma-separated, patterns allowed.  [default: all]",
            ),
            click.option(
                "--where",
                metavar="FILTER",
                help="Score only rows where this is true, for example 'distance > 100 and carrier "
                'in ("AA", "UA") and `tail number` is not null\'.',
            ),
            click.option(
                "--limit", type=int, help="Read only the first so many rows, before --where."
            ),
        )
    ):
        command = option(command)
    return command


def parse_source_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `ScoreOptions` that `source_options` gives."""
    return {
        "input_format": given["input_format"],
        "columns": parse_names(given["columns"]),
        "where": given["where"],
        "limit_rows": given["limit"],
    }


def parse_model_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `ScoreOptions` that `model_options` gives."""
    return {
        "model": given["model"],
        "model_version": given["model_version"],
        "endpoints": given["endpoint"],
        "repository": given["repository"],
        "instances": given["instances"],
        "cpu": given["cpu"],
        "transport": given["transport"],
        "trust_shared_memory": given["trust_shared_memory"],
        "input_map": parse_input_map(given["input_map"]),
        "keep": parse_names(given["keep"]),
        "rename": parse_pairs(given["rename"], "--rename"),
    }


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Return the names in a comma-separated list; None if there is none."""
    if text is None:
        return None
    return tuple(name.strip() for name in text.split(",") if name.strip())


def number_or_auto(text: str) -> int | None:
    """Return a whole number, or None for ``auto``."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a whole number nor auto") from None


def size_bytes(text: str) -> int:
    """Return the bytes that a size such as ``100MB`` or ``1GiB`` stands for."""
    found = re.fullmatch(r"(\d+)\s*(?:([kMG])(i?))?B?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no size; give for example 100MB or 1GiB")
    number, unit, binary = found.groups()
    return int(number) * int((1024 if binary else 1000) ** " kMG".index(unit or " "))


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
