"""A job of `score` as Ray tasks: each scores a shard, then the one manifest is written.

Ray only says where and when; parts, retries of requests and what a restart does are `score`'s, so
the output is that of one run on one machine, byte for byte. A task that is lost is run again and
goes on where it was.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import ray

from tritonbulk.committing import Committed, commit
from tritonbulk.errors import OptionError, UnfinishedError
from tritonbulk.job.stores.opening import open_store
from tritonbulk.options import ScoreOptions
from tritonbulk.result import ScoreResult
from tritonbulk.scoring import run_score
from tritonbulk.shards import Shard

TASK_TRIES = 3
"""How often Ray runs a task again whose process or machine was lost."""


def score_with_ray(options: ScoreOptions, shards: int, say: Callable[[str], None]) -> Committed:
    """Score ``options`` in tasks of the cluster that Ray finds (or starts here), and commit.

    Args:
        options: of the whole; inputs, output and endpoints are reached from every machine.
        shards: how many tasks.
        say: told one sentence at a time.

    Raises:
        OptionError: an option cannot be had this way; a retry does not help.
        UnfinishedError: a task was lost again and again; a retry goes on.
        TritonbulkError: what stopped a shard; see its class.
    """
    _check(options)
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    task = ray.remote(num_cpus=1, max_retries=TASK_TRIES)(_score_shard)
    inputs, out = tuple(map(_whole, options.inputs)), _whole(str(options.out))
    shared = replace(options, inputs=inputs, out=out, single_file=None)
    waiting = [task.remote(replace(shared, shard=Shard(index, shards))) for index in range(shards)]
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        try:
            result: ScoreResult = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            _cancel(waiting)
            raise error.cause from None
        except ray.exceptions.RayError as error:
            _cancel(waiting)
            raise UnfinishedError(
                f"Ray lost a task {TASK_TRIES + 1} times ({type(error).__name__}): a process or a "
                "machine of it died, often for want of memory; run the same command again, it goes "
                "on with what is done"
            ) from error
        say(f"shard {result.shard} has scored {result.rows_scored:,} rows; {len(waiting)} are left")
    return commit(
        open_store(options.out, is_single_writer=options.single_writer),
        single_file=options.single_file,
        csv_guard=options.csv_guard,
        is_single_writer=options.single_writer,
        say=say,
    )


def _cancel(waiting: list[ray.ObjectRef[ScoreResult]]) -> None:
    for each in waiting:
        ray.cancel(each, force=True)


def _score_shard(options: ScoreOptions) -> ScoreResult:
    return asyncio.run(run_score(options))


def _check(options: ScoreOptions) -> None:
    if not options.endpoints:
        raise OptionError(
            "--engine needs --endpoint: servers that all tasks reach; tritonbulk serve starts one "
            "for this machine"
        )
    if options.access.has_secrets:
        raise OptionError(
            "--engine sends its options to other processes, and a secret is not sent; leave "
            "--header-env and --header-file out, or run the shards yourself (--shard)"
        )
    if options.to is not None:
        raise OptionError(
            f"--engine publishes nothing; leave --to out, and run tritonbulk publish {options.out} "
            "afterwards"
        )
    if options.load_model or options.unload_model:
        raise OptionError(
            "--engine leaves models as they are, since one task would unload what others ask; "
            "leave --load-model and --unload-model out"
        )
    if options.shard is not None or options.fresh or options.report is not None:
        raise OptionError(
            "--engine makes shards itself, each with a report of its own; leave --shard, --fresh "
            "and --report out"
        )


def _whole(place: str) -> str:
    """Return a URI, or a local path that does not depend on a working folder."""
    return place if "://" in place else os.path.abspath(place)  # noqa: PTH100 - of a pattern
