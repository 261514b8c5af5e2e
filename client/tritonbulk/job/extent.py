"""Extent: how many rows and segments a job has. Pure.

Of some inputs (CSV, JSON Lines, streams) only reading tells how many rows they have. A run that
ends a job itself has read them; shards leave what they have counted beside the job, so that who
ends it can tell a job that is complete from one whose last parts are missing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from tritonbulk.errors import DamagedError
from tritonbulk.job.fingerprint import canonical_json
from tritonbulk.job.protocol import OWN_FOLDER
from tritonbulk.shards import Others, Shard, Split

SHARDS_FOLDER = f"{OWN_FOLDER}/shards"
"""Holds one empty object for each number of shards that has worked on a job."""

_OPEN = "0" * 64


def rows_known(spec: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return how many rows of each input a job has, ``limit_rows`` heeded.

    None where only reading tells.
    """
    return counted([each["rows"] for each in spec["inputs"]], spec["limit_rows"])


def counted(rows: Sequence[int | None], limit_rows: int | None) -> tuple[int, ...] | None:
    """Return how many rows of each input count; None where ``rows`` does not tell."""
    left, found = limit_rows, []
    for each in rows:
        if each is None:
            return None
        found.append(each if left is None else min(each, left))
        left = None if left is None else left - found[-1]
    return tuple(found)


def segments_in(rows: Iterable[int], segment_rows: int) -> int:
    """Return how many segments the inputs make; at least one, if without a row."""
    return max(sum(-(-each // segment_rows) for each in rows), 1)


def rows_in(spec: Mapping[str, Any], others: Container[int] = ()) -> int | None:
    """Return the rows of a job but for those of some segments; None where only reading tells.

    Segments count from 0 in the job.
    """
    if (known := rows_known(spec)) is None:
        return None
    size, total, segment = spec["segment_rows"], 0, 0
    for rows in known:
        for begin in range(0, rows, size):
            total += 0 if segment in others else min(size, rows - begin)
            segment += 1
    return total


def others_of(spec: Mapping[str, Any], shard: Shard) -> Others:
    """Return the segments of a job, counted from 0 in it, that are none of a shard's."""
    rows = rows_known(spec)
    segments = None if rows is None else segments_in(rows, spec["segment_rows"])
    return Others(Split(shard.count, segments), shard)


def rows_name(increment: int) -> str:
    """Return the name of the object that holds what `rows_bytes` gives."""
    return f"{OWN_FOLDER}/rows{f'-{increment:04d}' if increment else ''}.json"


def shards_name(increment: int, count: int) -> str:
    """Return the name of the empty object that says into how many shards a job was split."""
    return f"{SHARDS_FOLDER}/{f'{increment:04d}-' if increment else ''}of-{count}"


def shard_counts(names: Iterable[str], increment: int) -> tuple[int, ...]:
    """Return into how many shards a job was split, by the names in `SHARDS_FOLDER`."""
    front = f"{increment:04d}-" if increment else ""
    found = (re.fullmatch(rf"{front}of-(\d+)", name) for name in names)
    return tuple(sorted(int(each[1]) for each in found if each))


def rows_bytes(fingerprint: str, rows: Sequence[int]) -> bytes:
    """Return what says how many rows of each input a job has; sealed, in canonical JSON."""
    plain = {"fingerprint": fingerprint, "rows": list(rows), "seal": _OPEN}
    plain["seal"] = hashlib.sha256(canonical_json(plain)).hexdigest()
    return canonical_json(plain)


def read_rows(data: bytes, fingerprint: str, where: str) -> tuple[int, ...]:
    """Return the rows in what `rows_bytes` made for the job of this fingerprint.

    Raises:
        DamagedError: it made another; a retry does not help.
    """
    try:
        rows = tuple(map(int, json.loads(data)["rows"]))
    except (ValueError, KeyError, TypeError):
        rows = ()
    if data != rows_bytes(fingerprint, rows):
        raise DamagedError(
            f"{where} is damaged; delete it and run a shard of the job again, which counts anew"
        )
    return rows
