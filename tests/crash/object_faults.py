"""An S3 server in this process whose replies are lost, refused, cut short by a seeded schedule."""

from __future__ import annotations

import io
import random
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Environment = dict[str, Any]
Reply = Callable[..., Any]

BUCKET = "faults"
_QUIET_S = 60.0
_ARRIVES = 0.3
"""Chance that late requests arrive before another request."""

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
        slow_s: how late slow replies are; 0 for none.
        dice: what happens is drawn from these.
        done: how often each fault happened.
    """

    def __init__(self, application: Reply) -> None:
        self._application = application
        self._lock = threading.Lock()
        self._carrying_out = threading.Lock()
        self._quiet = threading.Condition()
        self._under_way = 0
        self.endpoint = ""
        self.share = 0.0
        self.slow_s = 0.0
        self.dice = random.Random(0)
        self.done: dict[str, int] = {}
        self._late: list[Environment] = []

    def __call__(self, environment: Environment, start: Reply) -> Iterable[bytes]:
        """Answer one request, as a WSGI application."""
        with self._quiet:
            self._under_way += 1
        try:
            yield from self._answer(environment, start)
        finally:
            with self._quiet:
                self._under_way -= 1
                self._quiet.notify_all()

    def _answer(self, environment: Environment, start: Reply) -> Iterable[bytes]:
        fault = self._draw(environment["REQUEST_METHOD"])
        self._deliver_some()
        # Also of a request that is refused: its connection goes on.
        size = int(environment.get("CONTENT_LENGTH") or 0)
        body = io.BytesIO(environment["wsgi.input"].read(size))
        environment = {**environment, "wsgi.input": body}
        if fault in ("503", "409"):
            text, status = (
                (_SLOW_DOWN, "503 Slow Down") if fault == "503" else (_CONFLICT, "409 Conflict")
            )
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
            return [text]
        if fault == "lost request":
            return _hang_up(environment)
        if fault == "late request":
            with self._lock:
                self._late.append(environment)
            return _hang_up(environment)
        if fault == "slow request":
            time.sleep(self.slow_s)
        if fault in (None, "slow request"):
            return self._carried_out(environment, start)
        return self._half_answered(environment, start, fault)

    def _carried_out(self, environment: Environment, start: Reply) -> list[bytes]:
        """Carry out one request at a time: moto looks and leaps without a lock, stores do not."""
        with self._carrying_out:
            return [b"".join(self._application(environment, start))]

    def _draw(self, method: str) -> str | None:
        with self._lock:
            if self.dice.random() >= self.share:
                return None
            kinds = ["503", "lost request", "lost reply"]
            kinds += {
                "PUT": ["409", "lost reply", "late request"],
                "GET": ["cut short"],
            }.get(method, [])
            if self.slow_s:
                kinds += ["slow request", "slow reply"]
            fault = self.dice.choice(kinds)
            self.done[fault] = self.done.get(fault, 0) + 1
            return fault

    def clear(self) -> None:
        """Empty the bucket."""
        from moto.s3.models import s3_backends  # noqa: PLC0415

        for account in s3_backends.values():
            account["aws"].buckets[BUCKET].keys.clear()

    def settle(self) -> None:
        """Wait until every request has arrived, also those whose senders have given up."""
        with self._quiet:
            assert self._quiet.wait_for(lambda: not self._under_way, _QUIET_S)
        self._deliver()

    def _deliver(self) -> None:
        """Let all late requests arrive; nobody waits for their replies any more."""
        with self._lock:
            late, self._late = self._late, []
        for environment in late:
            self._carried_out(environment, lambda *_: None)

    def _deliver_some(self) -> None:
        with self._lock:
            is_time = bool(self._late) and self.dice.random() < _ARRIVES
        if is_time:
            self._deliver()

    def _half_answered(self, environment: Environment, start: Reply, fault: str) -> Iterable[bytes]:
        """Carry a request out; its reply is lost, or ends before its end."""
        said: list[Any] = []
        (body,) = self._carried_out(environment, lambda *given: said.append(given))
        if fault == "slow reply":
            time.sleep(self.slow_s)
            start(*said[0])
            return [body]
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
    from moto.moto_server.werkzeug_app import create_backend_app  # noqa: PLC0415
    from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415

    class Quiet(WSGIRequestHandler):
        def log(self, *_: object) -> None:
            pass

    # The service itself: moto's dispatcher lists a hundred folders to find it, at every request.
    faulty = FaultyServer(create_backend_app("s3"))
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
