"""Version numbers: 18 digits, the minute of publication and six digits of the content.

Triton reads version folders as 64-bit integers, ignores leading zeros and aborts at 20 digits; 18
digits that start with a year are safe, and grow with time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tritonbulk.contract import Contract

_DIGEST_DIGITS = 6
_MINUTE = "%Y%m%d%H%M"
VERSION_DIGITS = 18


def content_digest(contract: Contract) -> str:
    """Return the hex digest of what an entry *means*: model file, tensors, columns, categories.

    Versions of tools and parity figures do not count: they may differ between two exports of one
    and the same content.
    """
    meaning = replace(contract, tools={}, parity={}).to_json()
    return hashlib.sha256(meaning.encode()).hexdigest()


def digest_digits(content: str) -> int:
    """Return the six decimal digits of a content digest that end its version number."""
    return int(content, 16) % 10**_DIGEST_DIGITS


def next_version(content: str, now: datetime, taken: Collection[int]) -> int:
    """Return the version for new ``content``: larger than every one in ``taken``.

    Args:
        content: hex digest.
        now: time of publication, with a time zone.
        taken: versions that exist; numbers that do not begin with a minute are not ours and do not
            count.
    """
    ours = [version for version in taken if _minute_of(version) is not None]
    minute = int(now.astimezone(UTC).strftime(_MINUTE))
    version = _joined(minute, content)
    if ours and version <= max(ours):
        # Two contents within a minute, or a clock that was set back.
        newest = _minute_of(max(ours))
        assert newest is not None, "all of them have one"
        later = newest + timedelta(minutes=1)
        version = _joined(int(later.strftime(_MINUTE)), content)
    return version


def _minute_of(version: int) -> datetime | None:
    """Return the minute that a version number begins with; None if it is not one of ours."""
    if len(str(version)) != VERSION_DIGITS:
        return None
    try:
        minute = datetime.strptime(str(version // 10**_DIGEST_DIGITS), _MINUTE)
    except ValueError:
        return None
    return minute.replace(tzinfo=UTC)


def _joined(minute: int, content: str) -> int:
    return minute * 10**_DIGEST_DIGITS + digest_digits(content)
