"""``tritonbulk status`` and ``tritonbulk verify``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from tritonbulk.checking import JobStatus, Verified, status, verify
from tritonbulk.errors import DamagedError
from tritonbulk.job.stores.opening import open_store

_UNCHECKED_SHOWN_MAX = 10


@click.command(name="status", epilog="Example:  tritonbulk status scored/")
@click.argument("out", metavar="OUT")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a job.")
def status_command(**given: Any) -> int:
    """Show what is done of the job in OUT: a folder, or a URI of an object store's prefix.

    Exit codes: 0 nothing is amiss, 2 there is no job, 3 a finished job's part is missing, has
    another size or is in no manifest.
    """
    store = open_store(given["out"])
    jobs = status(store)
    for job in jobs:
        click.echo(json.dumps(asdict(job)) if given["as_json"] else _shown(job))
        for problem in job.problems:
            click.echo(problem, err=True)
    if broken := [job for job in jobs if job.problems]:
        raise DamagedError(f"{store.name} is not what its manifest lists; {broken[0].repair}")
    return 0


@click.command(name="verify", epilog="Example:  tritonbulk verify scored/")
@click.argument("out", metavar="OUT")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def verify_command(**given: Any) -> int:
    """Read every part in OUT and compare it with its manifest and the inputs.

    Of an unfinished job it reads the parts that stand there.

    Exit codes: 0 all is as it was written, 2 there is no job, 3 something is damaged or missing.
    """
    store = open_store(given["out"])
    found = verify(store)
    for problem in found.problems:
        click.echo(problem, err=True)
    checked = found.inputs_checked
    told = f"; {_counted(checked, 'input')} {'has' if checked == 1 else 'have'} the rows scored"
    click.echo(
        f"{_counted(found.parts, 'part')} with {_counted(found.rows, 'row')} "
        f"{'is as it was' if found.parts == 1 else 'are as they were'} written"
        f"{told if checked else ''}"
    )
    shown = found.inputs_unchecked[:_UNCHECKED_SHOWN_MAX]
    for each in shown:
        click.echo(f"not checked: {each}")
    if more := len(found.inputs_unchecked) - len(shown):
        click.echo(f"not checked: {_counted(more, 'more input')}")
    if not found.is_finished:
        click.echo("the job is unfinished; run the same command again to do the rest")
    if given["as_json"]:
        click.echo(json.dumps(asdict(found)))
    if found.problems:
        raise DamagedError(
            f"{store.name} has {_counted(len(found.problems), 'problem')}; " + _advice(found)
        )
    return 0


def _advice(found: Verified) -> str:
    if not found.is_finished:
        return "run the same command again, which sets damaged parts aside and scores the rest"
    return (
        "restore what is named above from a copy, or see tritonbulk status, or score into another "
        "--out"
    )


def _counted(number: int, what: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _shown(job: JobStatus) -> str:
    of = "" if job.parts_expected is None else f" of {job.parts_expected:,}"
    state = "unfinished; run the same command again to go on"
    if job.is_finished:
        how = "damaged since it was finished" if job.problems else "finished"
        state = f"{how}: {job.rows:,} rows, {job.rows_failed:,} failed"
    return (
        f"job {job.fingerprint[:19]}, begun by tritonbulk {job.release}\n"
        f"model {job.model} version {job.model_version}, {_counted(job.inputs, 'input')}\n"
        f"{job.parts:,}{of} parts, {state}"
    )
