"""The page of a scoring run: verdict, figures over time, what bounded it, what went wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tritonbulk.bottleneck import Bottleneck
from tritonbulk.report import run_charts as draw
from tritonbulk.report.markup import Child, Markup, escape, join
from tritonbulk.report.numbers import compact, count, percent, seconds
from tritonbulk.report.page import (
    Tone,
    card,
    charts,
    headline,
    page,
    section,
    table,
    tiles,
    verdict,
)
from tritonbulk.report.recorder import OTHERS, EndpointRecord, Recorder
from tritonbulk.report.run_words import ADVICE, BOUND_BY, MEANINGS, STATES
from tritonbulk.result import ScoreResult

NAME_LETTERS = 200
FILES_NAMED_MAX = 8


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a page says of a run besides its events.

    Attributes:
        model: the model's name.
        version: the version that answered.
        inputs: files, folders or patterns that were asked for.
        output: where the parts are.
        began: when the run began.
        seconds: how long it took, without starting a server.
        result: what it did; None if it did not come to its end.
        error: what ended it before that; "" for nothing.
        settings: what was asked for besides, by name.
        environment: machine and versions by name.
    """

    model: str
    version: str
    inputs: tuple[str, ...]
    output: str
    began: datetime
    seconds: float
    result: ScoreResult | None
    error: str
    settings: Mapping[str, str]
    environment: Mapping[str, str | int | float]


def run_page(facts: RunFacts, record: Recorder) -> str:
    """Return the report of a run as one HTML file."""
    inputs = ", ".join(facts.inputs[:FILES_NAMED_MAX])
    if len(facts.inputs) > FILES_NAMED_MAX:
        inputs += f" and {len(facts.inputs) - FILES_NAMED_MAX:,} more"
    began = facts.began.strftime("%Y-%m-%d %H:%M UTC")
    return page(
        f"{facts.model}: {inputs}"[:NAME_LETTERS],
        headline(
            f"{facts.model}, version {facts.version or 'unknown'}",
            join(escape(inputs, 4 * NAME_LETTERS), " → ", facts.output, f" · {began}"),
        ),
        _verdict(facts, record),
        tiles(_tiles(facts, record)),
        _over_time(record),
        _bound(facts.result.bottleneck) if facts.result and facts.result.bottleneck else None,
        _endpoints(record),
        _failures(record),
        _changes(record),
        section("Settings", card(facts.settings)) if facts.settings else None,
        section("Environment", card({k: str(v) for k, v in facts.environment.items()})),
        footer="Times run from the first read to the last commit. Percentiles are of answered "
        "requests, within 5 %. Nothing in this file is loaded from elsewhere.",
    )


def _verdict(facts: RunFacts, record: Recorder) -> Markup:
    result = facts.result
    tone: Tone
    if result is None:
        tone = "bad"
        text = f"The run ended before its time: {facts.error}"
        answered = f"{count(record.rows)} rows were answered."
        reasons = [f"{answered} Committed parts stay; the same command goes on with the rest."]
    elif result.rows_failed:
        tone = "warn"
        text = (
            f"{count(result.rows_ok)} of {count(result.rows_scored)} rows have a prediction, "
            f"{count(result.rows_failed)} an error, after {seconds(result.seconds)}."
        )
        reasons = ["Failed rows stand in the output in their place: _tritonbulk_status <> 0."]
    elif result.rows_scored:
        tone = "good"
        text = (
            f"All {count(result.rows_scored)} rows have a prediction, after "
            f"{seconds(result.seconds)}: {count(result.rows_per_second)} rows/s."
        )
        reasons = []
    else:
        tone, text, reasons = "plain", "There was nothing to score.", []
    if result is not None and result.bottleneck is not None:
        reasons.append(_bound_words(result.bottleneck))
        reasons.append(ADVICE[result.bottleneck.stage])
    repeated = sum(times for name, times in record.outcomes().items() if name != "ok")
    if repeated:
        reasons.append(f"{count(repeated)} attempts failed and were dealt with; see below.")
    if result is not None and result.segments_before:
        reasons.append(
            f"This run went on with a job: {count(result.segments_before)} parts were there "
            f"before, {count(result.segments)} are its own."
        )
    return verdict(text, *reasons, tone=tone)


def _bound_words(bottleneck: Bottleneck) -> str:
    what = BOUND_BY[bottleneck.stage]
    if bottleneck.is_saturated:
        return f"{what} bounded the rate: busy nearly all of the time."
    return f"No stage was busy all of the time; most of it went to {what[0].lower()}{what[1:]}."


