"""Frame of a chart: figure, legend, axes and grid, as all charts have them. Pure.

Charts are drawn 440 units wide, which a phone shows at three quarters of that and a desktop a
little larger, so that their text stays readable on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tritonbulk.report.markup import Child, Markup, element, join
from tritonbulk.report.scale import Axis, Scale, fit

WIDTH, HEIGHT = 440, 260
TEXT_PX = 12
_LETTER_PX = 7.4
"""Mean width of a letter or digit at `TEXT_PX`, on the wide side."""
_TOP, _RIGHT, _BOTTOM, _INSET = 26, 14, 42, 16


def text_width(text: str) -> float:
    """Return about how wide a text is, in user units."""
    return len(text) * _LETTER_PX


def text_at(x: float, y: float, text: Child, anchor: str = "start", **attributes: Child) -> Markup:
    """Return a text in a picture; ``anchor`` says which end of it stands at ``x``."""
    return element("text", text, x=x, y=y, text_anchor=anchor, **attributes)


@dataclass(frozen=True, slots=True)
class Plane:
    """Two scales and where they cross.

    Attributes:
        x: from left to right.
        y: from below to above.
        left: place of the y axis, at or before the beginning of ``x``.
    """

    x: Scale
    y: Scale
    left: float

    @property
    def floor(self) -> float:
        """Place of the lower end."""
        return self.y.begin

    def draw_axes(self) -> Markup:
        """Return grid, ticks and labels."""
        left, right = self.left, WIDTH - _RIGHT
        parts = [text_at(0, 12, self.y.axis.label, class_="axis")]
        for tick in self.y.ticks:
            y = self.y.at(tick)
            parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(text_at(left - 6, y + 4, self.y.axis.show(tick), "end"))
        parts.append(
            element("line", x1=left, x2=right, y1=self.floor, y2=self.floor, class_="base")
        )
        free_from = -1.0
        for tick in self.x.ticks:
            x, shown = self.x.at(tick), self.x.axis.show(tick)
            half = text_width(shown) / 2
            parts.append(
                element("line", x1=x, x2=x, y1=self.floor, y2=self.floor + 4, class_="base")
            )
            # A label that would touch the one before, or leave the picture, is left out or moved.
            centre = min(max(x, half), WIDTH - half)
            if centre - half >= free_from:
                parts.append(text_at(centre, self.floor + 17, shown, "middle"))
                free_from = centre + half + 8
        middle = (left + right) / 2
        parts.append(text_at(middle, self.floor + 36, self.x.axis.label, "middle", class_="axis"))
        return element("g", *parts)


def plane(
    x: Axis, y: Axis, xs: Iterable[float | None], ys: Iterable[float | None], height: int = HEIGHT
) -> Plane:
    """Return the plane that shows all values, with room for its labels."""
    down = fit(y, ys, height - _BOTTOM, _TOP)
    left = max(text_width(y.show(tick)) for tick in (*down.ticks, down.high)) + 12
    left = min(left, WIDTH / 2)
    # Where values stand on ticks of their own, the first and the last keep off the edges.
    inset = _INSET if x.ticks else 0
    return Plane(fit(x, xs, left + inset, WIDTH - _RIGHT - inset), down, left)


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend: a name and how it is drawn."""

    name: str
    colour: str
    dash: str | None = None
    marker: str = ""
    is_dotted: bool = False


def figure(
    title: str,
    drawing: Iterable[Markup | None],
    alt: str,
    height: float = HEIGHT,
    note: str = "",
    keys: Sequence[Key] = (),
) -> Markup:
    """Return a whole chart.

    Args:
        title: what it shows.
        drawing: its parts, in the order in which they are painted.
        alt: what a reader who does not see it should know.
        height: of the picture in user units.
        note: a sentence below the title.
        keys: the legend; drawn if there are several.
    """
    picture = element(
        "svg",
        element("title", title),
        element("desc", alt),
        *drawing,
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_label=f"{title}. {alt}",
        class_="chart",
    )
    return element(
        "figure",
        element("figcaption", element("strong", title), element("span", note) if note else None),
        picture,
        _legend(keys) if len(keys) > 1 else None,
    )


def empty(title: str, why: str) -> Markup:
    """Return what stands in place of a chart that has nothing to show."""
    said = text_at(WIDTH / 2, 44, why, "middle", class_="axis")
    return figure(title, [said], why, height=80)


def _legend(keys: Sequence[Key]) -> Markup:
    def swatch(key: Key) -> Markup:
        if not key.marker:
            field = element("rect", x=1, y=2, width=14, height=10, rx=2, fill=key.colour)
            return element("svg", field, viewBox="0 0 16 14", width=16, aria_hidden="true")
        line = element(
            "line",
            x1=0,
            x2=26,
            y1=7,
            y2=7,
            stroke=key.colour,
            stroke_width=2,
            stroke_dasharray=key.dash,
        )
        return element(
            "svg",
            None if key.is_dotted else line,
            mark(key.marker, 13, 7, key.colour),
            viewBox="0 0 26 14",
            width=26,
            aria_hidden="true",
        )

    return element("ul", *(element("li", swatch(key), key.name) for key in keys), class_="legend")


MARKERS = ("circle", "square", "triangle", "diamond", "cross", "bar")


def mark(shape: str, x: float, y: float, colour: str, note: str = "") -> Markup:
    """Return a marker of about 7 units; ``note`` is shown to whoever points at it."""
    told = element("title", note) if note else None
    if shape == "circle":
        return element("circle", told, cx=x, cy=y, r=3.5, fill=colour)
    steps = {
        "square": "M-3.2-3.2h6.4v6.4h-6.4z",
        "triangle": "M0-4.2L4 3.2H-4z",
        "diamond": "M0-4.6L4.2 0 0 4.6-4.2 0z",
        "cross": "M-3.5-3.5l7 7M3.5-3.5l-7 7",
        "bar": "M0-4.5v9",
    }[shape]
    is_open = shape in {"cross", "bar"}
    return element(
        "path",
        told,
        d=steps,
        transform=f"translate({x:.2f} {y:.2f})",
        fill="none" if is_open else colour,
        stroke=colour if is_open else None,
        stroke_width=2 if is_open else None,
    )


def group(parts: Iterable[Markup], **attributes: Child) -> Markup:
    """Return parts as one."""
    return element("g", join(*parts), **attributes)
