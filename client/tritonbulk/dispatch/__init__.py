"""Dispatch: which request is sent when and where, and what becomes of it when it fails. Pure.

``machine`` holds all state of a run and turns events into actions; ``policy`` says what an answer
of a server means; ``window`` how many requests may be in flight; ``limits`` derives the bounds that
do not move. No clock, no I/O: time comes in with the events.
"""

from tritonbulk.dispatch.limits import (
    Limits,
    batch_rows_auto,
    failed_rows_max,
    may_open,
    segment_rows_auto,
)
from tritonbulk.dispatch.machine import Abort, Action, Dispatch, FailRows, Send
from tritonbulk.dispatch.policy import Failure, Verdict, judge, outcome, refusal
from tritonbulk.dispatch.window import FixedWindow, GoodputWindow, Window

__all__ = [
    "Abort",
    "Action",
    "Dispatch",
    "FailRows",
    "Failure",
    "FixedWindow",
    "GoodputWindow",
    "Limits",
    "Send",
    "Verdict",
    "Window",
    "batch_rows_auto",
    "failed_rows_max",
    "judge",
    "may_open",
    "outcome",
    "refusal",
    "segment_rows_auto",
]
