"""Profile: a measured choice of batch rows and window, from the figures that ``bench`` wrote.

Batch rows are else a pure function of the model, so that a job run twice sends the same requests.
A profile is a value of its own for that reason: what was measured once is pinned from then on.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonbulk.errors import InputError


@dataclass(frozen=True, slots=True)
class Profile:
    """The setting that a sweep recommends.

    Attributes:
        model: name of the model that was measured.
        batch_rows: rows a request.
        in_flight: requests in flight, over all endpoints.
        rows_per_second: median of what was measured so.
        instances: of the model in an embedded server; None leaves what is configured.
        queue_delay_us: likewise; -1 without dynamic batching.
        max_batch_size: likewise; 0 for no limit.
    """

    model: str
    batch_rows: int
    in_flight: int
    rows_per_second: float
    instances: int | None = None
    queue_delay_us: int | None = None
    max_batch_size: int | None = None


def read_profile(path: Path) -> Profile:
    """Return the profile in a file of ``tritonbulk bench``.

    Raises:
        InputError: it is missing or something else; a retry does not help.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise InputError(f"profile {path} cannot be read ({error}); check the path") from error
    try:
        return parse_profile(text)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"profile {path} does not have the figures of tritonbulk bench; name the file that its "
            "--out wrote"
        ) from error


def parse_profile(text: str) -> Profile:
    """Return the profile in the JSON of a sweep: its verdict.

    Raises:
        LookupError, TypeError, ValueError: it is not that.
    """
    figures = json.loads(text)
    verdict, configured = figures["verdict"], figures["configured"]
    changed = {
        name: _count(verdict[name], least)
        for name, least in (("instances", 1), ("queue_delay_us", -1), ("max_batch_size", 0))
        if verdict[name] != configured[name]
    }
    return Profile(
        model=str(figures["model"]),
        batch_rows=_count(verdict["batch_rows"]),
        in_flight=_count(verdict["in_flight"]),
        rows_per_second=_rate(verdict["rows_per_second"]),
        **changed,
    )


def _rate(value: Any) -> float:
    rate = float(value)
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(value)
    return rate


def _count(value: Any, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise ValueError(value)
    return value