def _tiles(facts: RunFacts, record: Recorder) -> Iterator[tuple[str, Child, Child]]:
    result, took_s = facts.result, facts.seconds
    rows = result.rows_scored if result else record.rows
    filtered = (
        f"{count(result.rows_filtered)} filtered out" if result and result.rows_filtered else ""
    )
    yield "Rows", count(rows), filtered or "scored by this run"
    yield "Rate", f"{compact(rows / took_s if took_s else 0)}/s", "rows, from read to commit"
    yield "Time", seconds(took_s), "without starting a server"
    if result:
        failed = f"{percent(result.rows_failed / rows)} of all" if result.rows_failed else "none"
        yield "Failed rows", count(result.rows_failed), failed
        per_mrow = result.cpu_seconds_client / rows * 1e6 if rows else 0.0
        yield "Client CPU", seconds(per_mrow), "of processor time a million rows"
    answered = record.latencies.total
    yield (
        "Requests",
        count(answered),
        (f"answered, of up to {count(result.batch_rows)} rows" if result else "answered"),
    )
    middle, high = record.latencies.quantile(0.5), record.latencies.quantile(0.99)
    if middle is not None and high is not None:
        yield "Latency", seconds(middle), f"median of a request; 99 % below {seconds(high)}"
    most = max((each.in_flight_max for each in record.bins), default=0)
    yield "In flight", count(result.in_flight_max if result else most), "requests at most"


def _over_time(record: Recorder) -> Markup | None:
    if not record.bins:
        return None
    has_failures = any(each.failed for each in record.bins)
    return section(
        "Over time",
        charts(
            draw.throughput(record),
            draw.window(record),
            draw.latency_over_time(record),
            draw.latencies(record),
            draw.failures(record) if has_failures else None,
        ),
    )


def _bound(bottleneck: Bottleneck) -> Markup:
    return section(
        "What bounded it",
        charts(draw.busy(bottleneck.load), draw.round_trip(bottleneck.load)),
        lead=_bound_words(bottleneck),
    )


def _endpoints(record: Recorder) -> Markup | None:
    if not record.endpoints:
        return None

    def line(address: str, endpoint: EndpointRecord) -> list[Child]:
        failed = sum(times for name, times in endpoint.outcomes.items() if name != "ok")
        middle, high = endpoint.latencies.quantile(0.5), endpoint.latencies.quantile(0.99)
        return [
            escape(address, NAME_LETTERS),
            STATES[endpoint.state] + (f", asked {endpoint.probes:,} ×" if endpoint.probes else ""),
            count(endpoint.rows),
            count(endpoint.outcomes.get("ok", 0)),
            count(failed),
            "–" if middle is None else seconds(middle),
            "–" if high is None else seconds(high),
        ]

    several = len([name for name in record.endpoints if name != OTHERS]) > 1
    return section(
        "Endpoints",
        charts(draw.shares(record)) if several else None,
        table(
            (
                "Endpoint",
                "At the end",
                "Rows answered",
                "Requests",
                "Failed attempts",
                "Median",
                "99 %",
            ),
            (line(address, endpoint) for address, endpoint in record.endpoints.items()),
            numbers=5,
        ),
    )


def _failures(record: Recorder) -> Markup | None:
    failed = {name: times for name, times in record.outcomes().items() if name != "ok"}
    if not failed and not record.reasons:
        return None
    parts = []
    if failed:
        ranked = sorted(failed.items(), key=lambda each: -each[1])
        parts.append(
            table(
                ("Attempts that failed", "What that means", "How many"),
                ([name, MEANINGS.get(name, ""), count(times)] for name, times in ranked),
                numbers=1,
            )
        )
    if record.reasons:
        by_rows = sorted(record.reasons.items(), key=lambda each: -each[1].rows)
        parts.append(
            table(
                ("Rows given up", "First after", "gRPC status", "Reason"),
                (
                    [count(reason.rows), seconds(reason.first_s), str(status or "–"), text]
                    for (status, text), reason in by_rows
                ),
            )
        )
    return section("Failures", *parts)


def _changes(record: Recorder) -> Markup | None:
    if not record.changes:
        return None
    left_out = (
        f"Only the first {len(record.changes)}; {count(record.changes_left_out)} came later."
        if record.changes_left_out
        else None
    )
    return section(
        "Endpoints that changed",
        table(
            ("After", "Endpoint", "From then on", "Why"),
            (
                [seconds(at_s), escape(change.endpoint, NAME_LETTERS),
                 STATES[change.state], change.reason]
                for at_s, change in record.changes
            ),
        ),
        lead=left_out,
    )  # fmt: skip
