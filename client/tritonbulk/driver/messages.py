"""What tasks and threads report to the loop, and what it keeps of a segment; values."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from tritonbulk.codec import Answer, EncodableRows, Predictions, Reply
from tritonbulk.dispatch import Failure, Probe, Send
from tritonbulk.pipeline import Joined, Left
from tritonbulk.segments import Segment


@dataclass(frozen=True, slots=True)
class Read:
    """A segment was read; with None there is no further one."""

    found: tuple[Segment, pa.RecordBatch] | None


@dataclass(frozen=True, slots=True)
class Answered:
    """An attempt brought an answer that is what the model promised."""

    send: Send
    answers: tuple[Answer, ...]
    reply: Reply
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed."""

    send: Send
    failure: Failure
    seconds: float


@dataclass(frozen=True, slots=True)
class Probed:
    """An endpoint was asked whether it works: yes, if there is no failure."""

    probe: Probe
    failure: Failure | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Written:
    """A segment is committed."""

    segment: int


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Endpoints that answered for a segment, by index, no longer say which model did."""

    segment: int
    silent: frozenset[int]


@dataclass(frozen=True, slots=True)
class Looked:
    """The servers' queues were looked at: see `Dispatch.felt`."""

    mean_s: float | None


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The run is to end by then."""

    by_s: float


Message = (
    Read | Answered | Failed | Probed | Written | Unconfirmed | StopAsked | Looked | Joined | Left
)


@dataclass(slots=True)
class OpenSegment:
    """A segment in memory; ``endpoints`` are those whose answers it holds."""

    segment: Segment
    encodable: EncodableRows
    predictions: Predictions
    size_bytes: int
    endpoints: set[int] = field(default_factory=set)
