"""The bounds of a run, each with its unit, and how the defaults come about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritonbulk.contract import InputTensor, OutputTensor, row_bytes
from tritonbulk.options import SEGMENT_ROWS
from tritonbulk.polite import YieldTo
from tritonbulk.scorer_options import REQUEST_TIMEOUT_S

REQUEST_BYTES_MAX = 16 * 2**20
"""Bytes of tensors in one request or answer; Triton's Python backend keeps about 4.5 times the
largest one in shared memory for ever, so larger requests cost more than they save."""

ROWS_UNBATCHED = 1024
"""Batch rows for a model that says no limit: past this size the cost a row no longer falls."""

WINDOW_START_PER_ENDPOINT = 4
"""Requests in flight an endpoint at the beginning: enough to keep one machine busy."""

WINDOW_MAX_PER_ENDPOINT = 64
"""Requests in flight an endpoint that the window never exceeds by itself."""

WINDOW_BYTES_PER_ENDPOINT = 8 * 2**20
"""Bytes of tensors in flight an endpoint beyond which the window does not grow by itself: a fast
network needs no more (10 Gbit/s × 5 ms are 6 MB), and each costs twice itself in memory."""

IN_FLIGHT_ROWS_MAX = 2**20
IN_FLIGHT_BYTES_MAX = 256 * 2**20
"""Rows, and bytes of tensors (requests and answers), in flight over all endpoints."""

FAILED_ROWS_MIN = 10
"""Failed rows that never stop a run, however small it is, unless none are allowed."""

SEGMENT_BYTES_MAX = 32 * 2**20
"""Bytes that the automatic size of a segment keeps to, input columns and predictions together."""

SEGMENTS_OPEN_MAX = 4
"""Segments in memory at once: one read ahead, two being scored, one being written."""

SEGMENTS_BYTES_MAX = 64 * 2**20
"""Bytes of all of these, but one segment always. Two of the largest automatic size fit: while one
is written and the next one read, the other keeps the servers busy."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that do not move while a run lasts.

    Attributes:
        max_outage_s: seconds without a row scored by any server before the run gives up; infinite
            for never.
        failed_rows_max: failed rows that are allowed in any case.
        failed_fraction_max: share of the rows so far that may fail, where more is not known.
        window_start: requests in flight an endpoint at the beginning.
        window_max: requests in flight an endpoint that are never exceeded.
        requests_max: requests in flight, over all endpoints.
        yield_to: what others may feel in the model's queue, or there are fewer; None: whatever.
        rows_max: rows in flight, over all endpoints.
        bytes_max: bytes of tensors in flight, over all endpoints.
        segments_bytes_max: bytes of segments in memory, but one segment always.
        rows_before: rows that earlier runs of the job have settled.
        rows_failed_before: of these, rows that failed; they count.
        attempt_s_max: seconds that one attempt may take.
    """

    max_outage_s: float
    failed_rows_max: int
    window_start: int = WINDOW_START_PER_ENDPOINT
    window_max: int = WINDOW_MAX_PER_ENDPOINT
    requests_max: int = IN_FLIGHT_ROWS_MAX
    yield_to: YieldTo | None = None
    rows_max: int = IN_FLIGHT_ROWS_MAX
    bytes_max: int = IN_FLIGHT_BYTES_MAX
    failed_fraction_max: float = 0.0
    segments_bytes_max: int = SEGMENTS_BYTES_MAX
    rows_before: int = 0
    rows_failed_before: int = 0
    attempt_s_max: float = REQUEST_TIMEOUT_S


def failed_rows_max(fraction: float, rows: int) -> int:
    """Return the failed rows that a run over ``rows`` rows allows: their ``fraction``.

    At least `FAILED_ROWS_MIN`, so that one bad row does not stop a small run; with a fraction of 0
    none.
    """
    return max(int(fraction * rows), FAILED_ROWS_MIN) if fraction else 0


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
    widest = max(row_bytes(inputs), row_bytes(outputs), 1)
    by_bytes = max(REQUEST_BYTES_MAX // widest, 1)
    return min(max_batch_size or ROWS_UNBATCHED, by_bytes, SEGMENT_ROWS)


def fill_rows(max_batch_size: int, row_bytes: int) -> int:
    """Return the rows that fill a batch, so that a server executes nothing else with them.

    Args:
        max_batch_size: the model's limit in rows; 0 if it states none: requests are not batched.
        row_bytes: bytes of the tensors of one row, the larger of inputs and outputs. Beyond
            `REQUEST_BYTES_MAX` a batch is filled as far as that goes.
    """
    return max(min(max_batch_size, REQUEST_BYTES_MAX // max(row_bytes, 1)), 1)


def window_max(request_bytes: int) -> int:
    """Return the requests in flight an endpoint that the window may find by itself.

    Args:
        request_bytes: bytes of the tensors of one full request and its answer.
    """
    by_bytes = WINDOW_BYTES_PER_ENDPOINT // max(request_bytes, 1)
    return max(min(by_bytes, WINDOW_MAX_PER_ENDPOINT), WINDOW_START_PER_ENDPOINT)


def segment_rows_auto(row_bytes: int) -> int:
    """Return the rows of a segment: `SEGMENT_ROWS`, or what `SEGMENT_BYTES_MAX` allows.

    A pure function of the input's description, never of timing. A power of two, so that usual
    batch sizes divide it and no request is short but the last of a file.

    Args:
        row_bytes: bytes in memory of one row, input columns and predictions together.
    """
    by_bytes = max(SEGMENT_BYTES_MAX // row_bytes, 1)
    return int(min(SEGMENT_ROWS, 2 ** (by_bytes.bit_length() - 1)))


def may_open(open_bytes: Sequence[int], bytes_max: int, *, is_hungry: bool) -> bool:
    """Return whether one more segment may be read into memory.

    It may if there are fewer than `SEGMENTS_OPEN_MAX` (or, where they leave the window half empty,
    however many there are), and another one as large as the largest of them would keep all within
    `SEGMENTS_BYTES_MAX`. With none open it always may.

    Args:
        open_bytes: bytes of every segment in memory.
        bytes_max: bytes that all may have.
        is_hungry: whether more batches could be sent than are at hand.
    """
    if not open_bytes:
        return True
    fits = sum(open_bytes) + max(open_bytes) <= bytes_max
    return fits and (is_hungry or len(open_bytes) < SEGMENTS_OPEN_MAX)
