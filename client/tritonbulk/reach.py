"""Reach: a model on the servers of a run, and pipelines that are driven there.

Whoever scores rows scores them here, so that faults are met in one way: files that become a job's
parts (`running`), batches that an engine hands over (`scorer`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tritonclient.grpc import service_pb2

from tritonbulk.assembly import make_carriage, names_of
from tritonbulk.dispatch import Limits
from tritonbulk.driver import drive
from tritonbulk.events import RunEvent
from tritonbulk.fleet import Fleet
from tritonbulk.pipeline import Driven, Pipeline
from tritonbulk.plan import Plan
from tritonbulk.polite import check_priority
from tritonbulk.queue_watch import QueueWatch, check_told
from tritonbulk.scorer_options import ScorerOptions
from tritonbulk.session import Servers, confirmation, read_statistics
from tritonbulk.transport import (
    Carriage,
    Endpoint,
    ServedModel,
    Transport,
    open_transport,
    open_transports,
)

Confirm: TypeAlias = Callable[[frozenset[int]], Awaitable[frozenset[int]]]
"""See `Pipeline.confirm`."""


@dataclass(frozen=True, slots=True)
class Reach:
    """A model on its servers, connected, and how it is asked.

    Attributes:
        options: how rows are scored.
        servers: where.
        endpoints: connections to those that were ready at the start.
        model: that all of them serve.
        plan: what is read, sent and written.
    """

    options: ScorerOptions
    servers: Servers
    endpoints: list[Endpoint]
    model: ServedModel
    plan: Plan

    async def drive(
        self,
        pipeline: Callable[[Confirm], Pipeline],
        limits: Limits,
        say: Callable[[str], None],
        observe: Callable[[int, int], None] = lambda *_: None,
        note: Callable[[RunEvent], None] | None = None,
        stop: asyncio.Event | None = None,
        stop_grace_s: float = 0.0,
    ) -> tuple[Driven, str]:
        """Score the segments of a pipeline; return what was done, and what carried the requests.

        Args:
            pipeline: makes it, given what confirms that the servers still serve the model.
            limits: bounds that do not move.
            say: told one sentence at a time.
            observe: see `drive`, as for the others, and what is raised.
            note: told each event.
            stop: asks the run to end early.
            stop_grace_s: how long it may go on then.
        """
        options = self.options
        if said := check_priority(options.priority, self.model.priority_levels, self.model.name):
            say(said)
        if options.yield_to is not None:
            check_told(await self.counted(), self.servers.addresses)
        carriage = make_carriage(options, self.plan, self.servers)
        async with (
            open_transports(
                carriage, self.endpoints, self.servers.shared_memory, say
            ) as transports,
            contextlib.AsyncExitStack() as stack,
        ):
            fleet = self._fleet(carriage, stack, say)
            watch = QueueWatch(lambda: fleet.endpoints, self.model)
            driven = await drive(
                pipeline(confirmation(lambda: fleet.endpoints, self.model, options.outage_s)),
                limits,
                transports,
                observe,
                # A server of ours that can be mended need not end the run.
                self.servers.watch if self.servers.heal is None else lambda: None,
                stop,
                stop_grace_s,
                note,
                fleet,
                say,
                None if options.yield_to is None else watch.look,
            )
            return driven, names_of(transports)

    async def counted(self) -> Sequence[service_pb2.ModelStatistics | None]:
        """Return each server's counters of the model; None for one that does not tell."""
        return await read_statistics(self.endpoints, self.model)

    def _fleet(
        self, carriage: Carriage, stack: contextlib.AsyncExitStack, say: Callable[[str], None]
    ) -> Fleet:
        def open_one(
            endpoint: Endpoint, stack: contextlib.AsyncExitStack
        ) -> Coroutine[Any, Any, Transport]:
            return open_transport(carriage, endpoint, self.servers.shared_memory, say, stack)

        return Fleet(
            self.servers.addresses,
            self.endpoints,
            self.model,
            self.servers.connect,
            open_one,
            self.servers.heal,
            stack,
        )
