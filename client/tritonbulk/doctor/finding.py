"""Finding: one thing that was looked at, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "unknown", "warning", "problem"]
"""How it is: as it should be, not told, slower or less safe than need be, in the way of a run."""

LEVELS: tuple[Level, ...] = ("ok", "unknown", "warning", "problem")
"""From the best to the worst."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found; the fields of ``doctor --json``.

    Attributes:
        check: what was looked at; a short name that stays the same between releases.
        level: how it is.
        about: the endpoint, place or package it was looked at; "" for this machine.
        text: what was found.
        fix: what to do; "" if nothing is to be done.
    """

    check: str
    level: Level
    about: str
    text: str
    fix: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level of all."""
    return max((each.level for each in findings), key=LEVELS.index, default="ok")
