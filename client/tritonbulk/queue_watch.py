"""Queue watch: what others feel in the queues of a model, read while a run lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from tritonclient.grpc import service_pb2

from tritonbulk.dispatch import YieldingWindow
from tritonbulk.errors import ModelError
from tritonbulk.transport import Endpoint, ServedModel

_Reading = tuple[int, int]  # requests that left the queue, and their waits in ns


class QueueWatch:
    """Tells a window what is felt at the servers; the worst of them counts.

    Args:
        endpoints: gives those of the run, as they are now.
        model: that is asked for.
        window: is told.
        say: told once when the run begins to yield.
    """

    def __init__(
        self,
        endpoints: Callable[[], Sequence[Endpoint]],
        model: ServedModel,
        window: YieldingWindow,
        say: Callable[[str], None],
    ) -> None:
        self._endpoints = endpoints
        self._model = model
        self._window = window
        self._say = say
        self._before: dict[str, _Reading] = {}
        self._has_said = False

    async def look(self) -> None:
        """Read all servers and tell the window."""
        endpoints = list(self._endpoints())
        asked = [each.statistics(self._model.name, self._model.version) for each in endpoints]
        waits = []
        for endpoint, counted in zip(endpoints, await asyncio.gather(*asked), strict=True):
            if counted is None:
                continue
            now = _reading(counted)
            before = self._before.get(endpoint.address)
            self._before[endpoint.address] = now
            # Counters begin anew where the model was loaded again.
            if before is not None and now[0] > before[0] and now[1] >= before[1]:
                waits.append((now[1] - before[1]) / (now[0] - before[0]) / 1e9)
        self._window.felt(max(waits, default=None), monotonic())
        if self._window.yields and not self._has_said:
            self._has_said = True
            self._say("others wait in the model's queue, so fewer requests are sent (--yield-to)")


def check_told(
    readings: Sequence[service_pb2.ModelStatistics | None], addresses: Sequence[str]
) -> None:
    """Check that there is something to yield by.

    Raises:
        ModelError: no server tells its statistics; a retry does not help.
    """
    if not any(reading is not None for reading in readings):
        raise ModelError(
            f"{addresses[0]} does not tell its statistics, by which --yield-to works; give the "
            "header that opens them, or leave it out"
        )


def _reading(counted: service_pb2.ModelStatistics) -> _Reading:
    queue = counted.inference_stats.queue
    return queue.count, queue.ns
