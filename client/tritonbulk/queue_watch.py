"""Queue watch: what others feel in the queues of a model, read while a run lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tritonclient.grpc import service_pb2

from tritonbulk.errors import ModelError
from tritonbulk.transport import Endpoint, ServedModel

_Reading = tuple[int, int]  # requests that left the queue, and their waits in ns


class QueueWatch:
    """Reads what is felt at the servers; the worst of them counts.

    Args:
        endpoints: gives those of the run, as they are now.
        model: that is asked for.
    """

    def __init__(
        self,
        endpoints: Callable[[], Sequence[Endpoint]],
        model: ServedModel,
    ) -> None:
        self._endpoints = endpoints
        self._model = model
        self._before: dict[str, _Reading] = {}

    async def look(self) -> float | None:
        """Return the mean seconds in the queue since the last look; None if nobody waited."""
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
        return max(waits, default=None)


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
