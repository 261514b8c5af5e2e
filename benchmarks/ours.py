"""tritonbulk as a contender: whole runs over each transport, and the way to the server and back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa

from benchmarks.task import Stopwatch, Task
from benchmarks.workloads import IN_FLIGHT
from tritonbulk.access import PLAIN
from tritonbulk.assembly import make_carriage
from tritonbulk.cli.main import main as command_line
from tritonbulk.codec import RequestEncoder, ResponseDecoder
from tritonbulk.options import ScoreOptions
from tritonbulk.plan import make_plan
from tritonbulk.scoring import run_score
from tritonbulk.session import Servers, connect
from tritonbulk.source import open_source
from tritonbulk.transport import SharedMemoryAccess, Transport, open_transports

ATTEMPT_S = 60.0


def tritonbulk(transport: Literal["unary", "stream", "shm"], task: Task, watch: Stopwatch) -> int:
    """Run `score` as it is, everything automatic but the transport; return the rows."""
    options = ScoreOptions(
        inputs=(task.file,),
        model=task.workload.entry,
        out=Path(task.out),
        endpoints=task.endpoints,
        input_map=task.workload.input_map,
        keep=("id",),
        transport=transport,
        trust_shared_memory=transport == "shm",
    )
    access = SharedMemoryAccess(
        task.shared_memory_prefix, task.admin_headers, is_abandoned=lambda _: False
    )
    servers = Servers(task.endpoints, PLAIN, lambda: None, access)
    if task.workload.in_memory:
        return asyncio.run(_in_memory(options, servers, task, watch))
    result = asyncio.run(run_score(options, ready=servers))
    _check_transport(transport, result.transport)
    return result.rows_ok


def tritonbulk_cli(task: Task, watch: Stopwatch) -> int:
    """Run ``tritonbulk score`` as typed; its peak memory is this process's."""
    maps = [f"--input-map={name}={','.join(c)}" for name, c in task.workload.input_map.items()]
    sys.argv = [
        "tritonbulk", "score", task.file, "--model", task.workload.entry, "--out", task.out,
        "--endpoint", *task.endpoints, "--keep", "id", *maps,
    ]  # fmt: skip
    try:
        command_line()
    except SystemExit as end:
        watch.stop()
        if end.code:
            raise
    return task.rows


async def _in_memory(options: ScoreOptions, servers: Servers, task: Task, watch: Stopwatch) -> int:
    source = open_source(options.inputs)
    async with connect(servers, options, print) as (endpoints, model):
        plan = make_plan(options, model, source.schema, None, source.name)
        encoder = RequestEncoder(model.name, model.version, plan.inputs, plan.outputs)
        decoder = ResponseDecoder(plan.outputs, model.version)
        payloads = [rows for _, rows in source.read(plan.batch_rows, plan.fed)]
        carriage = make_carriage(options, plan, servers)
        async with open_transports(
            carriage, endpoints, servers.shared_memory, sys.exit
        ) as transports:
            answered: list[int] = []

            async def work(transport: Transport, numbers: Iterator[int]) -> None:
                for number in numbers:
                    rows: pa.RecordBatch = payloads[number % len(payloads)]
                    reply = await transport.infer(
                        encoder.encode(encoder.prepare(rows), 0, len(rows)), ATTEMPT_S
                    )
                    (answer, *_) = decoder.decode(reply, len(rows))
                    answered.append(answer.shape[0])
                    reply.release()

            await asyncio.gather(*(work(transports[0], iter([n])) for n in range(IN_FLIGHT)))
            numbers = iter(range(task.rows // plan.batch_rows))
            answered.clear()
            watch.start()
            await asyncio.gather(*(work(transports[0], numbers) for _ in range(IN_FLIGHT)))
            watch.stop()
            _check_transport(options.transport, transports[0].name)
    return sum(answered)


def _check_transport(wanted: str, found: str) -> None:
    if found != wanted:
        sys.exit(f"asked for {wanted}, but {found} carried the requests")
