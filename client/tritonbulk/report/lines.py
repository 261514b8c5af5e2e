"""Line charts: series with intervals or as areas, on linear or logarithmic axes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tritonbulk.report import palette
from tritonbulk.report.frame import (
    MARKERS,
    WIDTH,
    Key,
    Plane,
    empty,
    figure,
    group,
    mark,
    plane,
    text_at,
    text_width,
)
from tritonbulk.report.markup import Markup, element
from tritonbulk.report.scale import Axis

MARKED_MAX = 40
"""Points from which on a line is drawn without markers."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series.

    Attributes:
        x: where.
        y: how much; None interrupts the line.
        low: lower end of its interval; None: it has none.
        high: upper end.
        note: shown to whoever points at it; "" says the values.
    """

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one name, in the order in which they are joined.

    Attributes:
        name: as the legend has it.
        points: the values.
        is_area: the space below it is filled.
        is_band: intervals are a band along the line; else each point has whiskers.
        is_step: a value holds until the next one.
        is_dotted: points alone, however many, and no line through them.
    """

    name: str
    points: tuple[Point, ...]
    is_area: bool = False
    is_band: bool = False
    is_step: bool = False
    is_dotted: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A value that a chart points out across its width or height.

    Attributes:
        at: the value.
        name: what it is.
        is_vertical: it is a value of x; else of y.
    """

    at: float
    name: str
    is_vertical: bool = False


def line_chart(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    note: str = "",
    alt: str = "",
    lines: Sequence[Line] = (),
) -> Markup:
    """Return a line chart as a figure.

    Args:
        title: what it shows.
        series: up to six are told apart by colour, dash and marker.
        x: the horizontal axis.
        y: the vertical axis.
        note: a sentence below the title.
        alt: what to say of it to those who do not see it; "" names ranges and ends.
        lines: values to point out.
    """
    drawn = plane(
        x,
        y,
        [p.x for s in series for p in s.points] + [line.at for line in lines if line.is_vertical],
        [v for s in series for p in s.points for v in (p.y, p.low, p.high)]
        + [line.at for line in lines if not line.is_vertical],
    )
    shown = [replace(s, points=tuple(_visible(s.points, drawn))) for s in series]
    if not any(point.y is not None for s in shown for point in s.points):
        return empty(title, "nothing was measured")
    keys = [
        Key(s.name, palette.series(i), palette.dash(i), MARKERS[i % len(MARKERS)], s.is_dotted)
        for i, s in enumerate(shown)
    ]
    return figure(
        title,
        [
            drawn.draw_axes(),
            *(draw_line(line, drawn, place) for place, line in enumerate(lines)),
            *(_draw_series(s, key, drawn) for s, key in zip(shown, keys, strict=True)),
        ],
        alt or _describe(shown, x, y),
        note=note,
        keys=keys,
    )


def _visible(points: Sequence[Point], drawn: Plane) -> Iterator[Point]:
    """Yield points with a place on the x axis; those without one on the y axis become gaps."""
    for point in points:
        if not drawn.x.shows(point.x):
            continue
        has_interval = drawn.y.shows(point.low) and drawn.y.shows(point.high)
        yield Point(
            point.x,
            point.y if drawn.y.shows(point.y) else None,
            point.low if has_interval else None,
            point.high if has_interval else None,
            point.note,
        )


def _runs(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Yield stretches of points without a gap."""
    run: list[Point] = []
    for point in points:
        if point.y is not None:
            run.append(point)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _draw_series(series: Series, key: Key, drawn: Plane) -> Markup:
    parts: list[Markup] = []
    for run in _runs(series.points):
        places = [(drawn.x.at(p.x), drawn.y.at(p.y or 0.0)) for p in run]
        if not series.is_dotted:
            parts += _draw_path(series, key, places, drawn)
        parts += _draw_intervals(series, key, run, drawn)
        is_marked = series.is_dotted or len(series.points) <= MARKED_MAX or len(run) == 1
        for point, (px, py) in zip(run, places, strict=True):
            if is_marked:
                note = point.note or _note(series.name, point, drawn)
                parts.append(mark(key.marker, px, py, key.colour, note))
    return group(parts)


