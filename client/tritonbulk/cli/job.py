"""``tritonbulk status``, ``tritonbulk verify`` and ``tritonbulk commit``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tritonbulk.checking import JobStatus, status, verify
from tritonbulk.cli.common import csv_guard_option, single_writer_option
from tritonbulk.committing import commit
from tritonbulk.errors import DamagedError, UnfinishedError
from tritonbulk.job.owed import in_words
from tritonbulk.job.stores.opening import open_store
from tritonbulk.places import check_single_file

_UNCHECKED_SHOWN_MAX = 10


@click.command(name="status", epilog="Example:  tritonbulk status scored/")
@click.argument("out", metavar="OUT")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a job.")
def status_command(**given: Any) -> int:
    """Show what is done of the job in OUT: a folder, or a URI of an object store's prefix.

    Exit codes: 0 nothing is amiss, 2 there is no job, 3 a finished job's part is missing, has
    another size or is in no manifest, or something stands in the way of an unfinished job.
    """
    store = open_store(given["out"])
    jobs = status(store)
    for job in jobs:
        click.echo(json.dumps(asdict(job)) if given["as_json"] else _shown(job))
        for problem in job.problems:
            click.echo(problem, err=True)
    if len(jobs) > 1 and not given["as_json"]:
        click.echo(_in_all(jobs))
    if broken := [job for job in jobs if job.problems]:
        count = sum(len(job.problems) for job in broken)
        mends = ", then ".join(dict.fromkeys(job.repair for job in broken))
        raise DamagedError(f"{store.name} has {_counted(count, 'problem')}; {mends}")
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
        owe = ", or see tritonbulk status for the shards that owe it" if found.shards else ""
        click.echo(f"the job is unfinished; run the same command again to do the rest{owe}")
    if given["as_json"]:
        click.echo(json.dumps(asdict(found)))
    if found.problems:
        count = _counted(len(found.problems), "problem")
        raise DamagedError(f"{store.name} has {count}; {found.repair}")
    return 0


@click.command(name="commit", epilog="Example:  tritonbulk commit scored/ --single-file scored.csv")
@click.argument("out", metavar="OUT")
@click.option(
    "--single-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all rows to one local .csv, .jsonl or .parquet file as well.",
)
@csv_guard_option
@single_writer_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def commit_command(**given: Any) -> int:
    """Finish the job in OUT, whose parts tritonbulk score --shard has made.

    It reads every part, writes the one manifest, and lists the failed rows. It may run twice.

    Exit codes: 0 all rows ok, 1 finished with failed rows, 2 there is no job, 3 parts are missing
    or damaged: the shards that owe them are named.
    """
    if given["single_file"] is not None:
        check_single_file(given["single_file"], given["out"])
    store = open_store(given["out"], is_single_writer=given["single_writer"])
    try:
        done = commit(
            store,
            single_file=given["single_file"],
            csv_guard=given["csv_guard"],
            is_single_writer=given["single_writer"],
            say=lambda text: click.echo(text, err=True),
        )
    except UnfinishedError as error:
        if given["as_json"]:
            click.echo(json.dumps({"output": store.name, "owed": [asdict(e) for e in error.owed]}))
        raise
    how = "is finished already" if done.was_finished else "is finished"
    click.echo(
        f"{done.output} {how}: {_counted(done.rows, 'row')} in {_counted(done.parts, 'part')}, "
        f"{done.rows_failed:,} failed"
    )
    if given["as_json"]:
        click.echo(json.dumps(asdict(done)))
    return 1 if done.rows_failed else 0


def _counted(number: int, what: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _shown(job: JobStatus) -> str:
    of = "" if job.parts_expected is None else f" of {job.parts_expected:,}"
    state = "unfinished; run the same command again to go on"
    if job.shards and job.owed:
        state = f"unfinished; run what is left, then tritonbulk commit: {in_words(job.owed)}"
    elif job.shards:
        state = "all of them; tritonbulk commit finishes the job"
    if job.is_finished:
        how = "changed since it was finished" if job.problems else "finished"
        state = f"{how}: {job.rows:,} rows, {job.rows_failed:,} failed"
    return (
        f"job {job.fingerprint[:19]}, begun by tritonbulk {job.release}\n"
        f"model {job.model} version {job.model_version}, {_counted(job.inputs, 'input')}\n"
        f"{job.parts:,}{of} parts, {state}"
    )


def _in_all(jobs: Sequence[JobStatus]) -> str:
    """Return the sum over a job and its increments; rows are known of finished ones alone."""
    parts = sum(job.parts for job in jobs)
    rows, failed = (
        sum(count or 0 for count in counts)
        for counts in zip(*((job.rows, job.rows_failed) for job in jobs), strict=True)
    )
    of = "" if all(job.is_finished for job in jobs) else " in those that are finished"
    return f"{len(jobs):,} jobs in all: {parts:,} parts; {rows:,} rows{of}, {failed:,} failed"
