"""Stock: the parts of a job that stand in its store, each read and held against its own seal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tritonbulk.errors import DamagedError, OutputError
from tritonbulk.job.manifest import StoredPart
from tritonbulk.job.protocol import OWN_FOLDER, Standing
from tritonbulk.job.puts import answer_of
from tritonbulk.job.repair import misplaced
from tritonbulk.job.spec import JobFile
from tritonbulk.job.statement import part_number, read_part
from tritonbulk.job.stores.base import Store

READERS = 4
"""Parts read at once."""

MARK_DIGITS = 12
"""Hex digits of its digest in the name of a damaged part that is set aside."""


def take_stock(
    store: Store,
    file: JobFile,
    standing: Standing,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
    others: Container[int] = (),
) -> dict[int, StoredPart]:
    """Return the parts of a job by segment; those that are damaged are set aside.

    Args:
        store: where it stands.
        file: what it is, the last one in the store.
        standing: what was found there.
        say: told one sentence about every damaged part.
        sleep: see `OpenJob.sleep`.
        others: segments, counted from 0 in the job, whose parts are left alone.

    Raises:
        OutputError: a part of another job or segment stands there; a retry does not help.
        SinkError: the store cannot be read; a retry helps once the cause is gone.
    """

    def set_aside(name: str, data: bytes, error: DamagedError) -> None:
        say(f"{store.name}/{name} is damaged ({error}); it is set aside and scored again")
        # Named after its bytes: what is damaged twice is kept twice.
        mark = hashlib.sha256(data).hexdigest()[:MARK_DIGITS]
        aside = f"{OWN_FOLDER}/damaged/{name}.{mark}"
        answer_of(partial(store.set_aside, name, aside, data), sleep)

    return read_parts(store, file, standing, set_aside, sleep, others)


def read_parts(
    store: Store,
    file: JobFile,
    standing: Standing,
    damaged: Callable[[str, bytes, DamagedError], None],
    sleep: Callable[[float], None],
    others: Container[int] = (),
) -> dict[int, StoredPart]:
    """Return the parts of a job by segment; nothing is changed.

    ``damaged`` is told name, bytes and error of each that is, from several threads; see
    `take_stock` for the rest.
    """

    def inspect(name: str) -> StoredPart | None:
        sleep(0)
        data = answer_of(partial(store.read, name), sleep)
        if data is None:
            return None
        try:
            return StoredPart.of(name, read_part(data), data)
        except DamagedError as error:
            damaged(name, data, error)
            return None

    numbered = {name: (part_number(name) or 0) - file.segment_begin for name in standing.parts}
    own = [name for name, number in numbered.items() if number >= 0 and number not in others]
    with ThreadPoolExecutor(READERS, "tritonbulk-stock") as readers:
        found = list(readers.map(inspect, own))
    parts: dict[int, StoredPart] = {}
    for name, part in zip(own, found, strict=True):
        if part is None:
            continue
        if why := misplaced(file, name, part.statement):
            raise OutputError(f"{store.name}/{name}: {why}; remove it, or give another --out")
        parts[part.statement.segment] = part
    return parts
