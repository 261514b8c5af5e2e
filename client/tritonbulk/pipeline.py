"""The pipeline of a run: what to drive, and what became of it; values for the driver."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from tritonbulk.bottleneck import StageSeconds
from tritonbulk.codec import Predictions, RequestEncoder, ResponseDecoder
from tritonbulk.contract import OutputTensor
from tritonbulk.segments import Batch, Segment


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What to drive.

    Attributes:
        segments: segments with their rows, in order; advanced in a thread.
        name_rows: says in words which rows of the input a batch is, for errors.
        encoder: rows → request.
        decoder: answer → checked tensors.
        fed: columns that feed the model; the others are only kept.
        outputs: the output tensors.
        names: their column names.
        batch_rows: rows a request.
        row_bytes_out: bytes in memory of one row of predictions.
        confirm: given who answered for a segment (positions of endpoints), returns those that do
            not vouch for it, whose segment is scored anew; raises if one serves another model than
            was planned for. Awaited after a segment's last answer, before its part is committed.
        write: makes the part of one complete segment, and returns what commits it; called in a
            thread, one call at a time. What it returns is called in threads of their own, several
            at a time, since a store may take its time.
        leaving: set once nobody waits for segments and commits any more.
    """

    segments: Iterator[tuple[Segment, pa.RecordBatch]]
    name_rows: Callable[[Segment, Batch], str]
    encoder: RequestEncoder
    decoder: ResponseDecoder
    fed: tuple[str, ...]
    outputs: tuple[OutputTensor, ...]
    names: tuple[str, ...]
    batch_rows: int
    row_bytes_out: int
    confirm: Callable[[frozenset[int]], Awaitable[frozenset[int]]]
    write: Callable[[Segment, pa.RecordBatch, Predictions], Callable[[], object]]
    leaving: threading.Event = field(default_factory=threading.Event)


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
