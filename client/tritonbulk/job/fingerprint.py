"""Fingerprint: canonical JSON, its digest, and the difference of two values. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHOWN_CHARACTERS_MAX = 60
"""Characters of a value that a difference shows."""


NAMES_SHOWN_MAX = 5
"""Names that a difference lists at one place."""


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of ``value``: members by name, no spaces, UTF-8.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def fingerprint(value: Any) -> str:
    """Return ``sha256:`` and the hex digest of the canonical JSON of ``value``."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def difference(begun: Any, asked: Any) -> tuple[str, ...]:
    """Return where two JSON values differ, one short text a place: ``inputs[a.csv].size 7 → 8``.

    Lists of things with names are compared by name: ``output[x, z] added``, ``output[y] removed``.

    Empty if, and only if, their canonical JSON is the same.
    """
    return tuple(_places("", begun, asked))


def _places(path: str, begun: Any, asked: Any) -> Iterator[str]:
    if isinstance(begun, Mapping) and isinstance(asked, Mapping):
        for name in sorted(begun.keys() | asked.keys()):
            inner = f"{path}.{name}" if path else name
            yield from _places(inner, begun.get(name, _ABSENT), asked.get(name, _ABSENT))
    elif (before := _named(begun)) is not None and (after := _named(asked)) is not None:
        yield from _by_name(path, before, after)
    elif _is_list(begun) and _is_list(asked):
        for index in range(max(len(begun), len(asked))):
            pair = (each[index] if index < len(each) else _ABSENT for each in (begun, asked))
            yield from _places(f"{path}[{index}]", *pair)
    elif _shown(begun, None) != _shown(asked, None):
        yield f"{path} {_shown(begun)} → {_shown(asked)}"


def _by_name(path: str, begun: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    for word, here, there in (("added", asked, begun), ("removed", begun, asked)):
        names = [name for name in here if name not in there]
        if more := len(names) - NAMES_SHOWN_MAX:
            names[NAMES_SHOWN_MAX:] = [f"and {more} more"] if more > 0 else []
        if names:
            yield f"{path}[{', '.join(names)}] {word}"
    common = [name for name in begun if name in asked]
    for name in common:
        yield from _places(f"{path}[{name}]", begun[name], asked[name])
    if common != [name for name in asked if name in begun]:
        yield f"{path} in another order"


def _named(value: Any) -> dict[str, Any] | None:
    """Return the items of a list by name: objects with a name, or pairs of name and type.

    None if it is no such list, or two items have one name.
    """
    if not _is_list(value):
        return None
    found: dict[str, Any] = {}
    for each in value:
        if isinstance(each, Mapping):
            name = each.get("name")
        elif _is_list(each) and len(each) == 2:
            name = each[0]
        else:
            return None
        if not isinstance(name, str) or name in found:
            return None
        found[name] = each
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _shown(value: Any, characters_max: int | None = SHOWN_CHARACTERS_MAX) -> str:
    if value is _ABSENT:
        return "(absent)"
    text = canonical_json(value).decode()
    if characters_max is None or len(text) <= characters_max:
        return text
    return text[: characters_max - 1] + "…"


_ABSENT = object()
