"""Several things at once: waiting for the one that is enough, and the error of a group."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from tritonbulk.errors import OutageError, TritonbulkError, UsageError


async def settle_some(
    works: Sequence[Coroutine[Any, Any, None]], grace_s: float
) -> list[TritonbulkError | None]:
    """Carry out ``works`` at the same time until one is done, then give the others ``grace_s``.

    Returns:
        For each what became of it: None if it is done, else its error.

    Raises:
        UsageError: of one of them, at once.
        TritonbulkError: of the first, if none is done.
    """
    tasks = [asyncio.create_task(work) for work in works]
    pending: set[asyncio.Task[None]] = set(tasks)
    try:
        timeout_s = None
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            for task in done:
                if isinstance(error := task.exception(), UsageError):
                    raise error
            if any(task.exception() is None for task in done):
                timeout_s = grace_s
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    outcomes = [_outcome(task, grace_s) for task in tasks]
    first, *_ = outcomes
    if first is not None and None not in outcomes:
        raise first
    return outcomes


def _outcome(task: asyncio.Task[None], grace_s: float) -> TritonbulkError | None:
    if task.cancelled():
        return OutageError(f"it was not ready {grace_s:g} s after another one")
    error = task.exception()
    if error is None or isinstance(error, TritonbulkError):
        return error
    raise error


def first_of(error: BaseException) -> BaseException:
    """Return the first single exception in a group, which is what the caller can act on."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
