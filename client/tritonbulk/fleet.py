"""Fleet: the endpoints of a run while it lasts: checked, mended if ours, coming and going.

Servers that were not ready at the start are taken up when they are. Names are resolved again and
again: what is new is taken up, what has vanished gets no more requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from tritonbulk.pipeline import Joined, Left
from tritonbulk.transport import Endpoint, ServedModel, Target, Transport, is_name, resolve

RESOLVE_S = 10.0
"""Pause between two resolutions of the names."""

Healer = Callable[[Endpoint, bool], Awaitable[None]]
"""Mends a server of ours, given its endpoint and whether the process of its model has died."""


class Fleet:
    """See the module; a `tritonbulk.pipeline.Care`, by the indexes of the driver.

    Args:
        given: the endpoints as they were asked for, names and all.
        endpoints: those that were reached at the start, in the driver's order.
        model: that all of them serve.
        connect: opens one more connection, closed with the stack.
        open_transport: opens one more transport.
        heal: mends a server; None: none of them is ours.
        stack: what is opened later is closed with it.
    """

    def __init__(
        self,
        given: Sequence[str],
        endpoints: Sequence[Endpoint],
        model: ServedModel,
        connect: Callable[[Target], Endpoint],
        open_transport: Callable[[Endpoint, contextlib.AsyncExitStack], Awaitable[Transport]],
        heal: Healer | None,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self._given = tuple(given)
        self._endpoints = list(endpoints)
        self._gone: set[int] = set()
        self._model = model
        self._connect = connect
        self._open_transport = open_transport
        self._heal = heal
        self._stack = stack

    @property
    def endpoints(self) -> list[Endpoint]:
        """The connections, by index."""
        return self._endpoints

    @property
    def heals(self) -> bool:
        """See `Care.heals`."""
        return self._heal is not None

    async def heal(self, index: int, *, is_sick: bool) -> None:
        """See `Care.heal`."""
        if self._heal is not None:
            await self._heal(self._endpoints[index], is_sick)

    async def check(self, index: int) -> None:
        """See `Care.check`."""
        await self._endpoints[index].check(self._model)

    async def changes(self) -> AsyncIterator[Joined | Left]:
        """See `Care.changes`."""
        while True:
            for given in self._given:
                targets = await resolve(given)
                async for change in self._follow(given, targets):
                    yield change
            if not any(map(is_name, self._given)):
                return
            await asyncio.sleep(RESOLVE_S)

    async def _follow(self, given: str, targets: Sequence[Target]) -> AsyncIterator[Joined | Left]:
        """Yield what has changed among the servers that one endpoint stands for."""
        known = {
            each.address: index
            for index, each in enumerate(self._endpoints)
            if each.target.origin == given and index not in self._gone
        }
        for target in targets:
            if target.address not in known:
                endpoint = await self._stack.enter_async_context(self._connect(target))
                self._endpoints.append(endpoint)
                yield Joined(await self._open_transport(endpoint, self._stack))
        # A name that resolves to nothing is rather a failure of the resolver's.
        present = {target.address for target in targets}
        for address, index in known.items():
            if targets and address not in present:
                self._gone.add(index)
                yield Left(index)
