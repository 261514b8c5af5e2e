"""Actions: what the dispatcher asks of the driver; values."""

from __future__ import annotations

from dataclasses import dataclass

from tritonbulk.dispatch.policy import Failure
from tritonbulk.errors import TritonbulkError
from tritonbulk.segments import Batch


@dataclass(frozen=True, slots=True)
class Send:
    """Send this batch to that endpoint, and report the outcome under ``request_id``.

    Attributes:
        is_filled: repeat its rows to a full batch; only the answer to the first ones counts.
        timeout_s: the attempt's deadline.
    """

    request_id: int
    batch: Batch
    endpoint: int
    is_filled: bool
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Probe:
    """Find out whether an endpoint works, and report the outcome under ``request_id``.

    Attributes:
        asks: ask the server first whether it has the model ready, and the same one.
        is_sick: the process of its model died, or answers nothing any more; do what can be done
            about it before.
        is_control: send the control; else what it says is enough.
        is_filled: repeat the control's row to a full batch.
        timeout_s: deadline of the control.
    """

    request_id: int
    endpoint: int
    asks: bool
    is_sick: bool
    is_control: bool
    is_filled: bool
    timeout_s: float


@dataclass(frozen=True, slots=True)
class FailRows:
    """Write these rows with their error instead of a prediction."""

    batch: Batch
    failure: Failure


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the user this sentence."""

    text: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop the run with this error."""

    error: TritonbulkError


Action = Send | Probe | FailRows | Say | Abort
