"""``tritonbulk bench``."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tritonbulk.bench.apply import carry_out, propose
from tritonbulk.bench.cross_check import cross_check, points_of
from tritonbulk.bench.figures import to_plain
from tritonbulk.bench.options import BATCH_ROWS, IN_FLIGHT, REPEATS, TRIAL_S, BenchOptions
from tritonbulk.bench.page import sweep_page
from tritonbulk.bench.result import Applied, Checked, Sweep
from tritonbulk.bench.runner import open_runner
from tritonbulk.bench.sweep import sweep
from tritonbulk.bench.vary import restore
from tritonbulk.cli.bench_view import SweepView, show, show_applied, show_checked
from tritonbulk.cli.common import (
    access_options,
    duration_s,
    model_options,
    parse_model_options,
    parse_names,
    parse_source_options,
    source_options,
    whole_numbers,
)
from tritonbulk.cli.watching import log_options
from tritonbulk.errors import SinkError
from tritonbulk.options import ScoreOptions
from tritonbulk.redaction import redact
from tritonbulk.telemetry.logs import configure_logs


def _list(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


@click.command(
    name="bench",
    epilog="Examples:  tritonbulk bench flights.parquet --model flight_delay --budget 2m\n\n"
    "tritonbulk bench flights.parquet --model flight_delay --batch-rows 64,1024 --in-flight 1,4",
)
@click.argument("input_file", metavar="INPUT")
@model_options
@access_options
@source_options
@click.option(
    "--budget",
    type=duration_s,
    metavar="TIME",
    help="Choose the trials by a search that takes so long, for example 2m.  [default: measure the "
    "whole grid of the lists below]",
)
@click.option(
    "--batch-rows",
    type=whole_numbers,
    metavar="LIST",
    help=f"Rows a request.  [default: {_list(BATCH_ROWS)}, as far as the model allows]",
)
@click.option(
    "--in-flight",
    type=whole_numbers,
    metavar="LIST",
    help=f"Requests at once.  [default: {_list(IN_FLIGHT)}]",
)
@click.option(
    "--instances",
    type=whole_numbers,
    metavar="LIST",
    help="Model instances.  [default: as configured; with --budget also 2 and 4 times as many]",
)
@click.option(
    "--queue-delay",
    type=whole_numbers,
    metavar="LIST",
    help="Microseconds for which Triton waits for more requests to join.  [default: as configured; "
    "with --budget also 0 and 2000]",
)
@click.option(
    "--versions",
    metavar="LIST",
    help="Versions of the model to compare, such as those of other precisions.",
)
@click.option(
    "--vary-server",
    is_flag=True,
    help="Allow instances, delay and batch limit of the servers at --endpoint to be changed "
    "meanwhile (explicit model control); they are put back.",
)
@click.option("--no-write", is_flag=True, help="Write nothing: the server and the way to it alone.")
@click.option(
    "--trial-seconds",
    type=float,
    metavar="SECONDS",
    help=f"Length of one trial.  [default: {TRIAL_S:g}, or what suits --budget]",
)
@click.option(
    "--repeats",
    type=int,
    default=REPEATS,
    show_default=True,
    help="Trials of each cell, without --budget.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of trials.")
@click.option(
    "--price-per-hour", type=float, metavar="PRICE", help="Of the machines, for costs a row."
)
@click.option(
    "--metrics", metavar="HOST:PORT", help="Triton's metrics, for GPUs.  [default: embedded]"
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("bench.json"),
    show_default=True,
    help="File for the figures; raw trials go beside it (.trials.jsonl), and an interrupted sweep "
    "goes on from them.",
)
@click.option(
    "--apply",
    "is_applied",
    is_flag=True,
    help="Measure the recommended config.pbtxt against the present one, and write it (with a "
    "backup) if its gain is confirmed.",
)
@click.option(
    "--perf-analyzer",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Also run NVIDIA's perf_analyzer, on the same points with the same rows.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="HTML report.  [default: beside --out, as .html]",
)
@log_options
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def command(**given: Any) -> int:
    """Find out how fast your rows go through a model, what bounds it, and what to deploy.

    Each trial does what score does: read, encode, send, decode, write (beside --out). Repeats are
    interleaved in random order; figures are medians with 95 % intervals.
    """
    bench = BenchOptions(
        raw=given["out"].with_suffix(".trials.jsonl"),
        batch_rows=given["batch_rows"] or (),
        in_flight=given["in_flight"] or (),
        instances=given["instances"] or (),
        queue_delays_us=given["queue_delay"] or (),
        versions=parse_names(given["versions"]) or (),
        budget_s=given["budget"],
        trial_s=given["trial_seconds"],
        repeats=given["repeats"],
        no_write=given["no_write"],
        vary_server=given["vary_server"],
        price_per_hour=given["price_per_hour"],
        metrics=given["metrics"],
        seed=given["seed"],
    )
    options = ScoreOptions(
        inputs=(given["input_file"],),
        out=given["out"],
        **parse_model_options(given),
        **parse_source_options(given),
    )
    began = datetime.now(UTC)
    configure_logs(given["log_format"], given["log_level"])
    with SweepView() as view:
        done = asyncio.run(
            _bench(
                options,
                bench,
                view,
                is_applied=given["is_applied"],
                perf_analyzer=given["perf_analyzer"],
            )
        )
    figures = {
        **to_plain(done.sweep),
        "perf_analyzer": [asdict(each) for each in done.checked],
        "applied": None if done.applied is None else _applied(done.applied),
    }
    _save(given["out"], json.dumps(figures, indent=1))
    click.echo(f"figures: {given['out']}")
    report = given["report"] or given["out"].with_suffix(".html")
    _save(report, redact(sweep_page(done.sweep, began, done.checked, done.applied)))
    click.echo(f"report: {report}")
    if given["as_json"]:
        click.echo(json.dumps(figures))
    return 0 if done.sweep.verdict is not None else 1


@dataclass(frozen=True, slots=True)
class _Done:
    sweep: Sweep
    checked: list[Checked]
    applied: Applied | None


async def _bench(
    options: ScoreOptions,
    bench: BenchOptions,
    view: SweepView,
    *,
    is_applied: bool,
    perf_analyzer: Path | None,
) -> _Done:
    """Measure, show the verdict, and do what else was asked for while the servers are up."""
    await restore(view.say, options.access)
    checked: list[Checked] = []
    applied: Applied | None = None
    async with open_runner(options, bench, view.say) as runner:
        measured = await sweep(runner, view.say, view.tell)
        view.stop()
        show(measured)
        _save(Path(options.out), json.dumps(to_plain(measured), indent=1))
        if perf_analyzer is not None:
            points = points_of(measured)
            checked = await cross_check(runner, points, perf_analyzer, view.say)
            show_checked(checked)
        if is_applied:
            proposal = propose(runner, measured)
            click.echo(proposal.diff or f"{proposal.path} needs no change")
            if proposal.diff:
                applied = await carry_out(runner, measured, proposal, view.say)
                show_applied(applied, proposal.path)
    return _Done(measured, checked, applied)


def _applied(applied: Applied) -> dict[str, Any]:
    backup = None if applied.backup is None else str(applied.backup)
    return {**asdict(applied), "backup": backup}


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SinkError(f"writing {path} failed ({error}); give another --out") from error
