"""GPU figures from Triton's metrics: Prometheus text over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import threading
from collections.abc import Iterator

from tritonbulk.bench.trial import Gpu

SAMPLE_S = 0.5
"""Pause between two looks at the metrics."""

ANSWER_S = 2.0
"""How long the metrics may take to answer."""

ANSWER_BYTES_MAX = 4 * 2**20

_LINE = re.compile(
    r"^(nv_gpu_utilization|nv_gpu_memory_used_bytes)(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE
)


def parse_gpu(text: str) -> Gpu | None:
    """Return the GPUs in a text of Triton's metrics; None if it names none. Pure."""
    values: dict[str, list[float]] = {}
    for name, text_value in _LINE.findall(text):
        with contextlib.suppress(ValueError):
            value = float(text_value)
            values.setdefault(name, []).append(value)
    if not values:
        return None
    utilization = max(values.get("nv_gpu_utilization", [0.0]))
    return Gpu(utilization, int(sum(values.get("nv_gpu_memory_used_bytes", [0.0]))))


def read_gpu(address: str) -> Gpu | None:
    """Return the GPUs that the metrics at ``host:port`` tell now; None if they tell nothing."""
    connection = http.client.HTTPConnection(address, timeout=ANSWER_S)
    try:
        connection.request("GET", "/metrics")
        data = connection.getresponse().read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return parse_gpu(data.decode("utf-8", "replace"))


class GpuSampler:
    """Looks at the metrics from time to time, in a thread of its own.

    Args:
        address: of the metrics; None looks at nothing.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._samples: list[Gpu] = []

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        """Look again and again for as long as the block lasts."""
        self._samples.clear()
        done = threading.Event()
        thread = threading.Thread(target=self._look, args=(done,), daemon=True)
        if self._address is not None:
            thread.start()
        try:
            yield
        finally:
            done.set()

    def _look(self, done: threading.Event) -> None:
        assert self._address is not None
        while not done.wait(SAMPLE_S):
            found = read_gpu(self._address)
            if found is None:
                return
            self._samples.append(found)

    def found(self) -> Gpu | None:
        """Return the mean utilization and the largest memory that were seen; None for none."""
        if not self._samples:
            return None
        mean = sum(each.utilization for each in self._samples) / len(self._samples)
        return Gpu(round(mean, 4), max(each.memory_bytes for each in self._samples))


async def has_gpu(address: str | None) -> bool:
    """Return whether the metrics tell of a GPU."""
    return address is not None and await asyncio.to_thread(read_gpu, address) is not None
