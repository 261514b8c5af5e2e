"""Both ends of a run: segments are read, and complete ones written, in threads of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from tritonbulk.clocks import COMMITTERS, StageClock
from tritonbulk.driver.messages import OpenSegment, Read, Unconfirmed, Written
from tritonbulk.pipeline import Pipeline
from tritonbulk.segments import Segment


class Ends:
    """The threads of a run: one reads, one makes parts, some commit; they start when first needed.

    Args:
        pipeline: what is read, and how it is written.
        stages: told how long each step takes.
    """

    def __init__(self, pipeline: Pipeline, stages: StageClock) -> None:
        self._pipeline = pipeline
        self._stages = stages
        self._reader = ThreadPoolExecutor(1, "tritonbulk-read")
        self._writer = ThreadPoolExecutor(1, "tritonbulk-write")
        self._committers = ThreadPoolExecutor(COMMITTERS, "tritonbulk-commit")

    async def read(self) -> Read:
        """Read the next segment."""
        segments = self._pipeline.segments
        if isinstance(segments, AsyncIterator):
            return Read(await anext(segments, None))

        def read() -> tuple[Segment, pa.RecordBatch] | None:
            with self._stages.busy("read"):
                return next(segments, None)

        return Read(await asyncio.get_running_loop().run_in_executor(self._reader, read))

    async def write(self, done: OpenSegment) -> Written | Unconfirmed:
        """Commit a complete segment, unless who answered for it no longer vouches for it."""

        def write() -> Callable[[], object]:
            with self._stages.busy("write"):
                return self._pipeline.write(done.segment, done.encodable.rows, done.predictions)

        def timed_commit() -> float:
            began_s = time.perf_counter()
            commit()
            return time.perf_counter() - began_s

        loop = asyncio.get_running_loop()
        commit = await loop.run_in_executor(self._writer, write)
        if silent := await self._pipeline.confirm(frozenset(done.endpoints)):
            return Unconfirmed(done.segment.index, silent)
        self._stages.committed(await loop.run_in_executor(self._committers, timed_commit))
        return Written(done.segment.index)

    async def close(self) -> None:
        """Wait for the threads."""
        for threads in (self._reader, self._writer, self._committers):
            await asyncio.to_thread(threads.shutdown)
