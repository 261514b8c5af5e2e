"""Dispatch: which request is sent when and where, and what becomes of it when it fails. Pure.

``machine`` turns events into ``actions`` and owns what follows: ``requests`` has each request in
one place, ``turn`` says which is next, ``endpoints`` chooses where it goes, a ``breaker`` each says
whether they are used, ``isolation`` finds the row that is to blame, ``filling`` whether it can use
full batches, ``controls`` whether a server works. A ``window`` each says how many requests may be
in flight there, ``yielding`` how much of that is left to others, ``deadlines`` how long one may
take, ``quota`` how often it is sent again, ``silence`` how long none was answered; ``traffic`` is
what is in flight. ``policy`` says what an answer of a server means, ``endings`` what the user is
told, ``limits`` has the bounds that do not move. No clock, no I/O: time comes in with the events.
"""

from tritonbulk.dispatch.actions import Abort, Action, FailRows, Probe, Say, Send
from tritonbulk.dispatch.endings import naming_rows
from tritonbulk.dispatch.limits import (
    Limits,
    batch_rows_auto,
    failed_rows_max,
    fill_rows,
    may_open,
    segment_rows_auto,
)
from tritonbulk.dispatch.machine import Dispatch
from tritonbulk.dispatch.policy import NAN, Failure, Meaning, fatal, meaning, outcome, refusal

__all__ = [
    "NAN",
    "Abort",
    "Action",
    "Dispatch",
    "FailRows",
    "Failure",
    "Limits",
    "Meaning",
    "Probe",
    "Say",
    "Send",
    "batch_rows_auto",
    "failed_rows_max",
    "fatal",
    "fill_rows",
    "may_open",
    "meaning",
    "naming_rows",
    "outcome",
    "refusal",
    "segment_rows_auto",
]
