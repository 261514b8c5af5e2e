"""Markup: HTML and SVG as values; whatever is not markup already is escaped. Pure."""

from __future__ import annotations

import html
import re

_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Control characters, marks that turn the direction of writing, and what UTF-8 cannot hold: server
texts may have any of them."""

_VOID = frozenset({"br", "hr", "meta"})


class Markup(str):
    """Text that is HTML or SVG; any other text is escaped where it becomes a part of some."""

    __slots__ = ()


Child = str | int | float | None
"""What may stand within an element: markup, text or a number; None is left out."""


def escape(text: str, length_max: int | None = None) -> Markup:
    """Return text as markup.

    Args:
        text: any text.
        length_max: characters to keep; what is longer ends in an ellipsis.
    """
    if length_max is not None and len(text) > length_max:
        text = text[: length_max - 1] + "…"
    return Markup(html.escape(_UNSHOWN.sub("\ufffd", text), quote=True))


def element(tag: str, *children: Child, **attributes: Child | bool) -> Markup:
    """Return one element.

    Args:
        tag: its name; never from data.
        children: what stands within, in order.
        attributes: underscores in names become hyphens, one at the end is dropped (``class_``);
            None and False are left out, True is an attribute without a value.
    """
    begin = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        written = name.removesuffix("_").replace("_", "-")
        begin.append(f'{written}="{written if value is True else _child(value)}"')
    opening = " ".join(begin)
    if tag in _VOID:
        return Markup(f"<{opening}/>")
    return Markup(f"<{opening}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Return children one after the other."""
    return Markup("".join(_child(child) for child in children))


def _child(value: Child) -> str:
    match value:
        case None:
            return ""
        case Markup():
            return value
        case float():
            return f"{value:.2f}".rstrip("0").rstrip(".")
        case _:
            return escape(str(value))
