"""``tritonbulk status`` and ``tritonbulk verify``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from tritonbulk.checking import JobStatus, status, verify
from tritonbulk.errors import DamagedError
from tritonbulk.job.stores.opening import open_store


@click.command(name="status", epilog="Example:  tritonbulk status scored/")
@click.argument("out", metavar="OUT")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a job.")
def status_command(**given: Any) -> int:
    """Show what is done of the job in OUT: a folder, or a URI of an object store's prefix."""
    for job in status(open_store(given["out"])):
        click.echo(json.dumps(asdict(job)) if given["as_json"] else _shown(job))
    return 0


@click.command(name="verify", epilog="Example:  tritonbulk verify scored/")
@click.argument("out", metavar="OUT")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def verify_command(**given: Any) -> int:
    """Read every part in OUT and compare it with its manifest and the inputs.

    Exit codes: 0 all is as it was written, 2 there is no job, 3 something is damaged or missing.
    """
    store = open_store(given["out"])
    found = verify(store)
    for problem in found.problems:
        click.echo(problem, err=True)
    click.echo(
        f"{found.parts:,} parts with {found.rows:,} rows are as they were written; "
        f"{found.inputs_checked:,} inputs have the rows that were scored"
    )
    if given["as_json"]:
        click.echo(json.dumps(asdict(found)))
    if found.problems:
        raise DamagedError(
            f"{store.name} has {len(found.problems)} problems; restore what is named above from a "
            "copy, or score into another --out"
        )
    return 0


def _shown(job: JobStatus) -> str:
    of = "" if job.parts_expected is None else f" of {job.parts_expected:,}"
    state = "unfinished; run the same command again to go on"
    if job.is_finished:
        state = f"finished: {job.rows:,} rows, {job.rows_failed:,} failed"
    return (
        f"job {job.fingerprint[:19]}, begun by tritonbulk {job.release}\n"
        f"model {job.model} version {job.model_version}, {job.inputs:,} inputs\n"
        f"{job.parts:,}{of} parts, {state}"
    )
