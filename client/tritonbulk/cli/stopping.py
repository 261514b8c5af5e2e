"""Stopping: the first SIGINT or SIGTERM asks a run to stop, the second ends the process at once.

Ending at once is safe: what is committed is whole, and whatever else this process had begun is as
after a crash. The embedded server ends with the process that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tritonbulk.errors import StoppedError
from tritonbulk.scoring import Observer

_Result = TypeVar("_Result")


def run_stoppable(
    work: Callable[[Observer, asyncio.Event], Awaitable[_Result]],
    observer: Observer,
    grace_s: float,
) -> _Result:
    """Carry out ``work`` in an event loop of its own and return its result.

    Args:
        work: given an observer and the event that asks it to stop.
        observer: told how it goes.
        grace_s: how long ``work`` goes on once it is asked to stop; for what the user is told.

    Raises:
        StoppedError: it was stopped; the exit code is 128 and the signal's number.
    """
    return asyncio.run(_stoppable(work, observer, grace_s))


async def _stoppable(
    work: Callable[[Observer, asyncio.Event], Awaitable[_Result]],
    observer: Observer,
    grace_s: float,
) -> _Result:
    stop, begun = asyncio.Event(), asyncio.Event()
    received: list[int] = []

    def begin(rows: int | None) -> None:
        begun.set()
        observer.begin(rows)

    def on_signal(number: int) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        if not begun.is_set():
            task.cancel()
            return
        stop.set()
        observer.say(
            f"stopping: what is in memory is finished within {grace_s:g} s; a second signal ends "
            "at once"
        )

    told = Observer(observer.say, begin, observer.advance)
    task = asyncio.ensure_future(work(told, stop))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        stopped = StoppedError("stopped before the first row was sent; nothing was lost")
    except StoppedError as error:
        stopped = error
    if received:
        stopped.exit_code = 128 + received[0]
    raise stopped
