"""The bounds of a run, each with its unit, and how the defaults come about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritonbulk.contract import InputTensor, OutputTensor
from tritonbulk.options import SEGMENT_ROWS

REQUEST_BYTES_MAX = 16 * 2**20
"""Bytes of tensors in one request or answer; Triton's Python backend keeps about 4.5 times the
largest one in shared memory for ever, so larger requests cost more than they save."""

ROWS_UNBATCHED = 1024
"""Batch rows for a model that says no limit: past this size the cost a row no longer falls."""

BYTES_PER_STRING = 64
"""What a BYTES element is taken for when requests are sized: its real length is not known."""

SIZE_PER_FREE_DIMENSION = 256
"""What a dimension of -1 is taken for when requests are sized."""

WINDOW_START_PER_ENDPOINT = 4
"""Requests in flight an endpoint at the beginning: enough to keep one machine busy."""

WINDOW_MAX_PER_ENDPOINT = 64
"""Requests in flight an endpoint that the window never exceeds by itself."""

IN_FLIGHT_BYTES_MAX = 256 * 2**20
"""Bytes of tensors in flight, requests and answers together, over all endpoints."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that do not move while a run lasts.

    Attributes:
        rows_max: rows in flight, over all endpoints.
        max_outage_s: seconds without an answer from any server before the run gives up.
        failed_rows_min: failed rows that never stop a run, however few rows were scored.
        failed_fraction_max: share of failed rows (0…1) that stops the run.
    """

    rows_max: int
    max_outage_s: float
    failed_rows_min: int = 10
    failed_fraction_max: float = 0.01


def bytes_per_row(tensors: Sequence[InputTensor | OutputTensor]) -> int:
    """Return the bytes that one row takes on the wire, estimated where the model leaves it open."""
    total = 0
    for tensor in tensors:
        size = tensor.datatype.item_bytes or BYTES_PER_STRING
        for dimension in tensor.shape:
            size *= SIZE_PER_FREE_DIMENSION if dimension < 0 else dimension
        total += size
    return max(total, 1)


def rows_in_flight_max(
    inputs: Sequence[InputTensor], outputs: Sequence[OutputTensor], batch_rows: int
) -> int:
    """Return the rows that may be in flight by `IN_FLIGHT_BYTES_MAX`; one full request always."""
    by_bytes = IN_FLIGHT_BYTES_MAX // (bytes_per_row(inputs) + bytes_per_row(outputs))
    return max(by_bytes, batch_rows)


def batch_rows_auto(
    inputs: Sequence[InputTensor], outputs: Sequence[OutputTensor], max_batch_size: int
) -> int:
    """Return the rows of a request: as many as the model and `REQUEST_BYTES_MAX` allow.

    A pure function of the model, never of timing, so that a job run twice sends the same requests.

    Args:
        inputs: input tensors.
        outputs: output tensors.
        max_batch_size: the model's limit in rows; 0 if it states none.
    """
    widest = max(bytes_per_row(inputs), bytes_per_row(outputs))
    by_bytes = max(REQUEST_BYTES_MAX // widest, 1)
    return min(max_batch_size or ROWS_UNBATCHED, by_bytes, SEGMENT_ROWS)
