"""Which transport carries a run: a pure function of the options, the model and the servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tritonbulk.codec.placement import place
from tritonbulk.codec.request import answer_bytes
from tritonbulk.contract import InputTensor, OutputTensor, row_bytes
from tritonbulk.dispatch.limits import (
    IN_FLIGHT_BYTES_MAX,
    WINDOW_MAX_PER_ENDPOINT,
)
from tritonbulk.scorer_options import TransportName

SHARED_MEMORY_ROW_BYTES_MIN = 1024
"""Bytes a row, in and out, from which ``auto`` takes shared memory. Below, what it saves a row is
less than what its set-up costs a short run."""


@dataclass(frozen=True, slots=True)
class Carriage:
    """How the requests to each endpoint travel.

    Attributes:
        kind: the transport.
        slots: requests that shared memory holds at once, an endpoint.
        slot_bytes: what a full request and its answer take there.
    """

    kind: Literal["unary", "stream", "shm"]
    slots: int
    slot_bytes: int


def choose_carriage(
    asked: TransportName,
    addresses: Sequence[str],
    inputs: Sequence[InputTensor],
    outputs: Sequence[OutputTensor],
    batch_rows: int,
    *,
    may_share: bool,
) -> Carriage:
    """Return how a run's requests travel.

    ``auto`` takes shared memory where it is allowed and a row is large, else unary calls. A stream
    was measured to give no more than they do (``docs/transports.md``), and a balancer on the way
    would send all of it to one server.

    Args:
        asked: the option.
        addresses: of the endpoints, at least one.
        inputs: input tensors.
        outputs: output tensors.
        batch_rows: rows of a full request.
        may_share: whether the servers may be given shared memory.
    """
    sizes = [row_bytes([tensor]) * batch_rows for tensor in inputs]
    answers = [answer_bytes(tensor, batch_rows) for tensor in outputs]
    slot_bytes = max(place([*sizes, *answers])[1], 1)
    by_bytes = IN_FLIGHT_BYTES_MAX // len(addresses) // slot_bytes
    kind: Literal["unary", "stream", "shm"]
    if asked != "auto":
        kind = asked
    elif may_share and row_bytes((*inputs, *outputs)) >= SHARED_MEMORY_ROW_BYTES_MIN:
        kind = "shm"
    else:
        kind = "unary"
    return Carriage(kind, max(min(WINDOW_MAX_PER_ENDPOINT, by_bytes), 1), slot_bytes)
