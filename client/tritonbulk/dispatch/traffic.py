"""Traffic: what is in flight, taken note of at the queue and at the endpoint alike."""

from __future__ import annotations

from tritonbulk.dispatch.endpoints import Endpoints
from tritonbulk.dispatch.isolation import VOUCHED_S
from tritonbulk.dispatch.requests import Queue, Request, Stage
from tritonbulk.dispatch.silence import Silence


class Traffic:
    """Takes requests off and lands them.

    Args:
        queue: where they come from.
        endpoints: where they go.
        silence: told when a server is asked.

    Attributes:
        is_alone: whether a suspect is in flight with which nothing else may be at its endpoint.
    """

    def __init__(self, queue: Queue, endpoints: Endpoints, silence: Silence) -> None:
        self._queue = queue
        self._endpoints = endpoints
        self._silence = silence
        self.is_alone = False

    def take_off(self, request: Request, endpoint: int, now_s: float) -> int:
        """Take note that a request is sent to an endpoint, and return its id."""
        if not self._queue.in_flight:
            self._silence.asked(now_s)
        request_id = self._queue.send(request, endpoint, now_s)
        each = self._endpoints[endpoint]
        each.sent(request)
        request.is_vouched = now_s - each.vouched_s <= VOUCHED_S
        self.is_alone |= request.stage is Stage.ALONE
        return request_id

    def land(self, request_id: int) -> Request:
        """Take note that a request is no longer in flight, and return it."""
        request = self._queue.land(request_id)
        self._endpoints[request.endpoint].landed(request)
        if request.stage is Stage.ALONE:
            self.is_alone = False
        return request
