"""The pipeline of a run: what to drive, who cares for its endpoints, and what became of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

import pyarrow as pa

from tritonbulk.bottleneck import StageSeconds
from tritonbulk.codec import Predictions, RequestEncoder, ResponseDecoder
from tritonbulk.contract import OutputTensor
from tritonbulk.segments import Batch, Segment

if TYPE_CHECKING:
    from tritonbulk.transport import Transport

_Read: TypeAlias = tuple[Segment, pa.RecordBatch]
Segments: TypeAlias = Iterator[_Read] | AsyncIterator[_Read]
"""Segments with their rows: from files, which are read in a thread, or as others hand them over."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What to drive.

    Attributes:
        segments: segments with their rows, in order; an iterator is advanced in a thread, an
            asynchronous one in the event loop.
        name_rows: says in words which rows of the input a batch is, for errors.
        encoder: rows → request.
        decoder: answer → checked tensors.
        fed: columns that feed the model; the others are only kept.
        outputs: the output tensors.
        names: their column names.
        batch_rows: rows a request.
        fill_rows: rows that fill a batch of the server, so that it executes nothing else with them.
        row_bytes_out: bytes in memory of one row of predictions.
        confirm: given who answered for a segment (positions of endpoints), returns those that do
            not vouch for it, whose segment is scored anew; raises if one serves another model than
            was planned for. Awaited after a segment's last answer, before its part is committed.
        write: makes the part of one complete segment, and returns what commits it; called in a
            thread, one call at a time. What it returns is called in threads of their own, several
            at a time, since a store may take its time.
        leaving: set once nobody waits for segments and commits any more.
        fails_nan: whether a row fails whose prediction has a NaN.
    """

    segments: Segments
    name_rows: Callable[[Segment, Batch], str]
    encoder: RequestEncoder
    decoder: ResponseDecoder
    fed: tuple[str, ...]
    outputs: tuple[OutputTensor, ...]
    names: tuple[str, ...]
    batch_rows: int
    fill_rows: int
    row_bytes_out: int
    confirm: Callable[[frozenset[int]], Awaitable[frozenset[int]]]
    write: Callable[[Segment, pa.RecordBatch, Predictions], Callable[[], object]]
    leaving: threading.Event = field(default_factory=threading.Event)
    fails_nan: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """There is one more endpoint; it takes the next index."""

    transport: Transport


@dataclass(frozen=True, slots=True)
class Left:
    """An endpoint is there no longer."""

    index: int


class Care(Protocol):
    """What can be found out and done about the endpoints of a run, by index."""

    @property
    def heals(self) -> bool:
        """Whether `heal` mends an endpoint whose model's process died."""
        ...

    async def heal(self, index: int, *, is_sick: bool) -> None:
        """Do what can be done about an endpoint that failed, before it is asked again.

        Args:
            index: of the endpoint.
            is_sick: the process of its model is known to have died, or answers nothing any more.

        Raises:
            TritonbulkError: it is ours, and cannot be mended; ends the run.
        """
        ...

    async def check(self, index: int) -> None:
        """Return if an endpoint has the model ready that was planned for.

        Raises:
            AttemptFailedError: it does not answer, or is not ready; it may be later.
            ModelError: it is ready and serves another model, or none of that name; ends the run.
        """
        ...

    def changes(self) -> AsyncIterator[Joined | Left]:
        """Yield how the endpoints change while the run lasts."""
        ...


class NoCare:
    """A `Care` for endpoints that stay what they are."""

    heals = False

    async def heal(self, index: int, *, is_sick: bool) -> None:
        """See `Care.heal`."""

    async def check(self, index: int) -> None:
        """See `Care.check`."""

    async def changes(self) -> AsyncIterator[Joined | Left]:
        """See `Care.changes`."""
        await asyncio.Event().wait()
        yield Left(-1)  # never: what yields makes an iterator


@dataclass(frozen=True, slots=True)
class Driven:
    """What a run did.

    Attributes:
        rows_ok: rows with a prediction.
        rows_failed: rows with an error.
        rows_filtered: rows that a filter removed.
        requests: requests sent, repeated attempts included.
        in_flight_max: most requests in flight at one moment.
        stages: how long each stage was busy.
        stopped: it was asked to stop before the last segment was read or written.
    """

    rows_ok: int
    rows_failed: int
    rows_filtered: int
    requests: int
    in_flight_max: int
    stages: StageSeconds
    stopped: bool = False
