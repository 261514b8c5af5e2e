"""Loopback ports: free ones are picked, a given one is waited for and never replaced."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack

from tritonbulk.server.flags import HOST
from tritonbulk.server.locks import GivenUpError

POLL_S = 0.2


def free_ports(count: int) -> list[int]:
    """Return ``count`` different loopback ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def wait_until_free(port: int, deadline_s: float, cancelled: threading.Event) -> bool:
    """Wait until nobody listens on a loopback port: False if someone still does at the deadline.

    Raises:
        GivenUpError: ``cancelled`` was set by another thread.
    """
    give_up_at = time.monotonic() + deadline_s
    while not _is_free(port):
        if time.monotonic() >= give_up_at:
            return False
        if cancelled.wait(POLL_S):
            raise GivenUpError
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As a server does it: connections that are still closing do not count as a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
