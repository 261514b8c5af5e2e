"""Dispatch: which request is sent when and where, and what becomes of it when it fails. Pure.

``machine`` holds all state of a run and turns events into actions; ``policy`` says what an answer
of a server means; ``limits`` derives the bounds. No clock, no I/O: time comes in with the events.
"""

from tritonbulk.dispatch.limits import (
    Limits,
    batch_rows_auto,
    bytes_per_row,
    may_open,
    rows_in_flight_max,
    segment_rows_auto,
)
from tritonbulk.dispatch.machine import Abort, Action, Dispatch, FailRows, Send
from tritonbulk.dispatch.policy import Failure, Verdict, judge

__all__ = [
    "Abort",
    "Action",
    "Dispatch",
    "FailRows",
    "Failure",
    "Limits",
    "Send",
    "Verdict",
    "batch_rows_auto",
    "bytes_per_row",
    "judge",
    "may_open",
    "rows_in_flight_max",
    "segment_rows_auto",
]
