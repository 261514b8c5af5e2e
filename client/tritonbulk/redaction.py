"""Redaction: secrets that show themselves nowhere, and texts without them.

Whoever holds a secret holds it as a `Secret`, which is known here from then on; every text that
leaves the process for people or files (errors, logs, records of runs) goes through `redact`.
"""

from __future__ import annotations

import base64
import hmac
import html
import json
import re
from typing import Any, NoReturn, Self
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

HIDDEN = "***"
"""What stands in a text where a secret stood."""

SECRET_CHARACTERS_MIN = 4
"""Shorter secrets are held as carefully, but not looked for in texts: they stand in every word."""

_TELLING = re.compile(r"(?i)key|secret|token|signature|password|credential|\bsig\b|auth")
"""In names of parameters of a URI: their values are secrets."""

_forms: set[str] = set()
_pattern: re.Pattern[str] | None = None


class Secret:
    """A text that is used, never shown: neither by ``str``, ``repr``, formatting, JSON nor pickle.

    Args:
        value: the text; `reveal` gives it back.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        hide(value)

    def reveal(self) -> str:
        """Return the text itself, for the one who sends it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not written anywhere; pass on where it comes from instead")


def hide(value: str) -> None:
    """Take ``value``, however it is quoted, out of every text that is redacted from now on."""
    global _pattern  # noqa: PLW0603 - what is secret is secret for the whole process
    if len(value) < SECRET_CHARACTERS_MIN or value in _forms:
        return
    _forms.update(_quoted(value))
    longest_first = sorted(_forms, key=len, reverse=True)
    _pattern = re.compile("|".join(map(re.escape, longest_first)))


def hide_in_uri(uri: str) -> None:
    """Hide the password of a URI, and those values of its query that are secret by their names."""
    if "://" not in uri:
        return
    parts = urlsplit(uri)
    if parts.username and parts.password:
        hide(parts.password)
    for name, value in parse_qsl(parts.query):
        if _TELLING.search(name):
            hide(value)


def redact(text: str) -> str:
    """Return ``text`` with `HIDDEN` in the place of every secret, whichever way it is quoted."""
    return text if _pattern is None else _pattern.sub(HIDDEN, text)


def _quoted(value: str) -> set[str]:
    """Return the forms in which a text may stand in another."""
    forms = {value, repr(value)[1:-1], ascii(value)[1:-1], repr(value.encode())[2:-1]}
    forms |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    forms |= {html.escape(value), html.escape(value, quote=False)}
    forms |= {quote(value), quote(value, safe=""), quote_plus(value)}
    forms.add(base64.b64encode(value.encode()).decode().rstrip("="))
    # Quoted twice: a dictionary that is printed within JSON.
    forms |= {json.dumps(form)[1:-1] for form in tuple(forms)}
    return forms
