"""The page of a sweep: what to deploy and why, then the figures that say so. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import median

from tritonbulk.bench import page_charts as draw
from tritonbulk.bench.cells import Cell, summarize
from tritonbulk.bench.result import Applied, Checked, Sweep
from tritonbulk.bench.setting import Variant, describe_variant
from tritonbulk.bench.verdict import Advice, Verdict
from tritonbulk.bench.words import doubts
from tritonbulk.report import (
    Markup,
    card,
    charts,
    escape,
    folded,
    headline,
    join,
    page,
    section,
    table,
    tiles,
    verdict,
)
from tritonbulk.report.markup import Child
from tritonbulk.report.numbers import compact, count, percent, seconds

NAME_LETTERS = 200
VARIANTS_DRAWN = 6
"""Ways to set the server that get a heat map each: the recommended, the configured, the fastest."""

_NAMES = {
    "batch_rows": "rows a request",
    "in_flight": "requests in flight",
    "instances": "instances",
    "queue_delay_us": "queue delay",
    "max_batch_size": "max_batch_size",
}


def sweep_page(
    sweep: Sweep, began: datetime, checked: Sequence[Checked] = (), applied: Applied | None = None
) -> str:
    """Return the report of a sweep as one HTML file.

    Args:
        sweep: what was measured.
        began: when.
        checked: points that perf_analyzer measured as well.
        applied: what became of the recommended configuration, if it was to be written.
    """
    cells = summarize(sweep.trials)
    found = sweep.verdict
    inputs = ", ".join(sweep.inputs)
    return page(
        f"{sweep.model}: sweep"[:NAME_LETTERS],
        headline(
            f"{sweep.model}: how fast, and what to deploy",
            join(
                escape(inputs, 4 * NAME_LETTERS),
                f" · {len(sweep.trials):,} trials of {len(cells):,} settings in "
                f"{seconds(sweep.took_s)} · {began:%Y-%m-%d %H:%M} UTC",
            ),
        ),
        _verdict(found, sweep),
        tiles(_tiles(found, sweep)) if found else None,
        _advice(found.advice) if found else None,
        _applied(applied) if applied else None,
        _throughput(cells, sweep),
        *_curves(cells, sweep),
        _server(cells, sweep),
        _checked(checked) if checked else None,
        _trust(sweep),
        section(
            "All settings",
            folded(f"{len(cells):,} settings, none left out", _table(cells, sweep)),
        ),
        section("Environment", card({k: _fact(v) for k, v in sweep.environment.items()})),
        footer="Rates are rows a second from reading to writing, without the warm-up: medians of "
        "the trials of a setting, with 95 % bootstrap intervals. Nothing in this file is loaded "
        "from elsewhere.",
    )


def _fact(value: float | str) -> str:
    return str(value)[:NAME_LETTERS]


def _verdict(found: Verdict | None, sweep: Sweep) -> Markup:
    if found is None:
        why = sweep.trials[-1].error if sweep.trials else ""
        return verdict(
            "There is no verdict: in no trial were all rows scored.",
            *([f"The last trial: {escape(why, 2 * NAME_LETTERS)}"] if why else []),
            tone="bad",
        )
    server = _server_words(found)
    text = f"{count(found.batch_rows)} rows a request, {found.in_flight} in flight{server}: "
    low, high = found.interval.low, found.interval.high
    text += f"{count(found.rows_per_second)} rows/s."
    reasons: list[Child] = [
        f"The truth lies between {count(low)} and {count(high)} rows/s (95 %)."
        if high > low
        else "Measured once: there is no interval.",
        f"Bound by {found.bound_by}: {found.bound_why}.",
    ]
    share = found.rows_per_second / found.best_rows_per_second
    if share < 0.9995:
        reasons.append(
            f"The fastest setting of all is {1 / share - 1:.1%} faster and needs more in flight or "
            "more of the server; this is the cheapest that is nearly as fast."
        )
    if found.file_seconds is not None and found.file_rows is not None:
        reasons.append(f"All {count(found.file_rows)} rows take {seconds(found.file_seconds)}.")
    reasons += [f"Doubt: {text}." for text in doubts(found.labels)]
    return verdict(text, *reasons, tone="warn" if found.labels else "good")


def _server_words(found: Verdict) -> str:
    words = []
    if found.instances:
        words.append(f"{found.instances} instance{'s' if found.instances > 1 else ''}")
    if found.queue_delay_us > 0:
        words.append(f"queue delay {count(found.queue_delay_us)} µs")
    if found.max_batch_size:
        words.append(f"batches of up to {count(found.max_batch_size)} rows")
    return "".join(f", {word}" for word in words)


def _tiles(found: Verdict, sweep: Sweep) -> Iterator[tuple[str, Child, Child]]:
    low, high = compact(found.interval.low), compact(found.interval.high)
    yield "Rate", f"{compact(found.rows_per_second)}/s", f"rows; {low} to {high}"
    if sweep.ceiling:
        share = found.rows_per_second / sweep.ceiling
        said = f"the model alone, as configured: {compact(sweep.ceiling)} rows/s"
        yield "Of the ceiling", percent(share), said
    if found.gain is not None:
        said = f"of what score does unasked; {found.gain.low:.2f} to {found.gain.high:.2f}"
        yield "Gain", f"{found.gain.value:.2f} ×", said
    yield "Bound by", found.bound_by, "what a faster one of would help"
    if found.file_seconds is not None:
        yield "Whole file", seconds(found.file_seconds), f"{count(found.file_rows or 0)} rows"
    if found.cost_per_million_rows is not None:
        yield "Cost", f"{found.cost_per_million_rows:.3g}", "a million rows, in your currency"
    if found.fit is not None:
        yield (
            "A batch takes",
            f"{found.fit.a_ms:.3g} ms",
            f"and {found.fit.b_ms_per_row * 1e3:.3g} µs a row (R² {found.fit.r2:.3f})",
        )
    knee = found.knee_batch_rows
    span = count(knee[0]) if knee[0] == knee[1] else f"{count(knee[0])} to {count(knee[1])}"
    yield "Knee", span, "rows a request, by resampling"


def _advice(advice: Sequence[Advice]) -> Markup:
    def value(name: str, number: int | None) -> str:
        if number is None:
            return "–"
        if name == "queue_delay_us":
            return "no batching" if number < 0 else f"{number:,} µs"
        return f"{number:,}" if number else "unknown"

    def line(each: Advice) -> list[Child]:
        gain = "–"
        if each.gain is not None and each.against is not None:
            gain = f"{each.gain.value:.2f} × that of {value(each.name, each.against)}"
        name = _NAMES.get(each.name, each.name)
        configured = value(each.name, each.configured)
        return [name, value(each.name, each.value), configured, gain, each.why]

    return section(
        "What to set",
        table(("Setting", "To", "So far", "Its gain", "Why"), (line(each) for each in advice)),
    )


def _variants(cells: Sequence[Cell], sweep: Sweep) -> list[Variant]:
    """Return the server's settings: the recommended, the configured, then by their best rates."""
    best: dict[Variant, float] = {}
    for cell in cells:
        variant = cell.setting.variant
        best[variant] = max(best.get(variant, 0.0), cell.rows_per_second.value)
    recommended = sweep.verdict.setting.variant if sweep.verdict else None
    return sorted(best, key=lambda v: (v != recommended, v != sweep.space.base, -best[v]))


