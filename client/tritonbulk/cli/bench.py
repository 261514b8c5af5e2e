"""``tritonbulk bench``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tritonbulk.bench.plan import BenchOptions
from tritonbulk.bench.statistics import Cell, Trial, summarize
from tritonbulk.bench.sweep import sweep
from tritonbulk.cli.common import (
    access_options,
    model_options,
    parse_model_options,
    parse_source_options,
    source_options,
)
from tritonbulk.errors import OptionError, SinkError
from tritonbulk.options import ScoreOptions

TABLE_WIDTH = 130
"""Columns that the table of cells needs."""


@click.command(
    name="bench",
    epilog="Example:  tritonbulk bench flights.parquet --model flight_delay "
    "--batch-rows 64,1024,4096 --in-flight 1,4,16",
)
@click.argument("input_file", metavar="INPUT")
@model_options
@access_options
@source_options
@click.option(
    "--batch-rows",
    help="Rows a request, a list.  [default: 64,256,1024,4096, as far as the model allows]",
)
@click.option("--in-flight", default="1,4,16", show_default=True, help="Requests at once, a list.")
@click.option("--trial-seconds", type=float, default=2.0, show_default=True, help="Of one trial.")
@click.option("--repeats", type=int, default=3, show_default=True, help="Trials of each setting.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("bench.json"),
    show_default=True,
    help="File for the figures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def command(**given: Any) -> int:
    """Measure rows per second over batch rows and requests in flight, with your own rows.

    Each trial does what score does: read, encode, send, decode, write (beside --out). Repeats are
    interleaved in random order. Figures are medians, with the slowest and the fastest.
    """
    bench = BenchOptions(
        batch_rows=_numbers(given["batch_rows"], "--batch-rows") if given["batch_rows"] else (),
        in_flight=_numbers(given["in_flight"], "--in-flight"),
        trial_s=given["trial_seconds"],
        repeats=given["repeats"],
    )
    options = ScoreOptions(
        inputs=(given["input_file"],),
        out=given["out"],
        **parse_model_options(given),
        **parse_source_options(given),
    )
    trials = asyncio.run(_measure(options, bench))
    cells = summarize(trials)
    _print_table(cells)
    figures = {
        "model": options.model,
        "input": options.inputs[0],
        "cells": [asdict(cell) for cell in cells],
        "trials": [asdict(trial) for trial in trials],
    }
    _save(given["out"], json.dumps(figures, indent=1))
    click.echo(f"figures: {given['out']}")
    if given["as_json"]:
        click.echo(json.dumps(figures))
    return 0


async def _measure(options: ScoreOptions, bench: BenchOptions) -> list[Trial]:
    console = Console(stderr=True)
    trials: list[Trial] = []

    def say(text: str) -> None:
        console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    async for trial in sweep(options, bench, say):
        trials.append(trial)
        say(
            f"trial {len(trials)}: {trial.setting.batch_rows} rows × {trial.setting.in_flight} in "
            f"flight: {trial.rows_per_second:,.0f} rows/s"
            + (f", {trial.rows_failed:,} rows failed" if trial.rows_failed else "")
        )
    return trials


def _print_table(cells: Sequence[Cell]) -> None:
    best = max(cell.rows_per_second for cell in cells)
    table = Table(title="rows per second, end to end (median, slowest … fastest)")
    for heading in (
        "batch rows",
        "in flight",
        "rows/s",
        "slowest … fastest",
        "of best",
        "client CPU-s/Mrow",
        "executed rows",
        "queue ms",
        "compute ms",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in cells:
        server = ("–", "–", "–")
        if cell.server is not None:
            server = (
                f"{cell.server.executed_batch_rows:,.0f}",
                f"{cell.server.queue_ms:.2f}",
                f"{cell.server.compute_ms:.2f}",
            )
        table.add_row(
            f"{cell.setting.batch_rows:,}",
            str(cell.setting.in_flight),
            f"{cell.rows_per_second:,.0f}",
            f"{cell.rows_per_second_min:,.0f} … {cell.rows_per_second_max:,.0f}",
            f"{cell.rows_per_second / best:.0%}",
            f"{cell.cpu_seconds_per_million_rows:.2f}",
            *server,
            style="bold" if cell.rows_per_second == best else None,
        )
    # Squeezed into a narrow pipe the table would be unreadable.
    Console(width=max(Console().width, TABLE_WIDTH)).print(table)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise OptionError(f"{option} {text!r} is no list of whole numbers like 64,1024") from None


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SinkError(f"writing {path} failed ({error}); give another --out") from error
