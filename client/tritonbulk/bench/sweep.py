"""Sweep: runs trials through the very code of ``score`` and gives their figures.

Each trial reads rows from a file, encodes, sends, decodes and writes them, durable commits
included, in a folder beside the file for the figures. What is read is a slice of the user's own
file, over and over, so that every trial sees the same rows and a short input lasts as long as is
needed. With several endpoints Triton's statistics are those of the first.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tritonbulk.assembly import make_carriage, make_limits, make_pipeline, make_window, names_of
from tritonbulk.bench.plan import (
    BenchOptions,
    Setting,
    batch_rows_within,
    plan_trials,
    segment_rows_for,
)
from tritonbulk.bench.statistics import Trial, server_split
from tritonbulk.contract import Contract
from tritonbulk.driver import drive
from tritonbulk.errors import InputError, OptionError
from tritonbulk.jobrun import part_writer, scratch_job
from tritonbulk.options import ScoreOptions
from tritonbulk.plan import make_plan
from tritonbulk.segments import Segment
from tritonbulk.session import Servers, confirmation, connect, read_contract, serve
from tritonbulk.source import Source, open_source
from tritonbulk.transport import Endpoint, ServedModel, open_transports

SLICE_ROWS_MAX = 262_144
"""Rows of the user's file that trials use."""

SLICE_BYTES_MAX = 256 * 2**20
"""Bytes (in memory) of the same."""

READ_ROWS_MAX = 16 * SLICE_ROWS_MAX
"""Rows that are read to find them, before any filter, unless a limit says how many."""


async def sweep(
    options: ScoreOptions, bench: BenchOptions, say: Callable[[str], None]
) -> AsyncIterator[Trial]:
    """Yield every trial of a sweep as soon as it is measured.

    Args:
        options: input, model and servers, as for scoring; trials write beside ``out``, on its disk.
        bench: what to measure.
        say: told one sentence at a time before the first trial.

    Raises:
        UsageError: nothing was sent; a retry does not help.
        TritonbulkError: see its class.
    """
    source = open_source(options.inputs, options.input_format, options.columns, options.where)
    contract = read_contract(options)
    if source.rows == 0:
        raise _no_rows(source)
    beside = Path(options.out).parent
    if not beside.is_dir():
        raise OptionError(f"folder {beside} does not exist; give another --out")
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=beside) as folder:
        async with (
            serve(options, say) as servers,
            connect(servers, options, say) as (endpoints, model),
        ):
            if not bench.batch_rows:
                bench = replace(bench, batch_rows=batch_rows_within(model.max_batch_size))
            for rows in bench.batch_rows:
                make_plan(
                    replace(options, batch_rows=rows), model, source.schema, contract, source.name
                )
            sliced = _lay_out(source, max(bench.batch_rows), options.limit_rows, Path(folder))
            runner = _Runner(
                options, sliced, Path(folder), servers, endpoints, model, contract, say
            )
            largest = Setting(max(bench.batch_rows), max(bench.in_flight))
            say("warming up")
            warm_up = await runner.run(largest, bench.trial_s, largest.batch_rows)
            for setting in plan_trials(bench):
                rate_rows_s = warm_up.rows_per_second
                rows = segment_rows_for(rate_rows_s, bench.trial_s, setting)
                yield await runner.run(setting, bench.trial_s, rows)


@dataclass(frozen=True, slots=True)
class _Runner:
    options: ScoreOptions
    source: Source
    folder: Path
    servers: Servers
    endpoints: list[Endpoint]
    model: ServedModel
    contract: Contract | None
    say: Callable[[str], None]

    async def run(self, setting: Setting, trial_s: float, segment_rows: int) -> Trial:
        """Run one trial and return its figures."""
        options = replace(
            self.options, batch_rows=setting.batch_rows, in_flight_max=setting.in_flight
        )
        plan = make_plan(options, self.model, self.source.schema, self.contract, self.source.name)
        out = Path(tempfile.mkdtemp(dir=self.folder))
        before = await self.endpoints[0].statistics(self.model.name, self.model.version)
        carriage = make_carriage(options, plan, self.servers)
        async with open_transports(
            carriage, self.endpoints, self.servers.shared_memory, self.say
        ) as transports:
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            segments = _cycle(self.source, segment_rows, plan.columns, began_s + trial_s)
            driven = await drive(
                make_pipeline(
                    self.source,
                    segments,
                    self.model,
                    plan,
                    part_writer(scratch_job(out), plan.keep),
                    confirmation(self.endpoints, self.model, self.options.max_outage_s),
                ),
                make_limits(options, self.source.rows),
                make_window(options, plan.request_bytes, len(self.endpoints)),
                transports,
                lambda *_: None,
                self.servers.watch,
            )
            seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
            transport = names_of(transports)
        after = await self.endpoints[0].statistics(self.model.name, self.model.version)
        await asyncio.to_thread(shutil.rmtree, out)
        return Trial(
            setting,
            driven.rows_ok,
            driven.rows_failed,
            seconds,
            cpu_s,
            driven.in_flight_max,
            server_split(before, after),
            transport,
        )


def _lay_out(source: Source, rows_min: int, limit_rows: int | None, folder: Path) -> Source:
    """Write a slice of the source, repeated until it has ``rows_min`` rows, and open it."""
    rows = _slice(source, limit_rows)
    times = -(-rows_min // len(rows))
    path = folder / "rows.parquet"
    pq.write_table(pa.concat_tables([rows] * times), path, row_group_size=SLICE_ROWS_MAX // 4)
    return open_source([str(path)])


def _slice(source: Source, limit_rows: int | None) -> pa.Table:
    """Return the first rows that pass the source's filter, read once; at least one."""
    found: list[pa.RecordBatch] = []
    rows_read, rows, size = 0, 0, 0
    names = list(source.schema.names)
    for segment, batch in source.read(SLICE_ROWS_MAX // 4, names, limit_rows or READ_ROWS_MAX):
        found.append(batch)
        rows_read += segment.rows + segment.rows_filtered
        rows, size = rows + len(batch), size + batch.nbytes
        if rows >= SLICE_ROWS_MAX or size >= SLICE_BYTES_MAX:
            break
    if not rows_read:
        raise _no_rows(source)
    if not rows:
        raise InputError(
            f"none of the first {rows_read:,} rows of {source.name} passes --where; give another "
            "filter, or a --limit that reaches rows that pass"
        )
    return pa.Table.from_batches(found)


def _no_rows(source: Source) -> InputError:
    return InputError(f"{source.name} has no rows to measure with; give another file")


def _cycle(
    source: Source, segment_rows: int, columns: Sequence[str], end_s: float
) -> Iterator[tuple[Segment, pa.RecordBatch]]:
    """Yield segments of the source, over and over, until ``end_s`` of the performance counter.

    Segments are numbered on; at least one is given.
    """
    index = 0
    while True:
        for segment, rows in source.read(segment_rows, columns):
            yield replace(segment, index=index), rows
            index += 1
            if time.perf_counter() >= end_s:
                return
