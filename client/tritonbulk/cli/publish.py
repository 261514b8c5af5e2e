"""``tritonbulk publish``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from tritonbulk.job.stores.opening import open_store
from tritonbulk.sinks.opening import open_sink
from tritonbulk.sinks.publish import publish


@click.command(
    name="publish",
    epilog="Example:  tritonbulk publish scored/ --to postgresql://localhost/warehouse "
    "--table predictions",
)
@click.argument("out", metavar="OUT")
@click.option(
    "--to",
    required=True,
    metavar="SINK",
    help="postgresql://…, duckdb:FILE, delta:FOLDER|URI, iceberg:CATALOG or lance:FOLDER|URI.",
)
@click.option("--table", metavar="NAME", help="Of PostgreSQL, DuckDB or Iceberg: NAME or A.NAME.")
@click.option(
    "--in-place",
    is_flag=True,
    help="Delta Lake, Iceberg: refer to the parts where they stand instead of copying them.",
)
@click.option(
    "--parts-per-commit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Make so many parts visible at a time.  [default: all of a job at once]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(**given: Any) -> int:
    """Add the rows of the finished job in OUT to a table somewhere else, each once.

    What is in the table already is left alone, so the same command may be run again at any time:
    after a crash it goes on, after an increment (score --only-new) it adds what is new.

    Exit codes: 0 all rows are in, 2 wrong use, 3 the sink or a part cannot be used, 130 or 143
    stopped by a signal.
    """
    store = open_store(given["out"])
    sink = open_sink(given["to"], given["table"], in_place=given["in_place"])
    done = publish(
        store,
        sink,
        parts_per_commit=given["parts_per_commit"],
        say=lambda text: click.echo(text, err=True),
    )
    click.echo(
        f"{done.rows:,} rows of {done.parts:,} parts published to {done.to}"
        + (f"; {done.rows_before:,} rows were there before" if done.parts_before else "")
    )
    if given["as_json"]:
        click.echo(json.dumps(asdict(done)))
    return 0
