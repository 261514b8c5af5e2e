"""Heat maps: a table whose fields are as dark as their values are large. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tritonbulk.report import palette
from tritonbulk.report.frame import TEXT_PX, WIDTH, empty, figure, text_at, text_width
from tritonbulk.report.markup import Markup, element
from tritonbulk.report.numbers import compact
from tritonbulk.report.scale import is_shown

ROW_PX = 32
_TOP = 40


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a heat map.

    Attributes:
        value: its value; None: it was not measured.
        mark: a short sign beside the value, such as "★".
        is_best: it stands out.
        note: shown to whoever points at it.
    """

    value: float | None
    mark: str = ""
    is_best: bool = False
    note: str = ""


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    fields: Sequence[Sequence[Field]],
    row_label: str,
    column_label: str,
    show: Callable[[float], str] = compact,
    note: str = "",
) -> Markup:
    """Return a heat map as a figure.

    Args:
        title: what it shows.
        rows: names of the rows, from above to below.
        columns: names of the columns.
        fields: one sequence a row, one field a column.
        row_label: what the rows are.
        column_label: what the columns are.
        show: how a value is written.
        note: a sentence below the title.
    """
    values = [f.value for row in fields for f in row if is_shown(f.value)]
    measured = [value for value in values if value is not None]
    if not measured:
        return empty(title, "nothing was measured")
    low, high = min(measured), max(measured)
    left = max(max(map(text_width, rows)) + 10, text_width(row_label) + 14)
    width = (WIDTH - left) / len(columns)
    drawing = [
        text_at(left + (WIDTH - left) / 2, 12, column_label, "middle", class_="axis"),
        text_at(0, 30, row_label, class_="axis"),
    ]
    drawing += [
        text_at(left + (index + 0.5) * width, 30, name, "middle")
        for index, name in enumerate(columns)
    ]
    for line, (name, row) in enumerate(zip(rows, fields, strict=True)):
        y = _TOP + line * ROW_PX
        drawing.append(text_at(left - 8, y + ROW_PX / 2 + TEXT_PX / 3, name, "end"))
        for index, (column, field) in enumerate(zip(columns, row, strict=True)):
            share = 0.0
            if field.value is not None and high > low:
                share = (field.value - low) / (high - low)
            where = f"{name} {row_label}, {column} {column_label}"
            drawing.append(_draw(field, left + index * width, y, width, share, where, show))
    best = max(measured)
    name = next(
        f"{row_name} {row_label} and {column} {column_label}"
        for row_name, row in zip(rows, fields, strict=True)
        for column, field in zip(columns, row, strict=True)
        if field.value == best
    )
    alt = (
        f"{len(rows)} by {len(columns)} fields, {len(measured)} of them measured, from {show(low)} "
        f"to {show(high)}; the largest at {name}."
    )
    return figure(title, drawing, alt, height=_TOP + len(rows) * ROW_PX, note=note)


def _draw(
    field: Field,
    x: float,
    y: float,
    width: float,
    share: float,
    where: str,
    show: Callable[[float], str],
) -> Markup:
    place = {"x": x + 1, "y": y + 1, "width": max(width - 2, 1), "height": ROW_PX - 2, "rx": 3}
    middle = (x + width / 2, y + ROW_PX / 2 + TEXT_PX / 3)
    if field.value is None or not is_shown(field.value):
        told = element("title", f"{where}: {field.note or 'not measured'}")
        return element(
            "g",
            element("rect", told, class_="unmeasured", **place),
            text_at(*middle, field.mark or "·", "middle"),
        )
    fill, ink = palette.shade(share)
    said = show(field.value)
    told = element("title", f"{where}: {said}. {field.note}".strip())
    shown = f"{field.mark} {said}".strip()
    if text_width(shown) > width - 4:
        shown = field.mark or ("" if text_width(said) > width - 4 else said)
    return element(
        "g",
        element("rect", told, fill=fill, class_="best" if field.is_best else None, **place),
        text_at(
            *middle,
            shown,
            "middle",
            class_=ink or None,
            pointer_events="none",
            font_weight="bold" if field.is_best else None,
        ),
    )
