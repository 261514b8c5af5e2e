"""Pages: one HTML file that needs nothing else; no script, no network. Pure.

The policy in its head forbids every request and every script, so that text of servers and files
could do nothing even if it escaped its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from tritonbulk.report.markup import Child, Markup, element, join
from tritonbulk.report.styles import STYLES

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

Tone = Literal["good", "warn", "bad", "plain"]
_SIGNS = {"good": "✓", "warn": "!", "bad": "✗", "plain": ""}


def page(title: str, *parts: Child, footer: Child = None) -> str:
    """Return a whole page as text; write it as UTF-8.

    Args:
        title: of the page and its window.
        parts: what it shows, from above to below.
        footer: a last line in small print.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light"),
        element("title", title),
        element("style", Markup(STYLES)),
    )
    body = element(
        "body",
        element("main", *parts),
        element("footer", footer) if footer else None,
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def headline(title: str, lead: Child) -> Markup:
    """Return the page's first lines: what it is about."""
    return element("header", element("h1", title), element("p", lead))


def verdict(text: Child, *reasons: Child, tone: Tone = "good") -> Markup:
    """Return what a reader should take away, before anything else.

    Args:
        text: one sentence.
        reasons: what it rests on, and what to do; a list.
        tone: how good it is; also a sign, so that no colour is needed to tell.
    """
    sign = element("span", _SIGNS[tone], class_="sign", aria_hidden="true")
    said = element("p", sign if _SIGNS[tone] else None, element("span", text), class_="said")
    because = element("ul", *(element("li", reason) for reason in reasons)) if reasons else None
    return element("section", said, because, class_=f"verdict {tone}", aria_label="Verdict")


def section(title: str, *parts: Child, lead: Child = None) -> Markup:
    """Return a part of the page under a heading."""
    return element(
        "section", element("h2", title), element("p", lead, class_="lead") if lead else None, *parts
    )


def charts(*figures: Markup | None) -> Markup:
    """Return charts side by side where there is room, one below the other where not."""
    return element("div", *figures, class_="charts")


def tiles(figures: Iterable[tuple[str, Child, Child]]) -> Markup:
    """Return the few numbers that matter most: (name, number, explanation) each."""
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", name),
                element("dd", number, class_="number"),
                element("dd", said) if said else None,
            )
            for name, number, said in figures
        ),
        class_="tiles",
    )


def card(facts: Mapping[str, Child]) -> Markup:
    """Return facts by name, such as those of an environment."""
    rows = (
        element("div", element("dt", name), element("dd", fact)) for name, fact in facts.items()
    )
    return element("dl", *rows, class_="card")


def table(headings: Sequence[str], rows: Iterable[Sequence[Child]], numbers: int = 0) -> Markup:
    """Return a table that scrolls by itself where it is too wide.

    Args:
        headings: of the columns.
        rows: their cells.
        numbers: how many columns, counted from the last, are numbers and stand to the right.
    """
    begin = len(headings) - numbers

    def line(tag: str, cells: Sequence[Child]) -> Markup:
        marked = (
            element(
                tag,
                cell,
                class_="n" if index >= begin else None,
                scope="col" if tag == "th" else None,
            )
            for index, cell in enumerate(cells)
        )
        return element("tr", *marked)

    return element(
        "div",
        element(
            "table",
            element("thead", line("th", headings)),
            element("tbody", *(line("td", row) for row in rows)),
        ),
        class_="table",
        role="region",
        tabindex=0,
        aria_label=", ".join(headings),
    )


def folded(title: str, *parts: Child) -> Markup:
    """Return parts that show when they are asked for; print shows them always."""
    return element("details", element("summary", title), join(*parts))


def code(text: str) -> Markup:
    """Return a command or other text in which every letter counts."""
    return element("pre", element("code", text))
