"""Turn: which request is sent next, and whether there is room for it."""

from __future__ import annotations

from collections import deque

from tritonbulk.dispatch.isolation import UNJUDGED_ROWS_MAX
from tritonbulk.dispatch.limits import Limits
from tritonbulk.dispatch.requests import Queue, Request


def sources(queue: Queue, *, has_control: bool) -> tuple[deque[Request], ...]:
    """Return where the next request comes from, in turn: suspects first, as segments wait for them.

    What cannot be sent to any endpoint keeps nobody else from being sent, but that others are tried
    before any row is scored.
    """
    suspects, ready = queue.apart, queue.ready
    if tries_others(queue, suspects, has_control=has_control):
        return (ready,)
    return suspects, ready


def tries_others(queue: Queue, suspects: deque[Request], *, has_control: bool) -> bool:
    """Return whether others are tried before suspects.

    They are while no row at all is scored, within reason: one that is scored serves as the control.
    """
    return not has_control and bool(queue.ready) and len(suspects) < UNJUDGED_ROWS_MAX


def admits(queue: Queue, request: Request, limits: Limits, window: int, *, hesitates: bool) -> bool:
    """Return whether a request may be sent now.

    Args:
        queue: what is in flight already.
        request: which one.
        limits: of rows and bytes in flight.
        window: requests that may be in flight.
        hesitates: all failed so far, perhaps because they were executed together: one at a time.
    """
    if not window:
        return False  # all is left to others for now
    if not queue.in_flight:
        return True  # a request above the bounds goes alone rather than never
    return (
        len(queue.in_flight) - queue.controls < (1 if hesitates else window)
        and queue.rows + request.batch.rows <= limits.rows_max
        and queue.size_bytes + request.batch.rows * request.row_bytes <= limits.bytes_max
    )
