"""Quotes of CSV: where rows end, read the way that Arrow reads them.

A quote at the front of a value opens it and the next one closes it, but two in a row stand for one;
any other quote is a letter. Arrow takes what follows a quote that is never closed, all rows to the
file's end, for one value; so rows are told apart here before Arrow sees them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_QUOTE = ord('"')
_FRONTS = b',\r\n"'
"""What a quote that opens a value comes after; after a quote it goes on with the value."""


def rows_end(data: bytes) -> tuple[int, bool]:
    """Return where the last whole row ends, and whether ``data`` ends within quotes.

    Args:
        data: begins with a row.
    """
    quotes = _quotes(data)
    end = len(data)
    while True:
        end = max(data.rfind(b"\n", 0, end), data.rfind(b"\r", 0, end)) + 1
        before = int(np.searchsorted(quotes, end))
        if before % 2 == 0:
            return end, len(quotes) % 2 == 1
        end = int(quotes[before - 1])  # no row ends within this value


def _quotes(data: bytes) -> npt.NDArray[np.int64]:
    """Return the positions of the quotes that open and close, in turn."""
    if b'"' not in data:
        return np.empty(0, np.int64)
    letters = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(letters == _QUOTE)
    opening = quotes[::2]
    # Of the first letter of all this looks at the last one; it is looked at no further.
    fronts = letters[opening - 1]
    if np.isin(fronts[opening > 0], np.frombuffer(_FRONTS, np.uint8)).all():
        return quotes
    return np.array(_one_by_one(data, quotes.tolist()), np.int64)


def _one_by_one(data: bytes, quotes: list[int]) -> list[int]:
    """Return the quotes that open and close, where some are letters."""
    found: list[int] = []
    closed, is_open = -2, False
    for at in quotes:
        if is_open:
            closed, is_open = at, False
        elif at == 0 or at - 1 == closed or data[at - 1] in b",\r\n":
            is_open = True
        else:
            continue
        found.append(at)
    return found
