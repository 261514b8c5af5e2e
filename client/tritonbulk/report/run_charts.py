"""Charts of a scoring run, from what was recorded of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tritonbulk.bottleneck import Load
from tritonbulk.report.bars import Bar, Bin, bar_chart, histogram
from tritonbulk.report.lines import Line, Point, Series, line_chart
from tritonbulk.report.markup import Markup
from tritonbulk.report.numbers import compact, count, percent, seconds
from tritonbulk.report.recorder import LATENCIES, Recorder, edge
from tritonbulk.report.scale import Axis

PERCENTILES = ((0.5, "median"), (0.9, "90 %"), (0.99, "99 %"))
ENDPOINTS_DRAWN = 20
BAR_PLACES = 2
"""Counters of latencies that make one bar."""
MARKS_MAX = 3
"""Losses of endpoints that are pointed out in a chart; more would hide it."""

_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def _time(record: Recorder) -> tuple[list[float], Axis, float]:
    """Return the middle of each bin, the axis they belong on, and the seconds of its unit."""
    length_s = len(record.bins) * record.bin_s
    unit_s, name = next((each for each in _UNITS if length_s >= 3 * each[0]), _UNITS[-1])
    middles = [(place + 0.5) * record.bin_s / unit_s for place in range(len(record.bins))]
    return middles, Axis(f"{name} since the run began"), unit_s


def _series(name: str, xs: Sequence[float], ys: Sequence[float | None], **look: bool) -> Series:
    return Series(name, tuple(Point(x, y) for x, y in zip(xs, ys, strict=True)), **look)


def throughput(record: Recorder) -> Markup:
    """Return rows answered a second over time."""
    xs, time, unit_s = _time(record)
    mean = record.rows / (len(record.bins) * record.bin_s)
    lines = [Line(mean, f"mean {compact(mean)}")]
    lines += [
        Line(at_s / unit_s, f"{_cut(change.endpoint)} {change.state}", is_vertical=True)
        for at_s, change in record.changes
        if change.state in {"resting", "gone"}
    ][:MARKS_MAX]
    return line_chart(
        "Throughput",
        [_series("rows/s", xs, list(record.rate()), is_area=True)],
        time,
        Axis("rows/s"),
        note=f"rows answered in every {seconds(record.bin_s)}",
        lines=lines,
    )


def _cut(address: str) -> str:
    return address if len(address) <= 20 else address[:19] + "…"


def window(record: Recorder) -> Markup:
    """Return requests in flight, and how many there could be, over time."""
    xs, time, _ = _time(record)
    ends = [each.answered + each.failed for each in record.bins]
    mean = [
        each.in_flight_sum / times if times else None
        for each, times in zip(record.bins, ends, strict=True)
    ]
    width: list[float | None] = []
    for each in record.bins:
        # It holds until the next one is told.
        width.append(each.window if each.window is not None else width[-1] if width else None)
    return line_chart(
        "Requests in flight",
        [_series("mean in flight", xs, mean), _series("window", xs, width, is_step=True)],
        time,
        Axis("requests"),
        note="counted when a request ended; the window is the most there may be",
    )


def latency_over_time(record: Recorder) -> Markup:
    """Return percentiles of latency over time."""
    xs, time, _ = _time(record)
    return line_chart(
        "Latency over time",
        [
            _series(name, xs, [each.latencies.quantile(share) for each in record.bins])
            for share, name in PERCENTILES
        ],
        time,
        Axis("latency", is_log=True, show=seconds),
        note="from sending a request to its answer",
    )


def failures(record: Recorder) -> Markup:
    """Return failed attempts over time."""
    xs, time, _ = _time(record)
    failed = [each.failed / record.bin_s for each in record.bins]
    return line_chart(
        "Failed attempts",
        [_series("failed attempts", xs, failed, is_area=True)],
        time,
        Axis("attempts/s"),
        note="rows of failed attempts are sent again",
    )


def latencies(record: Recorder) -> Markup:
    """Return how often requests took how long."""
    counts = record.latencies.counts
    bins = [
        Bin(edge(place), edge(place + BAR_PLACES), times)
        for place in range(0, LATENCIES, BAR_PLACES)
        if (times := sum(counts[place : place + BAR_PLACES]))
    ]
    quantiles = [(record.latencies.quantile(share), name) for share, name in PERCENTILES]
    return histogram(
        "Latency of requests",
        bins,
        Axis("from sending to answer", is_log=True, show=seconds),
        Axis("requests", show=count if max(counts) < 10_000 else compact),
        lines=[Line(at, name, is_vertical=True) for at, name in quantiles[::2] if at is not None],
    )


def busy(load: Load) -> Markup:
    """Return the share of the time in which each stage was busy."""
    bars = [
        Bar("reading", (load.read,)),
        Bar("event loop", (load.loop,)),
        Bar("writing", (load.write,)),
        Bar("requests under way", (load.under_way,)),
    ]
    if load.instances is not None:
        bars.append(Bar("model instances", (load.instances,)))
    return bar_chart(
        "Busy, of the whole time",
        bars,
        ["busy"],
        show=percent,
        full=1.0,
        note="the one that is busy nearly all of the time bounds the rate",
    )


def round_trip(load: Load) -> Markup:
    """Return where the time of a mean request goes."""
    whole_s = load.round_trip_ms / 1e3
    queue_s, compute_s = (load.queue_ms or 0.0) / 1e3, (load.compute_ms or 0.0) / 1e3
    if load.queue_ms is None:
        bars = [Bar("server and wire", (whole_s,))]
    else:
        rest_s = max(whole_s - queue_s - compute_s, 0.0)
        bars = [
            Bar("server's queue", (queue_s,)),
            Bar("server's compute", (compute_s,)),
            Bar("wire and waiting", (rest_s,)),
            Bar("together", (whole_s,)),
        ]
    return bar_chart(
        "Where a mean request's time goes",
        bars,
        ["time"],
        show=seconds,
        note="from sending it to its answer",
    )


def shares(record: Recorder) -> Markup:
    """Return how many rows each endpoint answered."""
    ranked = sorted(record.endpoints.items(), key=lambda each: -each[1].rows)[:ENDPOINTS_DRAWN]
    return bar_chart(
        "Rows by endpoint", [Bar(name, (float(each.rows),)) for name, each in ranked], ["rows"]
    )
