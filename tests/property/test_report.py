"""Charts of any values are well-formed and stay within their pictures."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonbulk.report import (
    Axis,
    Bar,
    Bin,
    Field,
    Line,
    Point,
    Series,
    bar_chart,
    bar_text,
    element,
    heat_map,
    histogram,
    line_chart,
    page,
    spark_text,
    sparkline,
)
from tritonbulk.report.numbers import compact, seconds
from tritonbulk.report.scale import fit, is_shown

NUMBERS = st.floats() | st.sampled_from([0.0, -0.0, 1e-300, 1e300, -1.7e308, 1.7e308])
WIDTH = 440

axes = st.builds(Axis, st.just("axis"), is_log=st.booleans(), from_zero=st.booleans())
points = st.builds(
    Point, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS, st.text()
)
series = st.builds(
    Series, st.text(), st.lists(points, max_size=8).map(tuple), is_area=st.booleans(),
    is_band=st.booleans(), is_step=st.booleans(),
)  # fmt: skip


def read(markup):
    """Parse a chart and check that all numbers of its places lie within the picture."""
    root = ET.fromstring(f"<div>{markup}</div>")
    for picture in root.iter("svg"):
        if picture.get("class") != "chart":
            continue
        height = float(picture.get("viewBox").split()[3])
        bounds = {"x": WIDTH, "y": height}
        for node in picture.iter():
            for name, value in node.attrib.items():
                if name in {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"}:
                    assert -10 <= float(value) <= bounds.get(name[-1], WIDTH) + 10, (name, value)
                if name == "d":
                    assert not re.search("nan|inf", value)
                    assert all(abs(float(n)) <= WIDTH + 10 for n in re.findall(r"-?[\d.]+", value))
    return root


@given(st.lists(series, max_size=7), axes, axes, st.lists(st.builds(Line, NUMBERS, st.text(),
       st.booleans()), max_size=2))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_a_line_chart_of_anything_is_well_formed_and_within_its_picture(series, x, y, lines):
    read(line_chart("title", series, x, y, lines=lines))


@given(st.lists(st.builds(Bin, NUMBERS, NUMBERS, NUMBERS), max_size=8), axes)
@settings(max_examples=100, deadline=None)
def test_a_histogram_of_anything_is_well_formed_and_within_its_picture(bins, x):
    read(histogram("title", bins, x, Axis("requests")))


@given(st.lists(st.builds(Bar, st.text(), st.tuples(NUMBERS, NUMBERS)), max_size=8))
@settings(max_examples=100, deadline=None)
def test_bars_of_anything_are_well_formed(bars):
    read(bar_chart("title", bars, ["a", "b"]))


@given(st.data(), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_heat_map_of_anything_is_well_formed_and_within_its_picture(data, rows, columns):
    field = st.builds(
        Field, st.none() | NUMBERS, st.text(max_size=1), is_best=st.booleans(), note=st.text()
    )
    fields = [[data.draw(field) for _ in range(columns)] for _ in range(rows)]
    names = [f"{n}" for n in range(max(rows, columns))]
    root = read(heat_map("title", names[:rows], names[:columns], fields, "rows", "columns"))
    if any(is_shown(f.value) for row in fields for f in row):
        assert len(root.findall(".//rect")) == rows * columns


@given(st.lists(st.none() | NUMBERS, max_size=200), st.integers(1, 60))
def test_a_sparkline_of_anything_is_well_formed_and_short_enough(values, letters):
    read(sparkline(values, "rate"))
    assert len(spark_text(values, letters)) <= letters


@given(st.floats(0, 1), st.integers(1, 40))
def test_a_bar_of_text_is_as_long_as_its_share(share, letters):
    assert abs(len(bar_text(share, letters)) - share * letters) <= 1


@given(st.text(), st.text())
def test_text_cannot_leave_its_place(text, other):
    root = ET.fromstring(element("p", text, title=other))
    assert list(root) == []
    assert set(root.attrib) == {"title"}
    page(text, text, footer=other).encode()


def test_marks_that_turn_the_direction_of_writing_are_not_kept():
    assert "\u202e" not in element("p", "safe\u202egpj.exe")


@given(axes, st.lists(st.none() | NUMBERS, max_size=8))
def test_a_scale_keeps_order_and_its_ticks_lie_within(axis, values):
    scale = fit(axis, values, 0, 100)
    assert scale.low < scale.high
    assert len(scale.ticks) <= 14
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)
    shown = sorted(value for value in values if scale.shows(value))
    places = [scale.at(value) for value in shown]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert all(scale.low <= value <= scale.high for value in shown)


@given(st.floats(1e-6, 1e9), st.floats(1.5, 1e4))
def test_a_scale_has_at_least_two_round_ticks(low, factor):
    for axis in (Axis("a"), Axis("a", is_log=True)):
        assert len(fit(axis, [low, low * factor], 0, 100).ticks) >= 2


@pytest.mark.parametrize(
    ("wanted", "value"),
    [("1.23M", 1_234_567), ("285k", 285_123), ("1M", 999_960), ("0.0123", 0.0123), ("0", 0)],
)
def test_numbers_are_short(wanted, value):
    assert compact(value) == wanted


@pytest.mark.parametrize(
    ("wanted", "value"),
    [("12.3 ms", 0.0123), ("1 min 30 s", 90), ("1 min", 59.99), ("45 µs", 45e-6), ("2 h", 7200)],
)
def test_times_have_the_unit_that_suits_them(wanted, value):
    assert seconds(value) == wanted
