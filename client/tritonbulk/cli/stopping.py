"""Stopping: the first SIGINT or SIGTERM asks a run to stop, the second ends the process at once.

Ending at once is safe: what is committed is whole, and whatever else this process had begun is as
after a crash. The embedded server ends with the process that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from tritonbulk.errors import StoppedError
from tritonbulk.running import Observer

_Result = TypeVar("_Result")

LATE_S = 1.0
"""How long after the grace a run that has not ended by itself is cancelled."""


class Signals:
    """Hears SIGINT and SIGTERM for one run, and for what is told of it afterwards.

    The handlers are Python's own, not those of an event loop: they are called whatever the main
    thread does, and go on where a loop has ended.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._tell: Callable[[], object] = lambda: None
        self._is_over = False

    def hear(self, number: int, _frame: object) -> None:
        """Take note of a signal; the second one ends the process."""
        if self._is_over:
            return  # nothing is left to stop
        if self._received:
            os._exit(128 + number)
        self._received.append(number)
        with contextlib.suppress(RuntimeError):  # the loop has just ended
            self._tell()

    def run(
        self,
        work: Callable[[Observer, asyncio.Event], Awaitable[_Result]],
        observer: Observer,
        grace_s: float,
    ) -> _Result:
        """Carry out ``work`` in an event loop of its own and return its result.

        Args:
            work: given an observer and the event that asks it to stop.
            observer: told how it goes.
            grace_s: how long ``work`` goes on once it is asked to stop.

        Raises:
            StoppedError: it was stopped; the exit code is 128 and the signal's number.
        """
        try:
            return asyncio.run(self._stoppable(work, observer, grace_s))
        except StoppedError as error:
            if self._received:
                error.exit_code = 128 + self._received[0]
            raise
        finally:
            self._is_over = True

    async def _stoppable(
        self,
        work: Callable[[Observer, asyncio.Event], Awaitable[_Result]],
        observer: Observer,
        grace_s: float,
    ) -> _Result:
        stop, begun = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def begin(rows: int | None) -> None:
            begun.set()
            observer.begin(rows)

        def on_signal() -> None:
            stop.set()
            if not begun.is_set():
                task.cancel()
                return
            observer.say(
                f"stopping: what is in memory is finished within {grace_s:g} s; a second signal "
                "ends at once"
            )
            loop.call_later(grace_s + LATE_S, task.cancel)

        told = Observer(observer.say, begin, observer.advance, observer.note)
        task = asyncio.ensure_future(work(told, stop))
        self._tell = lambda: loop.call_soon_threadsafe(on_signal)
        if self._received:
            on_signal()
        try:
            return await task
        except asyncio.CancelledError:
            if not self._received:
                raise
            when = "" if begun.is_set() else " before the first row was sent"
            raise StoppedError(f"stopped{when}; nothing that was committed is lost") from None


@contextlib.contextmanager
def heard_signals() -> Iterator[Signals]:
    """Hear signals within, where this is the main thread; elsewhere there are none to hear."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {
        number: signal.signal(number, signals.hear) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
