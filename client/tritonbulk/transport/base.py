"""What every carrier of requests can do."""

from __future__ import annotations

from typing import Protocol

from tritonbulk.codec import Reply, Request
from tritonbulk.dispatch import Failure


class AttemptFailedError(Exception):
    """One sending of a request failed; `failure` says how. Never leaves the driver."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.status}: {failure.text}")
        self.failure = failure


class Transport(Protocol):
    """Carries requests to one endpoint and brings their answers back."""

    @property
    def name(self) -> str:
        """What carries the requests now: ``unary``, ``stream`` or ``shm``."""
        ...

    @property
    def address(self) -> str:
        """Of the endpoint."""
        ...

    @property
    def laid_out_s(self) -> float:
        """Seconds spent so far on laying out requests; it only grows."""
        ...

    async def infer(self, request: Request, timeout_s: float) -> Reply:
        """Return the server's answer to a request; the caller releases it.

        Any number of calls may be under way at once; each is one attempt, which fails for good or
        is answered, whatever the transport falls back to in between.

        Raises:
            AttemptFailedError: there is no answer, for whatever reason, within ``timeout_s``.
        """
        ...