def _words(variant: Variant, sweep: Sweep) -> str:
    return describe_variant(variant, sweep.space.base) or "as configured"


def _title(variant: Variant, sweep: Sweep) -> str:
    changed = describe_variant(variant, sweep.space.base)
    return f"Server with {changed}" if changed else "Server as it is configured"


def _throughput(cells: Sequence[Cell], sweep: Sweep) -> Markup:
    variants = _variants(cells, sweep)
    recommended = sweep.verdict.setting if sweep.verdict else None
    left_out = len(variants) - VARIANTS_DRAWN
    return section(
        "Throughput",
        charts(
            *(
                draw.throughput(
                    [cell for cell in cells if cell.setting.variant == variant],
                    _title(variant, sweep),
                    recommended,
                )
                for variant in variants[:VARIANTS_DRAWN]
            )
        ),
        lead="Rows a second by rows a request and requests in flight. ★ is what to deploy, ? was "
        "measured under noise or in doubt, ✗ failed."
        + (f" {left_out} more settings of the server are in the table below." * (left_out > 0)),
    )


def _curves(cells: Sequence[Cell], sweep: Sweep) -> list[Markup]:
    """Return the curves of the recommended server, and of the configured one if that is another."""
    variants = [v for v in _variants(cells, sweep)[:2] if v == sweep.space.base]
    if sweep.verdict is not None:
        variants = list(dict.fromkeys([sweep.verdict.setting.variant, *variants]))
    found = []
    for variant in variants:
        shown = [cell for cell in cells if cell.setting.variant == variant]
        curves = charts(
            draw.throughput_and_latency(shown, sweep.verdict, sweep.ceiling),
            draw.throughput_by_rows(shown, sweep.ceiling),
        )
        title = "Throughput and latency"
        found.append(section(title, curves, lead=f"{_title(variant, sweep)}."))
    return found


