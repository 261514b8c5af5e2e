"""An S3 server in this process whose replies are lost, refused, cut short by a seeded schedule."""

from __future__ import annotations

import random
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Environment = dict[str, Any]
Reply = Callable[..., Any]

BUCKET = "faults"
_SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_CONFLICT = (
    b"<Error><Code>ConditionalRequestConflict</Code>"
    b"<Message>A conflicting conditional operation is in progress.</Message></Error>"
)


class FaultyServer:
    """moto behind a layer that disturbs requests.

    Attributes:
        endpoint: its address.
        share: of the requests that are disturbed.
        dice: what happens is drawn from these.
        done: how often each fault happened.
    """

    def __init__(self, application: Reply) -> None:
        self._application = application
        self._lock = threading.Lock()
        self.endpoint = ""
        self.share = 0.0
        self.dice = random.Random(0)
        self.done: dict[str, int] = {}

    def __call__(self, environment: Environment, start: Reply) -> Iterable[bytes]:
        """Answer one request, as a WSGI application."""
        fault = self._draw(environment["REQUEST_METHOD"])
        if fault in ("503", "409"):
            text, status = (
                (_SLOW_DOWN, "503 Slow Down") if fault == "503" else (_CONFLICT, "409 Conflict")
            )
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
            return [text]
        if fault == "lost request":
            return _hang_up(environment)
        if fault is None:
            return self._application(environment, start)
        return self._half_answered(environment, start, fault)

    def _draw(self, method: str) -> str | None:
        with self._lock:
            if self.dice.random() >= self.share:
                return None
            kinds = ["503", "lost request", "lost reply"]
            kinds += {"PUT": ["409", "lost reply"], "GET": ["cut short"]}.get(method, [])
            fault = self.dice.choice(kinds)
            self.done[fault] = self.done.get(fault, 0) + 1
            return fault

    def _half_answered(self, environment: Environment, start: Reply, fault: str) -> Iterable[bytes]:
        """Carry a request out; its reply is lost, or ends before its end."""
        said: list[Any] = []
        body = b"".join(self._application(environment, lambda *given: said.append(given)))
        if fault == "lost reply" or len(body) < 2:
            return _hang_up(environment)
        start(*said[0])

        def half() -> Iterator[bytes]:
            yield body[: len(body) // 2]
            _hang_up(environment)

        return half()


def _hang_up(environment: Environment) -> list[bytes]:
    environment["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionError("hung up on purpose")


@contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """Run one, with an empty bucket `BUCKET`; it disturbs nothing until its ``share`` is set."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415

    class Quiet(WSGIRequestHandler):
        def log(self, *_: object) -> None:
            pass

    faulty = FaultyServer(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faulty, threaded=True, request_handler=Quiet)
    faulty.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        made = urllib.request.Request(f"{faulty.endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made).close()
        yield faulty
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
