"""Given: what callers of the library give, in any form that is meant well, as fields of options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tritonbulk.contract import parse_input_map
from tritonbulk.errors import OptionError
from tritonbulk.lineage import parse_interval
from tritonbulk.polite import parse_yield_to
from tritonbulk.profile import read_profile
from tritonbulk.shards import parse_shard


def strings(given: str | Path | Sequence[Any]) -> tuple[Any, ...]:
    """Return one thing or several as several: a string is one, not its letters."""
    return (given,) if isinstance(given, (str, Path)) else tuple(given)


_FORMS: Mapping[str, Callable[[Any], object]] = {
    "columns": strings,
    "keep": strings,
    "model_version": str,
    "report": Path,
    "repository": Path,
    "single_file": Path,
}
"""What makes the value of a field of one that is given, unless that is None."""

_PARSERS: Mapping[str, Callable[[str], object]] = {
    "data_interval": parse_interval,
    "shard": lambda text: parse_shard(text, os.environ),
    "yield_to": parse_yield_to,
}
"""Fields that may be given as the text which the command line takes."""


def option_fields(given: Mapping[str, Any], known: Sequence[str], caller: str) -> dict[str, Any]:
    """Return the fields of options that keywords stand for: strings are parsed, one made several.

    Args:
        given: keywords by name.
        known: names of the fields that there are.
        caller: who was called, for the error.

    Raises:
        OptionError: a keyword is not known, or its value is not understood; no retry.
    """
    options = dict(given)
    if unknown := options.keys() - set(known):
        raise OptionError(
            f"{caller} has no option {min(unknown)!r}; it has {', '.join(sorted(known))}"
        )
    for name in ("batch_rows", "in_flight_max"):
        if options.get(name) == "auto":
            options[name] = None
    for name, form in _FORMS.items():
        if options.get(name) is not None:
            options[name] = form(options[name])
    for name, parse in _PARSERS.items():
        if isinstance(options.get(name), str):
            options[name] = parse(options[name])
    if isinstance(options.get("profile"), (str, Path)):
        options["profile"] = read_profile(Path(options["profile"]))
    if "endpoints" in options:
        options["endpoints"] = strings(options["endpoints"] or ())
    options["input_map"] = _input_map(options.get("input_map") or {})
    return options


def _input_map(
    given: str | Sequence[str] | Mapping[str, str | Sequence[str]],
) -> dict[str, tuple[str, ...]]:
    if isinstance(given, Mapping):
        return {tensor: strings(columns) for tensor, columns in given.items()}
    return parse_input_map(strings(given))
