"""Sink: the few things that publishing asks of a table somewhere else.

A sink keeps beside its rows, and changes in one commit with them, how far each job has come: the
number of the segment after the last that is in. So a commit is made once, whatever is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from tritonbulk.errors import SinkError
from tritonbulk.part import decode_part
from tritonbulk.sinks.columns import cast

RECORD = "tritonbulk.published"
"""Beginning of the names under which sinks keep how far a job has come."""


class RivalError(SinkError):
    """Another run publishes the same job at this moment; what it did is read, then gone on with."""


@dataclass(frozen=True, slots=True)
class PublishedPart:
    """One part of a finished job.

    Attributes:
        name: in its output.
        segment: its number.
        rows: in it.
        location: absolute path or URI, without credentials.
        read: returns its bytes, which are those that the manifest lists; see `read_listed` for what
            it raises.
    """

    name: str
    segment: int
    rows: int
    location: str
    read: Callable[[], bytes]

    @property
    def is_parquet(self) -> bool:
        """Whether its bytes are a Parquet file."""
        return self.name.endswith(".parquet")

    def table(self) -> pa.Table:
        """Return its rows."""
        return decode_part(self.read(), "parquet" if self.is_parquet else "arrow")


@dataclass(frozen=True, slots=True)
class Portion:
    """Consecutive parts of one job that become visible in one commit.

    Attributes:
        job: its fingerprint.
        parts: in order of segments; at least one. They hold rows, or are the last of the job.
        schema: of every part, as it is read.
    """

    job: str
    parts: tuple[PublishedPart, ...]
    schema: pa.Schema

    @property
    def begin(self) -> int:
        """Number of the first segment."""
        return self.parts[0].segment

    @property
    def end(self) -> int:
        """Number of the segment after the last."""
        return self.parts[-1].segment + 1

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def file_mark(self) -> str:
        """Beginning of the job's digest, for names of files."""
        return self.job.rpartition(":")[2][:16]


class Sink(Protocol):
    """A table somewhere else. Every method blocks, and opens and closes what it needs."""

    @property
    def name(self) -> str:
        """Name for people, without credentials."""

    def prepare(self, schema: pa.Schema) -> None:
        """Make the table, or check that the one which stands there takes rows of ``schema``.

        Raises:
            OutputError: it does not; no retry.
            SinkError: it does not answer, or may not be made; a retry helps once the cause is gone.
        """

    def published(self, job: str) -> int | None:
        """Return the number of the segment after the last one of a job that is in; None: none is.

        Raises:
            SinkError: it cannot be told; a retry may help.
        """

    def append(self, portion: Portion) -> None:
        """Add the rows of a portion, and note that they are in, in one commit or not at all.

        Raises:
            RivalError: the job has come further, or less far, than the portion's first segment.
            OutputError: the table does not take them; no retry.
            SinkError: they may or may not be in; `published` tells.
        """


def check_turn(at: int | None, portion: Portion, name: str) -> None:
    """Check that a job has come as far as a portion begins; for use within its commit.

    Raises:
        RivalError: it has not.
    """
    if at is not None and at != portion.begin:
        raise RivalError(f"another run publishes this job to {name} at this moment; run again")


@contextmanager
def reading(portion: Portion, schema: pa.Schema) -> Iterator[pa.RecordBatchReader]:
    """Give the rows of a portion as ``schema``, one part in memory at a time.

    What goes wrong in reading parts is raised as it was: drivers would make it their own.
    """
    failure: BaseException | None = None

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal failure
        try:
            for part in portion.parts:
                yield from cast(part.table(), schema).to_batches()
        except BaseException as error:
            failure = error
            raise

    try:
        yield pa.RecordBatchReader.from_batches(schema, batches())
    except Exception:
        if failure is not None:
            raise failure from None
        raise
