"""Sharing: what the shards of a job leave beside it for whoever ends it.

Neither says who made a part. Whether a shard is done is seen from the parts alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tritonbulk.errors import ChangedError
from tritonbulk.job.commit import OpenJob
from tritonbulk.job.extent import (
    SHARDS_FOLDER,
    read_rows,
    rows_bytes,
    rows_known,
    rows_name,
    segments_in,
    shard_counts,
    shards_name,
)
from tritonbulk.job.owed import Sharing
from tritonbulk.job.puts import answer_of, settle
from tritonbulk.job.spec import JobFile
from tritonbulk.job.stores.base import Store
from tritonbulk.shards import Split


def look_at_sharing(
    store: Store, file: JobFile, increment: int, sleep: Callable[[float], None] = time.sleep
) -> Sharing:
    """Return what is known of a job's shards.

    Raises:
        DamagedError: what they have left is damaged; says what to do.
        SinkError: the store cannot be read; a retry helps once the cause is gone.
    """
    known = rows = rows_known(file.spec)
    if rows is None:
        name = rows_name(increment)
        if (data := answer_of(partial(store.read, name), sleep)) is not None:
            rows = read_rows(data, file.fingerprint, f"{store.name}/{name}")
    segment_rows = file.spec["segment_rows"]
    segments = None if known is None else segments_in(known, segment_rows)
    counts = shard_counts(answer_of(partial(store.names, SHARDS_FOLDER), sleep), increment)
    return Sharing(
        rows,
        None if rows is None else segments_in(rows, segment_rows),
        tuple(Split(count, segments) for count in counts),
    )


def tell_count(job: OpenJob, count: int) -> None:
    """Leave beside a job into how many shards it is split.

    Raises:
        SinkError: it cannot be written; a retry helps once the cause is gone.
    """
    data = b"a number of shards that work on the job\n"
    settle(job.store, shards_name(job.increment, count), data, lambda _: None, job.sleep)


def tell_rows(job: OpenJob, read: Mapping[int, int]) -> None:
    """Leave beside a job how many rows of each input it has, if the job itself does not tell.

    Args:
        job: that was read to its end.
        read: rows by position of the input; inputs that ``limit_rows`` kept out are missing.

    Raises:
        ChangedError: another shard has counted other rows; a retry does not help.
        SinkError: it cannot be written; a retry helps once the cause is gone.
    """
    spec = job.file.spec
    if rows_known(spec) is not None:
        return
    rows: Sequence[int] = [read.get(at, 0) for at in range(len(spec["inputs"]))]
    data, name = rows_bytes(job.file.fingerprint, rows), rows_name(job.increment)

    def judge(found: bytes) -> None:
        stands = read_rows(found, job.file.fingerprint, f"{job.store.name}/{name}")
        for each, ours, theirs in zip(spec["inputs"], rows, stands, strict=True):
            if ours != theirs:
                raise ChangedError(
                    f"{each['name']} has {ours} rows, and another shard has found {theirs}; "
                    "restore it, or score it into another --out"
                )

    settle(job.store, name, data, judge, job.sleep)
