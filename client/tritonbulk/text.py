"""Text that others wrote, made fit to be shown: names in files, words of servers."""

from __future__ import annotations

from tritonbulk.redaction import redact

SAID_CHARACTERS_MAX = 500
"""Characters of a server's words that are kept, wherever they go."""


def printable(text: str) -> str:
    """Return ``text`` with everything that a terminal would not show as itself escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def said(text: str) -> str:
    """Return a server's words without secrets, on one line, escaped and cut.

    At most `SAID_CHARACTERS_MAX` characters; "…" ends what was cut.
    """
    words = printable(" ".join(redact(text[: 100 * SAID_CHARACTERS_MAX]).split()))
    if len(words) <= SAID_CHARACTERS_MAX:
        return words
    return words[: SAID_CHARACTERS_MAX - 1] + "…"
