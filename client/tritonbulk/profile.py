"""Profile: a measured choice of batch rows and window, from the figures that ``bench`` wrote.

Batch rows are else a pure function of the model, so that a job run twice sends the same requests.
A profile is a value of its own for that reason: what was measured once is pinned from then on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonbulk.errors import InputError


@dataclass(frozen=True, slots=True)
class Profile:
    """The setting of a sweep that scored the most rows a second.

    Attributes:
        model: name of the model that was measured.
        batch_rows: rows a request.
        in_flight: requests in flight, over all endpoints.
        rows_per_second: median of what was measured so.
    """

    model: str
    batch_rows: int
    in_flight: int
    rows_per_second: float


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
    """Return the profile in the JSON of a sweep; of equal cells the first.

    Raises:
        LookupError, TypeError, ValueError: it is not that.
    """
    figures = json.loads(text)
    best = max(figures["cells"], key=lambda cell: float(cell["rows_per_second"]))
    return Profile(
        model=str(figures["model"]),
        batch_rows=_count(best["setting"]["batch_rows"]),
        in_flight=_count(best["setting"]["in_flight"]),
        rows_per_second=float(best["rows_per_second"]),
    )


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(value)
    return value
