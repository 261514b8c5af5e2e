"""The first and the last moment of the process. Imports nothing heavy itself."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import NoReturn


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process at once while nothing is under way.

    It says so, with exit code 128 and the signal's number. Raised as an exception a signal would
    pass through others' imports, which may take it for a fault of their own. Where a signal is
    ignored, that stays.
    """
    before = {
        number: signal.signal(number, _leave)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def how_to_go_on() -> str:
    """Return the line that tells how to go on with this run, without secrets in its addresses.

    "" where there is no run, or where stderr is to hold JSON alone.
    """
    words = sys.argv[1:]
    is_json = "--log-format=json" in words or ("--log-format", "json") in pairwise(words)
    if words[:1] != ["score"] or is_json:
        return ""
    kept = [_without_secrets(word) for word in words if word != "--fresh"]
    return f"to go on: {shlex.join(['tritonbulk', *kept])}"


def leave(code: int) -> NoReturn:
    """End the process, all of whose work is done and said, with this exit code.

    Python's own end would go on to that of the libraries in C++, and one of which a thread still
    runs then aborts the process: code 134 for work that was done well.
    """
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001  all of Python's end that others may count on
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the disk is full, or the reader gone
            code = code or 3
    os._exit(code)


def _without_secrets(word: str) -> str:
    return re.sub(r"(://[^?]*)\?.*", r"\1", re.sub(r"(://)[^/]*@", r"\1", word))


def _leave(number: int, _frame: object) -> None:
    said = "interrupted" if number == signal.SIGINT else "terminated"
    lines = filter(None, (f"tritonbulk: {said}", how_to_go_on()))
    os.write(2, "".join(f"{line}\n" for line in lines).encode(errors="replace"))
    os._exit(128 + number)