def _draw_path(
    series: Series, key: Key, places: Sequence[tuple[float, float]], drawn: Plane
) -> Iterator[Markup]:
    path = _path(places, is_step=series.is_step)
    if series.is_area:
        down = f"L{places[-1][0]:.1f} {drawn.floor:.1f}L{places[0][0]:.1f} {drawn.floor:.1f}Z"
        yield element("path", d=path + down, fill=key.colour, fill_opacity=0.14)
    yield element(
        "path",
        d=path,
        fill="none",
        stroke=key.colour,
        stroke_width=2,
        stroke_dasharray=key.dash,
        stroke_linejoin="round",
        class_="line",
    )


def _draw_intervals(
    series: Series, key: Key, run: Sequence[Point], drawn: Plane
) -> Iterator[Markup]:
    ranged = [p for p in run if p.low is not None and p.high is not None]
    if series.is_band and ranged:
        upper = [(drawn.x.at(p.x), drawn.y.at(p.high or 0.0)) for p in ranged]
        lower = [(drawn.x.at(p.x), drawn.y.at(p.low or 0.0)) for p in reversed(ranged)]
        band = _path(upper + lower, is_step=False) + "Z"
        yield element("path", d=band, fill=key.colour, fill_opacity=0.18)
    elif ranged:
        whiskers = "".join(_whisker(p, drawn) for p in ranged)
        yield element("path", d=whiskers, stroke=key.colour, stroke_width=1.5, fill="none")


def _path(places: Sequence[tuple[float, float]], *, is_step: bool) -> str:
    (x, y), *rest = places
    steps = [f"M{x:.1f} {y:.1f}"]
    for px, py in rest:
        steps.append(f"H{px:.1f}V{py:.1f}" if is_step else f"L{px:.1f} {py:.1f}")
    return "".join(steps)


def _whisker(point: Point, drawn: Plane) -> str:
    x, low, high = drawn.x.at(point.x), drawn.y.at(point.low or 0.0), drawn.y.at(point.high or 0.0)
    return f"M{x - 4:.1f} {low:.1f}h8M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {high:.1f}h8"


def draw_line(line: Line, drawn: Plane, place: int = 0) -> Markup | None:
    """Return a pointed-out value, drawn; None if it has no place.

    Args:
        line: the value.
        drawn: where.
        place: which of the chart's lines it is: names beside vertical ones stand in rows.
    """
    scale = drawn.x if line.is_vertical else drawn.y
    if not scale.shows(line.at):
        return None
    at = scale.at(line.at)
    if line.is_vertical:
        ends = {"x1": at, "x2": at, "y1": drawn.y.end, "y2": drawn.floor}
        is_left = at + 4 + text_width(line.name) > WIDTH
        x, y, anchor = at - 4 if is_left else at + 4, 10 + place * 14, "end" if is_left else "start"
        name = text_at(x, drawn.y.end + y, line.name, anchor, class_="mark")
    else:
        ends = {"x1": drawn.left, "x2": drawn.x.end, "y1": at, "y2": at}
        name = text_at(drawn.left + 4, at - 4, line.name, class_="mark")
    return element("g", element("line", class_="mark", **ends), name)


def _note(name: str, point: Point, drawn: Plane) -> str:
    x, y = drawn.x.axis, drawn.y.axis
    text = f"{name}: {y.show(point.y or 0.0)} {y.label} at {x.show(point.x)} {x.label}"
    if point.low is not None and point.high is not None:
        text += f" (from {y.show(point.low)} to {y.show(point.high)})"
    return text


def _describe(series: Sequence[Series], x: Axis, y: Axis) -> str:
    said = []
    for one in series:
        points = [p for p in one.points if p.y is not None]
        if points:
            values = [p.y for p in points if p.y is not None]
            said.append(
                f"{one.name}: {y.show(min(values))} to {y.show(max(values))} {y.label} over "
                f"{x.show(points[0].x)} to {x.show(points[-1].x)} {x.label}"
            )
    return "; ".join(said) + "."
