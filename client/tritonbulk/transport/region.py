"""A region: a file in shared memory that a server has mapped too, cut into slots for requests.

Its name lives no longer than its registration takes: once the server has mapped the file it is
unlinked, and the memory goes with the last process that has it mapped. What is left after that by a
client that was killed is the registration at a server that goes on; `registered` clears away those
whose owner is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2

from tritonbulk.codec.wire import Octets
from tritonbulk.transport.base import AttemptFailedError
from tritonbulk.transport.endpoint import Endpoint

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives on Linux

FREE_FRACTION = 0.5
"""Share of the free shared memory that a region may take: the server's own backends need it too."""

UNREGISTER_S = 2.0
"""How long a server is asked to let go of a region, which it refuses while requests use it."""

_RETRY_S = 0.005


@dataclass(frozen=True, slots=True)
class SharedMemoryAccess:
    """What it takes to share memory with the servers of a run.

    Attributes:
        prefix: what names of regions begin with, so that the files of a dead run are found.
        headers: what opens the servers' shared memory calls; secret.
        is_abandoned: whether a region's name belongs to a run that is dead.
    """

    prefix: str
    headers: Mapping[str, str] = field(repr=False)
    is_abandoned: Callable[[str], bool]


class Region:
    """Slots of shared memory, each for one request and its answer, readable by this user alone.

    Pages are reserved when a slot is used for the first time, so a slot never runs into full
    memory while it is written to.

    Args:
        name: of the file.
        slots: how many at most; fewer where memory is short.
        slot_bytes: what a slot holds at least; rounded up to whole pages.

    Raises:
        OSError: there is no shared memory, or not enough of it for one slot.
    """

    def __init__(self, name: str, slots: int, slot_bytes: int) -> None:
        self.name = name
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        state = os.statvfs(FOLDER)
        room = int(state.f_bavail * state.f_frsize * FREE_FRACTION)
        slots = min(slots, room // self.slot_bytes)
        if not slots:
            raise OSError(f"{FOLDER} has no room for {self.slot_bytes} bytes")
        self.size_bytes = slots * self.slot_bytes
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(FOLDER / name, flags, 0o600)
        try:
            os.ftruncate(self._file, self.size_bytes)
            self._octets = np.frombuffer(mmap.mmap(self._file, self.size_bytes), np.uint8)
        except BaseException:
            self.close()
            raise
        # The last slot given back is the first taken, so that few requests touch few pages.
        self._free = list(reversed(range(slots)))
        self._reserved: set[int] = set()

    def close(self) -> None:
        """Remove the file, if it is still there; views of the slots stay valid."""
        self.unlink()
        os.close(self._file)

    def unlink(self) -> None:
        """Take the file's name away; whoever has it mapped keeps the memory."""
        (FOLDER / self.name).unlink(missing_ok=True)

    def take(self) -> int | None:
        """Return a slot that nobody uses; None if there is none, or no memory for it."""
        if not self._free:
            return None
        slot = self._free.pop()
        if slot not in self._reserved:
            try:
                os.posix_fallocate(self._file, slot * self.slot_bytes, self.slot_bytes)
            except OSError:
                return None
            self._reserved.add(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Let the next request have a slot that neither we nor the server use any more."""
        assert slot not in self._free, "given back twice"
        self._free.append(slot)

    def view(self, slot: int, offset: int, size: int) -> Octets:
        """Return ``size`` bytes of a slot from ``offset`` on."""
        begin = slot * self.slot_bytes + offset
        return self._octets[begin : begin + size]


@contextlib.asynccontextmanager
async def registered(
    endpoint: Endpoint, access: SharedMemoryAccess, slots: int, slot_bytes: int
) -> AsyncIterator[Region]:
    """Give a region that the server has mapped; at the end the server lets go of it.

    Raises:
        OSError: see `Region`.
        AttemptFailedError: the server does not take it.
    """
    for name in await _known(endpoint, access):
        if access.is_abandoned(name):
            await _unregister(endpoint, access, name)
    region = Region(access.prefix + secrets.token_hex(4), slots, slot_bytes)
    try:
        question = service_pb2.SystemSharedMemoryRegisterRequest(
            name=region.name, key=f"/{region.name}", offset=0, byte_size=region.size_bytes
        )
        try:
            await endpoint.ask("SystemSharedMemoryRegister", question, access.headers)
            region.unlink()
            yield region
        finally:
            await _unregister(endpoint, access, region.name)
    finally:
        region.close()


async def _known(endpoint: Endpoint, access: SharedMemoryAccess) -> list[str]:
    question = service_pb2.SystemSharedMemoryStatusRequest()
    answer = await endpoint.ask("SystemSharedMemoryStatus", question, access.headers)
    return list(answer.regions)


async def _unregister(endpoint: Endpoint, access: SharedMemoryAccess, name: str) -> None:
    """Make the server let go of a region, if it has it and still lives."""
    question = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(UNREGISTER_S):
            while True:
                try:
                    await endpoint.ask("SystemSharedMemoryUnregister", question, access.headers)
                except AttemptFailedError as error:
                    if "in use" not in error.failure.text:
                        return
                    await asyncio.sleep(_RETRY_S)
                else:
                    return
