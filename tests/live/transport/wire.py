"""What the tests of transports share: an open transport with a codec, and rows with numbers."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tritonclient.grpc import service_pb2

from tritonbulk.codec import RequestEncoder, ResponseDecoder
from tritonbulk.contract import Column
from tritonbulk.options import ScoreOptions
from tritonbulk.server import guard
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk.session import connect, serve
from tritonbulk.transport import (
    Endpoint,
    Transport,
    choose_carriage,
    open_transports,
)

KINDS = ("unary", "stream", "shm")
TIMEOUT_S = 20.0
WIDE = 1_048_576
"""Values a row of the model ``wide``."""


@contextlib.contextmanager
def open_server(repository, **options):
    """Start a server that lets everyone on this machine share memory with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tritonbulk.server.flags.RESTRICTED", "model-repository,trace,logging")
        server = EmbeddedTriton(repository, stop_deadline_s=0, **options).start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Wire:
    """An open transport with a codec for one model."""

    transport: Transport
    encoder: RequestEncoder
    decoder: ResponseDecoder
    said: list[str]
    prefix: str

    async def ask(self, rows, timeout_s=TIMEOUT_S):
        """Return copies of the answers to ``rows``, the reply's memory given back."""
        request = self.encoder.encode(self.encoder.prepare(rows), 0, len(rows))
        reply = await self.transport.infer(request, timeout_s)
        answers = self.decoder.decode(reply, len(rows))
        await asyncio.sleep(0.002)  # as in scoring, others are served before this is looked at
        kept = [each.copy() if isinstance(each, np.ndarray) else each.values for each in answers]
        reply.release()
        return kept

    def slots_used(self):
        """Return how many slots of shared memory were used so far, and how many are now."""
        region = self.transport._region
        slots = region.size_bytes // region.slot_bytes
        return len(region._reserved), slots - len(region._free)


@contextlib.asynccontextmanager
async def opened(kind, address, model="two", version="1", slots=None):
    """Open a transport as scoring does."""
    options = ScoreOptions(
        inputs=("-",), model=model, out=Path("-"), endpoints=(address,), trust_shared_memory=True
    )
    said = []
    async with (
        serve(options, said.append) as servers,
        connect(servers, options, said.append) as (endpoints, served),
    ):
        inputs = [replace(t, columns=(Column(t.name),)) for t in served.inputs]
        rows = 16 if model == "wide" else 64
        carriage = choose_carriage(
            kind, servers.addresses, inputs, served.outputs, rows, may_share=True
        )
        carriage = replace(carriage, slots=slots or carriage.slots)
        async with open_transports(
            carriage, endpoints, servers.shared_memory, said.append
        ) as transports:
            yield Wire(
                transports[0],
                RequestEncoder(model, version, inputs, served.outputs),
                ResponseDecoder(served.outputs, version),
                said,
                servers.shared_memory.prefix,
            )


def numbered(first, count, special=None):
    """Return rows for `two` that carry their numbers."""
    n = np.arange(first, first + count)
    x = np.repeat(n[:, None], 8, axis=1).astype(np.float32) + np.arange(8, dtype=np.float32) / 16
    if special is not None:
        n[-1] = special
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 8)
    return pa.record_batch({"x": lists, "n": pa.array(n)})


def is_answer(answers, first, count):
    y, m = answers
    n = np.arange(first, first + count)
    x = np.repeat(n[:, None], 8, axis=1).astype(np.float32) + np.arange(8, dtype=np.float32) / 16
    return np.array_equal(y, x * 2) and np.array_equal(m, n[:, None] + 1)


async def ask_many(wire, requests, workers, seed=7):
    """Ask for batches of random size from many tasks at once; return how many are right."""
    sizes = random.Random(seed)
    plan = iter([(number * 100, sizes.randint(1, 64)) for number in range(requests)])
    right = 0

    async def work():
        nonlocal right
        for first, count in plan:
            answers = await wire.ask(numbered(first, count))
            right += is_answer(answers, first, count)

    await asyncio.gather(*(work() for _ in range(workers)))
    return right


def left_of(prefix, server):
    """Return the regions that the server knows, and the files of one run."""

    async def ask():
        async with Endpoint(server.grpc) as endpoint:
            question = service_pb2.SystemSharedMemoryStatusRequest()
            return list((await endpoint.ask("SystemSharedMemoryStatus", question)).regions)

    token = prefix.removesuffix("_")
    return asyncio.run(ask()), [path.name for path in guard.SHARED_MEMORY.glob(f"{token}*")]
