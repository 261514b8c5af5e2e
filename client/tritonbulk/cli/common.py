"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from tritonbulk.access import Access, is_secret
from tritonbulk.contract import parse_input_map
from tritonbulk.errors import OptionError
from tritonbulk.options import Format
from tritonbulk.redaction import Secret
from tritonbulk.scorer_options import DEFAULT_REPOSITORY, TransportName
from tritonbulk.secret_files import secret_of_file

_Command = TypeVar("_Command", bound=Callable[..., Any])


csv_guard_option = click.option(
    "--csv-guard/--no-csv-guard",
    default=True,
    show_default=True,
    help="In a single .csv file put ' before column names and errors that look like formulas.",
)
single_writer_option = click.option(
    "--single-writer",
    is_flag=True,
    help="For places that cannot create without replacing: you vouch that no other run writes "
    "there.",
)


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


def access_options(command: _Command) -> _Command:
    """Add the options that say how servers at --endpoint are reached."""
    path = click.Path(path_type=Path)
    for option in reversed(
        (
            click.option("--tls", is_flag=True, help="Speak TLS to the endpoints."),
            click.option(
                "--tls-ca",
                type=path,
                metavar="PEM",
                help="Authority that their certificates descend from.  [default: the public ones]",
            ),
            click.option("--tls-cert", type=path, metavar="PEM", help="Our certificate (mTLS)."),
            click.option("--tls-key", type=path, metavar="PEM", help="Its private key."),
            click.option(
                "--tls-server-name",
                metavar="NAME",
                help="Name in their certificates.  [default: the endpoint's]",
            ),
            click.option(
                "--header",
                "plain_headers",
                multiple=True,
                metavar="NAME=VALUE",
                help="Header of every request that is not secret; repeat for several.",
            ),
            click.option(
                "--header-env",
                "variable_headers",
                multiple=True,
                metavar="NAME=VARIABLE",
                help="Header whose secret value stands in an environment variable.",
            ),
            click.option(
                "--header-file",
                "file_headers",
                multiple=True,
                metavar="NAME=FILE",
                help="Header whose secret value is a file's text.",
            ),
        )
    ):
        command = option(command)
    return command


def instances_option(command: _Command) -> _Command:
    """Add the option that says how many instances an embedded server has."""
    return click.option("--instances", type=int, help="Model instances in the embedded server.")(
        command
    )


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
                "--untrusted",
                is_flag=True,
                help="The files are a stranger's: read them in a process with limits.",
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
        "untrusted": given["untrusted"],
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
        "access": parse_access(given),
        "repository": given["repository"],
        "cpu": given["cpu"],
        "transport": given["transport"],
        "trust_shared_memory": given["trust_shared_memory"],
        "input_map": parse_input_map(given["input_map"]),
        "keep": parse_names(given["keep"]),
        "rename": parse_pairs(given["rename"], "--rename"),
    }


def parse_access(given: Mapping[str, Any]) -> Access:
    """Return what `access_options` gives, secret values read.

    Raises:
        OptionError: a header has no value, or a secret one stands on the command line; no retry.
    """
    headers: dict[str, str | Secret] = {}
    for option, parameter, read in (
        ("--header", "plain_headers", _plain_header),
        ("--header-env", "variable_headers", _header_of_variable),
        ("--header-file", "file_headers", _header_of_file),
    ):
        for entry in given[parameter]:
            name, equals, value = entry.partition("=")
            if not (name and equals and value):
                raise OptionError(f"{option} needs the form NAME=…; the name comes first")
            name = name.lower()
            if name in headers:
                raise OptionError(f"header {name!r} is given twice; leave one out")
            headers[name] = read(name, value)
    return Access(
        tls=given["tls"],
        tls_ca=given["tls_ca"],
        tls_cert=given["tls_cert"],
        tls_key=given["tls_key"],
        tls_server_name=given["tls_server_name"],
        headers=headers,
    )


def _plain_header(name: str, value: str) -> str:
    if is_secret(name):
        Secret(value)  # no message quotes it, though the process list already has
        raise OptionError(
            f"--header {name} puts a secret into the process list; give it by --header-env "
            f"{name}=VARIABLE or --header-file {name}=FILE"
        )
    return value


def _header_of_variable(name: str, variable: str) -> Secret:
    value = os.environ.get(variable, "")
    if not value:
        raise OptionError(f"--header-env {name}: variable {variable} is not set; export it")
    return Secret(value)


def _header_of_file(name: str, path: str) -> Secret:
    return secret_of_file(f"--header-file {name}", path)


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
    found = re.fullmatch(r"(\d+)\s*(?:([kmgt])(i?))?b?", text.strip(), re.IGNORECASE)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no size; give a whole number of kB, MB, GB, TB (thousands) or KiB, MiB, "
            "GiB, TiB (1,024s), for example 100MB or 1GiB"
        )
    number, unit, binary = found.groups()
    return int(number) * int((1024 if binary else 1000) ** " kmgt".index((unit or " ").lower()))


def duration_s(text: str) -> float:
    """Return the seconds that a duration such as ``90``, ``90s``, ``5m`` or ``1h`` stands for."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration; give for example 90s, 5m or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def whole_numbers(text: str) -> tuple[int, ...]:
    """Return the whole numbers in a comma-separated list."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of whole numbers like 64,1024") from None


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