def _server(cells: Sequence[Cell], sweep: Sweep) -> Markup | None:
    told = [cell for cell in cells if cell.server is not None]
    if not told:
        return None
    recommended = sweep.verdict.setting if sweep.verdict else None
    own = next((cell for cell in told if cell.setting == recommended), None)
    fit = sweep.verdict.fit if sweep.verdict else None
    return section(
        "What the server did, and what it cost",
        charts(
            draw.executed(own) if own else None,
            draw.batch_cost(told, fit) if fit else None,
            draw.time_split(told, recommended),
            draw.processor_cost(told, recommended),
        ),
        lead="By Triton's own statistics, and the processor time of client and server.",
    )


def _applied(applied: Applied) -> Markup:
    gain = "It was not measured against the present one."
    if (ratio := applied.ratio) is not None:
        gain = (
            f"Measured again: {ratio.value:.3f} × as fast as the present one "
            f"({ratio.low:.3f} to {ratio.high:.3f})."
        )
    if applied.is_kept:
        became = f"config.pbtxt is the recommended one now; it was {applied.backup}."
    else:
        became = f"config.pbtxt is as it was, because {applied.why}."
    return section("Applied", lead=f"{became} {gain}")


def _checked(checked: Sequence[Checked]) -> Markup:
    return section(
        "Beside perf_analyzer",
        table(
            ("Rows", "In flight", "Ours", "Theirs", "Ours ÷ theirs", "95 % interval"),
            (
                [
                    count(each.setting.batch_rows),
                    str(each.setting.in_flight),
                    count(median(each.ours)),
                    count(median(each.theirs)),
                    f"{each.ratio.value:.3f}",
                    f"{each.ratio.low:.3f} … {each.ratio.high:.3f}",
                ]
                for each in checked
            ),
            numbers=6,
        ),
        lead="Medians of rows a second at the same points with the same rows, paired by round.",
    )


def _trust(sweep: Sweep) -> Markup:
    noisy = sum(t.noise is not None and t.noise.is_noisy for t in sweep.trials)
    failed = sum(not trial.is_sound for trial in sweep.trials)
    return section(
        "Can it be trusted?",
        charts(draw.noise(sweep.trials), draw.order(sweep.trials)),
        lead=f"{noisy:,} of {len(sweep.trials):,} trials were disturbed by others on the machine, "
        f"{failed:,} had failures. None was left out.",
    )


def _table(cells: Sequence[Cell], sweep: Sweep) -> Markup:
    def line(cell: Cell) -> list[Child]:
        rate, server = cell.rows_per_second, cell.server
        setting = cell.setting
        cpu = f"{cell.cpu_s_client_per_mrow:.2f}"
        if cell.cpu_s_server_per_mrow is not None:
            cpu += f" + {cell.cpu_s_server_per_mrow:.2f}"
        return [
            count(setting.batch_rows),
            str(setting.in_flight),
            _words(setting.variant, sweep),
            "★" if sweep.verdict and setting == sweep.verdict.setting else " ".join(cell.labels),
            count(rate.value),
            f"{compact(rate.low)} … {compact(rate.high)}" if cell.trials > 1 else "one trial",
            percent(rate.value / sweep.ceiling) if sweep.ceiling else "–",
            f"{cell.round_trip_ms:.1f}",
            "–" if server is None else count(server.executed_batch_rows),
            cpu,
        ]

    ranked = sorted(cells, key=lambda cell: -cell.rows_per_second.value)
    return table(
        ("Rows", "In flight", "Server", "Labels", "Rows/s", "95 % interval", "Of ceiling",
         "Latency ms", "Executed batch", "CPU-s a million rows"),
        (line(cell) for cell in ranked),
        numbers=6,
    )  # fmt: skip
