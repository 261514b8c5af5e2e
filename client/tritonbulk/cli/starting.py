"""Starting: what an interrupt does while packages are imported. Imports nothing heavy itself."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Let SIGINT end the process with one line and exit code 130 while nothing is under way.

    Raised as an exception it would pass through others' imports, which may take it for a fault of
    their own. Where it is ignored or handled by someone else already, that stays.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_signal: int, _frame: object) -> None:
    os.write(2, b"tritonbulk: interrupted\n")
    os._exit(130)
