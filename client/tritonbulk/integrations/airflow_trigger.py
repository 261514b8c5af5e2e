"""Airflow's triggerer: waits for a manifest, in the place of an operator that has deferred."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from tritonbulk.checking import status
from tritonbulk.errors import TritonbulkError
from tritonbulk.job.stores.opening import open_store


class ManifestTrigger(BaseTrigger):
    """Fires when all jobs in an output are finished, or when no part has come for too long.

    Args:
        out: the output.
        stall_s: seconds without a new part.
        poll_s: seconds between two looks.
    """

    def __init__(self, out: str, stall_s: float, poll_s: float = 5.0) -> None:
        super().__init__()
        self.out, self.stall_s, self.poll_s = out, stall_s, poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes it again in the triggerer."""
        arguments = {"out": self.out, "stall_s": self.stall_s, "poll_s": self.poll_s}
        return "tritonbulk.integrations.airflow_trigger.ManifestTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the output until there is something to tell."""
        clock = asyncio.get_running_loop().time
        parts, since, finished = -1, clock(), False
        while clock() - since < self.stall_s:
            try:
                jobs = await asyncio.to_thread(status, open_store(self.out))
            except TritonbulkError:
                jobs = ()  # nothing stands there yet, or the store does not answer now
            if finished := bool(jobs) and all(job.is_finished for job in jobs):
                break
            if (now := sum(job.parts for job in jobs)) != parts:
                parts, since = now, clock()
            await asyncio.sleep(self.poll_s)
        yield TriggerEvent({"out": self.out, "finished": finished})
