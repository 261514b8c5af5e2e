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

IN_FLIGHT_PER_ENDPOINT = 8
"""Default requests in flight an endpoint: four fill one machine, twice that hides a network."""

IN_FLIGHT_BYTES_MAX = 256 * 2**20
"""Bytes of tensors in flight, requests and answers together, over all endpoints."""

SEGMENT_BYTES_MAX = 32 * 2**20
"""Bytes that the automatic size of a segment keeps to, input columns and predictions together."""

SEGMENTS_OPEN_MAX = 4
"""Segments in memory at once: one read ahead, two being scored, one being written."""

SEGMENTS_BYTES_MAX = 64 * 2**20
"""Bytes of all of these, but one segment always. Two of the largest automatic size fit: while one
is written and the next one read, the other keeps the servers busy."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what is under way at one moment, over all endpoints.

    Attributes:
        requests_max: requests in flight.
        rows_max: rows in flight.
        max_outage_s: seconds without an answer from any server before the run gives up.
        failed_rows_min: failed rows that never stop a run, however few rows were scored.
        failed_fraction_max: share of failed rows (0…1) that stops the run.
    """

    requests_max: int
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
    inputs: Sequence[InputTensor],
    outputs: Sequence[OutputTensor],
    requests_max: int,
    batch_rows: int,
) -> int:
    """Return the rows that may be in flight: ``requests_max`` requests, or `IN_FLIGHT_BYTES_MAX`.

    One full request is always allowed.
    """
    by_bytes = IN_FLIGHT_BYTES_MAX // (bytes_per_row(inputs) + bytes_per_row(outputs))
    return max(min(requests_max * batch_rows, by_bytes), batch_rows)


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


def segment_rows_auto(row_bytes: int) -> int:
    """Return the rows of a segment: `SEGMENT_ROWS`, or what `SEGMENT_BYTES_MAX` allows.

    A pure function of the input's description, never of timing. A power of two, so that usual
    batch sizes divide it and no request is short but the last of a file.

    Args:
        row_bytes: bytes in memory of one row, input columns and predictions together.
    """
    by_bytes = max(SEGMENT_BYTES_MAX // row_bytes, 1)
    return int(min(SEGMENT_ROWS, 2 ** (by_bytes.bit_length() - 1)))


def may_open(open_bytes: Sequence[int]) -> bool:
    """Return whether one more segment may be read into memory.

    It may if there are fewer than `SEGMENTS_OPEN_MAX`, and another one as large as the largest of
    them would keep all within `SEGMENTS_BYTES_MAX`. With none open it always may.

    Args:
        open_bytes: bytes of every segment in memory.
    """
    if not open_bytes:
        return True
    fits = sum(open_bytes) + max(open_bytes) <= SEGMENTS_BYTES_MAX
    return len(open_bytes) < SEGMENTS_OPEN_MAX and fits
