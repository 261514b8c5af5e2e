"""What the user is told: how a run ends that cannot go on, and what it does differently now."""

from __future__ import annotations

from collections.abc import Sequence

from tritonbulk.dispatch.policy import Failure, Meaning, meaning, quotes_data
from tritonbulk.errors import (
    AnswerError,
    FailureLimitError,
    ModelError,
    OutageError,
    TritonbulkError,
    blaming,
    quoting,
)


def outage(endpoint: str, failure: Failure, silence_s: float) -> OutageError:
    """Return the end after too long without a row scored.

    Args:
        endpoint: address of the server that failed last.
        failure: how.
        silence_s: seconds since the last row was scored.
    """
    match meaning(failure):
        case Meaning.SICK:
            advice = (
                "the process that runs the model died there, although the server says that it is "
                "ready: load the model again (RepositoryModelLoad) or restart the server"
            )
        case Meaning.BUSY:
            advice = "its queue is full of other clients' requests: wait, or add servers"
        case Meaning.LATE:
            advice = (
                "check whether it runs (stopped, overloaded) and look at its log; raise "
                "--request-timeout if requests do take that long"
            )
        case Meaning.SUSPECT | Meaning.WRONG:
            advice = "it fails rows that it scored before: look at its log, restart it"
        case _:
            advice = "check that it runs and that the address is right"
    error = OutageError(
        f"no row was scored for {silence_s:.0f} s (last word of {endpoint}: {failure}); {advice}, "
        "then run again"
    )
    error.quotes_data = quotes_data(failure)
    return error


YIELDS = "others wait in the model's queue, so fewer requests are sent (--yield-to)"


def too_full(endpoint: str, rows: int) -> str:
    """Return what the user is told of an endpoint that fails on full batches of so many rows."""
    return (
        f"the model fails on full batches of {rows:,} rows at {endpoint}: smaller ones go there, "
        "which takes longer; lower max_batch_size (tritonbulk bench finds it)"
    )


def beyond_limit(rows_failed: int, allowed: int, failure: Failure) -> FailureLimitError:
    """Return the end after too many failed rows."""
    if not allowed:
        return FailureLimitError(f"a row failed, and none may ({failure}); look at model and data")
    return FailureLimitError(
        f"{rows_failed} rows failed, and --max-failed-fraction allows {allowed} (last: {failure}); "
        "look at model and data, or raise the limit"
    )


def naming_rows(
    error: TritonbulkError, rows: Sequence[str], segment: int | None
) -> TritonbulkError:
    """Return the end of a run; after too many failed rows with the names of the first ones.

    It blames ``segment``, whose row was one too many.
    """
    if segment is None or not (rows and isinstance(error, FailureLimitError)):
        return error
    first = f"the first that failed: {'; '.join(rows)}"
    named = quoting(FailureLimitError(f"{error}; {first}"), f"too many rows failed; {first}")
    return blaming(named, segment)


def none_scored(failure: Failure, rows: int) -> TritonbulkError:
    """Return the end where every row fails and none was ever scored.

    Args:
        failure: of the last row.
        rows: that failed by themselves.
    """
    match meaning(failure):
        case Meaning.WRONG:
            return AnswerError(f"{failure.text}; nothing was written: mend the model")
        case Meaning.REJECTED:
            error = ModelError(
                f"the model refuses every row sent so far ({failure}); check --input-map, the "
                "data and the model"
            )
            error.quotes_data = True
            return error
    return FailureLimitError(
        f"no row could be scored: {rows} were sent by themselves, and all failed ({failure}); look "
        "at the server's log, the model and the data"
    )
