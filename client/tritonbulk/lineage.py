"""Lineage: what period the rows are about, and how old they may be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tritonbulk.errors import OptionError, StaleError

_NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class DataInterval:
    """The period that rows are about: from ``begin`` to before ``end``, both in UTC."""

    begin: datetime
    end: datetime

    def to_plain(self) -> tuple[str, str]:
        """Return both in ISO 8601, one text for one moment."""
        return _text(self.begin), _text(self.end)

    def __str__(self) -> str:
        return "/".join(self.to_plain())


def parse_interval(text: str) -> DataInterval:
    """Return the interval that ``FROM/TO`` stands for: dates (midnight UTC), or times with offset.

    Raises:
        OptionError: it is none; a retry does not help.
    """
    begin, slash, end = text.partition("/")
    try:
        found = DataInterval(_moment(begin), _moment(end))
    except ValueError:
        found = None
    if not slash or found is None or found.begin >= found.end:
        raise OptionError(
            f"--data-interval is {text!r}; give FROM/TO, the earlier first, as dates (midnight "
            "UTC) or times with their offset: 2026-11-30/2026-12-01 or "
            "2026-11-30T00:00:00Z/2026-11-30T06:00:00Z"
        )
    return found


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text.strip())
    if found.tzinfo is None:
        if len(text.strip()) > len("2026-11-30"):
            raise ValueError("a time without an offset may be any of some 26 hours")
        found = found.replace(tzinfo=UTC)
    return found.astimezone(UTC)


def _text(moment: datetime) -> str:
    return moment.isoformat().removesuffix("+00:00") + "Z"


def check_fresh(
    names: Sequence[str], changed_ns: Sequence[int], now_ns: int, max_age_s: float
) -> None:
    """Check that no input is too old.

    Args:
        names: of the inputs.
        changed_ns: when each last changed, in ns since 1970; 0 where its store does not tell.
        now_ns: the time, likewise.
        max_age_s: seconds since its last change that an input may be old.

    Raises:
        StaleError: names those that are older; a retry helps once they are renewed.
    """
    pairs = list(zip(names, changed_ns, strict=True))
    if silent := [name for name, changed in pairs if not changed]:
        raise StaleError(
            f"{silent[0]}: its store does not tell when it last changed; leave --max-age out"
        )
    ages_s = [(name, (now_ns - changed) / 1e9) for name, changed in pairs]
    stale = [f"{name} ({_span(age)} old)" for name, age in ages_s if age > max_age_s]
    if stale:
        more = len(stale) - _NAMED_MAX
        named = ", ".join(stale[:_NAMED_MAX]) + (f" and {more:,} more" if more > 0 else "")
        raise StaleError(
            f"older than --max-age allows ({_span(max_age_s)}): {named}; renew them, then run again"
        )


def _span(seconds: float) -> str:
    for size_s, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size_s:
            return f"{seconds / size_s:.1f} {unit}".replace(".0 ", " ")
    return f"{seconds:.0f} s"
