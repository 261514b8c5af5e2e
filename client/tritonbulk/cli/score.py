"""``tritonbulk score``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click

from tritonbulk.bottleneck import describe
from tritonbulk.cli.common import (
    access_options,
    csv_guard_option,
    duration_s,
    instances_option,
    model_options,
    number_or_auto,
    parse_model_options,
    parse_source_options,
    single_writer_option,
    size_bytes,
    source_options,
)
from tritonbulk.cli.engine import engine_options, score_with_engine
from tritonbulk.cli.starting import how_to_go_on
from tritonbulk.cli.stopping import heard_signals
from tritonbulk.cli.watching import lineage, lineage_option, watching, watching_options
from tritonbulk.errors import OptionError, StoppedError
from tritonbulk.lineage import parse_interval
from tritonbulk.options import SEGMENT_ROWS, STOP_GRACE_S, OutFormat, ScoreOptions
from tritonbulk.polite import parse_yield_to
from tritonbulk.profile import read_profile
from tritonbulk.result import ScoreResult
from tritonbulk.scorer_options import MAX_OUTAGE_S, REQUEST_TIMEOUT_S, Nan, OnError, Vectors
from tritonbulk.scoring import run_score
from tritonbulk.shards import parse_shard


@click.command(
    name="score",
    epilog="Example:  tritonbulk score flights.parquet --model flight_delay --out scored/ "
    "--keep flight,carrier",
)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@model_options
@access_options
@instances_option
@click.option(
    "--out",
    required=True,
    help="Output folder, or a URI such as s3://bucket/prefix; a job begun there is continued.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an unfinished job of the same inputs, model and options.  [default]",
)
@click.option("--fresh", is_flag=True, help="Refuse an output that holds anything.")
@click.option("--only-new", is_flag=True, help="Score only files that are new since the last job.")
@click.option(
    "--load-model", is_flag=True, help="Have the servers at --endpoint load the model first."
)
@click.option(
    "--unload-model",
    is_flag=True,
    help="Have the servers at --endpoint unload the model at the end, whatever ends the run.",
)
@click.option(
    "--data-interval",
    metavar="FROM/TO",
    help="Period that the rows are about, for example 2026-11-30/2026-12-01; kept in the manifest.",
)
@click.option(
    "--max-age",
    type=duration_s,
    metavar="TIME",
    help="Do not begin where an input last changed longer ago than, for example, 90m or 24h.",
)
@click.option(
    "--strict-inputs", is_flag=True, help="Tell inputs apart by all of their bytes; reads them all."
)
@click.option(
    "--shard",
    metavar="i/n",
    help="Score only the i-th of n shares of the rows, i from 0 (auto: as the scheduler says); "
    "once all are done, tritonbulk commit finishes the job.",
)
@single_writer_option
@click.option(
    "--memory",
    type=size_bytes,
    metavar="SIZE",
    help="Bytes of rows and requests held at once, for example 100MB or 1GiB.  [default: 320MiB]",
)
@click.option(
    "--stop-grace",
    type=float,
    default=STOP_GRACE_S,
    show_default=True,
    metavar="SECONDS",
    help="After SIGINT or SIGTERM finish what is in memory for so long; a second one ends at once.",
)
@click.option(
    "--single-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="When finished, write all rows to one local .csv, .jsonl or .parquet file as well.",
)
@click.option(
    "--to",
    metavar="SINK",
    help="When finished, publish all rows as well; see tritonbulk publish.",
)
@click.option("--table", metavar="NAME", help="Of the sink.")
@csv_guard_option
@click.option(
    "--out-format",
    type=click.Choice(get_args(OutFormat)),
    default="parquet",
    show_default=True,
    help="Of the parts; arrow (IPC, uncompressed) is the fastest to write and to map.",
)
@click.option(
    "--vectors",
    type=click.Choice(get_args(Vectors)),
    default="list",
    show_default=True,
    help="Embeddings as fixed-size lists, or as the bytes of their numbers, which Parquet writes "
    "three times as fast.",
)
@click.option(
    "--status/--no-status",
    default=True,
    help="Columns _tritonbulk_status and _tritonbulk_error; without them the first failed row "
    "stops the run.  [default: status]",
)
@source_options
@click.option(
    "--batch-rows",
    type=number_or_auto,
    metavar="N|auto",
    default="auto",
    help="Rows a request; auto: as many as the model allows.",
)
@click.option(
    "--segment-rows",
    type=number_or_auto,
    metavar="N|auto",
    default="auto",
    help=f"Rows a part, before --where; auto: {SEGMENT_ROWS:,}, fewer of wide rows.",
)
@click.option(
    "--max-in-flight",
    type=number_or_auto,
    metavar="N|auto",
    default="auto",
    help="Requests in flight, fewer while a server refuses; auto: as many as raise the rate.",
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Figures of tritonbulk bench: pins batch rows, window, embedded instances to its verdict.",
)
@click.option(
    "--max-outage",
    type=float,
    default=MAX_OUTAGE_S,
    show_default=True,
    metavar="SECONDS",
    help="Give up after so long without a row scored by any server; 0: never.",
)
@click.option(
    "--request-timeout",
    type=float,
    default=REQUEST_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="No request may take longer; one that takes far longer than others is given up before.",
)
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    default="keep",
    show_default=True,
    help="A failed row stands in the output with its error, or stops the run.",
)
@click.option(
    "--nan",
    type=click.Choice(get_args(Nan)),
    default="keep",
    show_default=True,
    help="A prediction that is NaN is written as it came, or its row fails.",
)
@click.option(
    "--max-failed-fraction",
    type=float,
    default=0.01,
    show_default=True,
    help="Stop when a larger share of all rows fails (and more than 10 rows, unless it is 0).",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="HTML report of the run; one is kept in _tritonbulk/runs/ of the output in any case.",
)
@click.option(
    "--priority",
    type=int,
    default=0,
    metavar="N",
    help="In the queue of a model with priority levels; 1 is served first.  [default: the model's]",
)
@click.option(
    "--yield-to",
    metavar="pQ=TIME",
    help="Send less while others wait longer in the model's queue, for example p99=50ms.",
)
@engine_options
@watching_options
@lineage_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(**given: Any) -> int:
    """Score files with a model, one output row for every input row, in order.

    INPUT is a file, a folder, a pattern or a URI of these: Parquet, CSV, JSON Lines or Arrow.

    Without --endpoint the embedded Triton server is started on --repository and stopped after.

    Exit codes: 0 all rows ok, 1 finished with failed rows, 2 wrong use, 3 server, I/O or outage,
    4 stopped by a failure limit, 130 or 143 stopped by a signal.
    """
    if given["resume"] and given["fresh"]:
        raise OptionError("--resume and --fresh contradict each other; leave one of them out")
    options = ScoreOptions(
        inputs=given["inputs"],
        out=given["out"],
        **parse_model_options(given),
        instances=given["instances"],
        **parse_source_options(given),
        out_format=given["out_format"],
        vectors=given["vectors"],
        batch_rows=given["batch_rows"],
        segment_rows=given["segment_rows"],
        in_flight_max=given["max_in_flight"],
        profile=None if given["profile"] is None else read_profile(given["profile"]),
        max_outage_s=given["max_outage"],
        request_timeout_s=given["request_timeout"],
        on_error=given["on_error"],
        nan=given["nan"],
        failed_fraction_max=given["max_failed_fraction"],
        fresh=given["fresh"],
        only_new=given["only_new"],
        strict_inputs=given["strict_inputs"],
        single_writer=given["single_writer"],
        stop_grace_s=given["stop_grace"],
        memory_bytes=given["memory"],
        single_file=given["single_file"],
        to=given["to"],
        table=given["table"],
        report=given["report"],
        priority=given["priority"],
        yield_to=None if given["yield_to"] is None else parse_yield_to(given["yield_to"]),
        csv_guard=given["csv_guard"],
        status_columns=given["status"],
        load_model=given["load_model"],
        unload_model=given["unload_model"],
        data_interval=parse_interval(given["data_interval"]) if given["data_interval"] else None,
        max_age_s=given["max_age"],
        shard=None if given["shard"] is None else parse_shard(given["shard"], os.environ),
    )
    if given["engine"] is not None:
        return score_with_engine(options, given["engine_shards"], as_json=given["as_json"])
    with heard_signals() as signals:
        try:
            with (
                watching(given) as (observer, pace),
                lineage(given, options, observer.say) as tell,
            ):
                result = signals.run(partial(run_score, options), observer, options.stop_grace_s)
                tell(result)
        except StoppedError:
            if line := how_to_go_on():
                click.echo(line, err=True)
            raise
        _print_summary(result, str(pace))
        if given["as_json"]:
            click.echo(json.dumps(asdict(result)))
    return 1 if result.job_rows_failed else 0


def _print_summary(result: ScoreResult, pace: str) -> None:
    if result.shard is not None:
        click.echo(f"shard {result.shard} is done; once all are: tritonbulk commit {result.output}")
    if not result.endpoints:  # no server was needed
        click.echo(
            f"nothing to score: {result.output_rows:,} rows in {result.output_parts:,} parts, "
            f"{result.output_rows_failed:,} failed, are in {result.output}"
        )
        return
    filtered = f", {result.rows_filtered:,} filtered out" if result.rows_filtered else ""
    click.echo(
        f"{result.rows_ok:,} of {result.rows_in:,} rows scored{filtered}, {result.rows_failed:,} "
        f"failed, in {result.seconds:.2f} s ({result.rows_per_second:,.0f} rows/s)\n"
        f"model {result.model} version {result.model_version} at {', '.join(result.endpoints)} "
        f"({result.transport})\n"
        f"{result.requests:,} requests of up to {result.batch_rows:,} rows, up to "
        f"{result.in_flight_max} in flight, {result.cpu_seconds_client:.2f} CPU-seconds here"
    )
    if pace:
        click.echo(f"rate over time: {pace}")
    if result.bottleneck is not None:
        click.echo(f"bottleneck: {describe(result.bottleneck)}")
    click.echo(f"output: {result.output}")
    if result.report:
        click.echo(f"report: {result.report}")
    if result.segments_before:
        click.echo(
            f"the job holds {result.job_rows:,} rows in all, {result.job_rows_failed:,} failed; "
            f"{result.segments_before:,} parts were there before"
        )
    if result.output_rows > result.job_rows:
        click.echo(
            f"with the jobs before it the output holds {result.output_rows:,} rows in "
            f"{result.output_parts:,} parts, {result.output_rows_failed:,} failed"
        )
    if result.job_rows_failed:
        click.echo("failed rows stand in the output; select them by _tritonbulk_status <> 0")
