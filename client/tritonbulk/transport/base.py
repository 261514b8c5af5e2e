"""What every carrier of requests can do."""

from __future__ import annotations

from typing import Protocol

from tritonbulk.dispatch import Failure


class AttemptFailedError(Exception):
    """One sending of a request failed; `failure` says how. Never leaves the driver."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.status}: {failure.text}")
        self.failure = failure


class Transport(Protocol):
    """Carries requests to one endpoint and brings their answers back."""

    async def infer(self, request: bytes, timeout_s: float) -> bytes:
        """Return the serialized ``ModelInferResponse`` to a serialized ``ModelInferRequest``.

        Any number of calls may be under way at once; each is one attempt and is not repeated here.

        Raises:
            AttemptFailedError: there is no answer, for whatever reason, within ``timeout_s``.
        """
        ...
