"""Reports: charts and pages from plain values, as HTML files that need nothing else. Pure.

A chart is a function from values to markup (`line_chart`, `heat_map`, `histogram`, `bar_chart`,
`sparkline`); a page is made of these (`page`, `section`, `charts`, `verdict`, `tiles`, `card`,
`table`). Text becomes safe where it becomes markup, so that none has to be escaped before.
"""

from tritonbulk.report.bars import Bar, Bin, bar_chart, histogram
from tritonbulk.report.heat import Field, heat_map
from tritonbulk.report.lines import Line, Point, Series, line_chart
from tritonbulk.report.markup import Markup, element, escape, join
from tritonbulk.report.page import (
    card,
    charts,
    code,
    folded,
    headline,
    page,
    section,
    table,
    tiles,
    verdict,
)
from tritonbulk.report.scale import Axis
from tritonbulk.report.spark import bar_text, spark_text, sparkline

__all__ = [
    "Axis",
    "Bar",
    "Bin",
    "Field",
    "Line",
    "Markup",
    "Point",
    "Series",
    "bar_chart",
    "bar_text",
    "card",
    "charts",
    "code",
    "element",
    "escape",
    "folded",
    "headline",
    "heat_map",
    "histogram",
    "join",
    "line_chart",
    "page",
    "section",
    "spark_text",
    "sparkline",
    "table",
    "tiles",
    "verdict",
]
