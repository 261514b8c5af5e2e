"""Runner: measures one setting after the other, through the very code of ``score``.

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
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tritonclient.grpc import service_pb2

from tritonbulk.assembly import make_carriage, make_limits, make_pipeline, names_of, naming
from tritonbulk.bench import configuration, machine
from tritonbulk.bench.metrics import GpuSampler, has_gpu
from tritonbulk.bench.options import BenchOptions, batch_rows_within, segment_rows_for
from tritonbulk.bench.search import LARGER_FACTOR_MAX, Step
from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bench.slice import lay_out, no_rows
from tritonbulk.bench.statistics import little, steady_rate
from tritonbulk.bench.trial import ServerSplit, Trial, server_split
from tritonbulk.bench.trial_watch import TrialWatch
from tritonbulk.bench.vary import Control, Record, RefusedError, controlling, read_config
from tritonbulk.bottleneck import find_bottleneck
from tritonbulk.contract import Contract
from tritonbulk.driver import drive
from tritonbulk.errors import OptionError, OutageError, ServerGoneError, TritonbulkError
from tritonbulk.jobrun import part_writer, scratch_job
from tritonbulk.options import ScoreOptions
from tritonbulk.pipeline import Driven
from tritonbulk.plan import make_plan
from tritonbulk.scorer_options import is_loopback
from tritonbulk.server_statistics import server_seconds
from tritonbulk.session import Servers, confirmation, connect, read_contract, serve
from tritonbulk.source import Source, open_source
from tritonbulk.transport import AttemptFailedError, Endpoint, ServedModel, open_transports

OUTAGE_S = 60.0
"""How long a trial waits for servers that do not answer."""

COUNTED_S = 0.5
"""How long Triton may take to count what it has answered."""

CEILING_S = 1.0
"""Length of the trial that measures the model alone."""


@asynccontextmanager
async def open_runner(
    options: ScoreOptions, bench: BenchOptions, say: Callable[[str], None]
) -> AsyncIterator[Runner]:
    """Give a runner whose servers are up, and leave them as they were.

    Args:
        options: input, model and servers, as for scoring; trials write beside ``out``, on its disk.
        bench: what to measure.
        say: told one sentence at a time.

    Raises:
        UsageError: nothing was sent; a retry does not help.
        TritonbulkError: see its class.
    """
    source = open_source(
        options.inputs,
        options.input_format,
        options.columns,
        options.where,
        is_untrusted=options.untrusted,
    )
    contract = read_contract(options)
    if source.rows == 0:
        raise no_rows(source)
    beside = Path(options.out).parent
    if not beside.is_dir():
        raise OptionError(f"folder {beside} does not exist; give another --out")
    options = replace(options, max_outage_s=min(options.max_outage_s, OUTAGE_S))
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".bench-", dir=beside))
        servers = await stack.enter_async_context(serve(options, say))
        endpoints, model = await stack.enter_async_context(connect(servers, options, say))
        config = await read_config(endpoints[0], model.name, model.version)
        base = (
            Variant(version=model.version, max_batch_size=model.max_batch_size)
            if config is None
            else configuration.variant_of(config, model.version)
        )
        rows = bench.batch_rows or batch_rows_within(model.max_batch_size)
        for each in rows:
            make_plan(
                replace(options, batch_rows=each), model, source.schema, contract, source.name
            )
        control = None
        if config is not None and (servers.embedded is not None or bench.vary_server):
            headers = servers.embedded.admin_headers if servers.embedded is not None else {}
            control = Control(endpoints, model.name, config, base, headers)
            record = None
            if servers.embedded is None:
                saved = configuration.to_json(config)
                record = Record(servers.addresses, model.name, saved)
            await stack.enter_async_context(controlling(control, record))
        sliced = await asyncio.to_thread(
            lay_out,
            source,
            max(rows),
            options.limit_rows,
            Path(folder),
            base.max_batch_size * LARGER_FACTOR_MAX if control is not None else 0,
        )
        metrics = bench.metrics or (servers.embedded.metrics if servers.embedded else None)
        gpu = GpuSampler(metrics if await has_gpu(metrics) else None)
        here = (
            (servers.embedded.pid,) if servers.embedded else machine.server_pids(servers.addresses)
        )
        yield Runner(
            options, bench, source, sliced, Path(folder), servers, endpoints, contract, model,
            base, rows, control, gpu, here, say,
        )  # fmt: skip


@dataclass
class Runner:
    """Measures settings on servers that are up; `open_runner` makes it.

    Attributes:
        options: input, model and servers.
        bench: what to measure.
        source: the user's whole input.
        sliced: rows of it, which trials read over and over.
        folder: for what trials write.
        servers: see `Servers`.
        endpoints: connections to them.
        contract: of an explicit repository.
        model: as it is served now.
        base: how the model was served at the beginning.
        batch_rows: rows a request that were asked for.
        control: varies the servers; None if that is not allowed, or not possible.
        gpu: looks at the GPUs meanwhile.
        server_pids: processes of the servers on this machine.
        say: told one sentence at a time.
    """

    options: ScoreOptions
    bench: BenchOptions
    source: Source
    sliced: Source
    folder: Path
    servers: Servers
    endpoints: list[Endpoint]
    contract: Contract | None
    model: ServedModel
    base: Variant
    batch_rows: tuple[int, ...]
    control: Control | None
    gpu: GpuSampler
    server_pids: tuple[int, ...]
    say: Callable[[str], None]
    rate_rows_s: float = 0.0

    async def ceiling(self) -> float | None:
        """Return the rows a second of the model alone, computing without a pause; None if unknown.

        Measured with the largest requests that it takes, one for each instance, and nothing
        written. This also finds out about how fast the model is.
        """
        instances = max(self.base.instances, 1)
        largest = max(self.batch_rows)
        for rows in (largest, *(largest // factor for factor in (2, 4, 16) if largest > factor)):
            setting = Setting(rows, instances, self.base)
            trial = await self.run(Step(setting, "the model alone"), 0, CEILING_S, no_write=True)
            self.rate_rows_s = max(trial.rows_per_second, 1.0)
            if trial.is_sound and trial.server is not None and trial.server.executed:
                executed = trial.server.executed
                busy_ms = sum(each.count * each.infer_ms for each in executed)
                if busy_ms > 0:
                    rows_done = sum(each.count * each.rows for each in executed)
                    return instances * rows_done / busy_ms * 1e3
            if trial.is_sound:
                return trial.rows_per_second
        return None

    async def run(
        self, step: Step, number: int, trial_s: float | None = None, *, no_write: bool | None = None
    ) -> Trial:
        """Measure one setting; what goes wrong with it alone stands in the trial.

        Args:
            step: what to set, and why.
            number: of the round.
            trial_s: how long to keep reading; None as asked for.
            no_write: whether writing is left out; None as asked for.

        Raises:
            ServerGoneError: the embedded server died; a sweep goes on where it was when restarted.
            OutageError: no server answers; likewise.
        """
        trial_s = trial_s or self.bench.trial_length_s
        no_write = self.bench.no_write if no_write is None else no_write
        try:
            await self._serve(step.setting.variant)
            return await self._measure(step, number, trial_s, no_write=no_write)
        except ServerGoneError:
            raise
        except TritonbulkError as error:
            if isinstance(error, OutageError) and not await self._is_ready():
                raise
            return Trial(step.setting, number, step.why, error=str(error))

    async def _is_ready(self) -> bool:
        """Return whether a server has the model ready: then it was the setting that failed."""
        question = service_pb2.ModelReadyRequest(name=self.model.name, version=self.model.version)
        for endpoint in self.endpoints:
            with suppress(AttemptFailedError):
                if (await endpoint.ask("ModelReady", question)).ready:
                    return True
        return False

    async def _serve(self, variant: Variant) -> None:
        if self.control is None:
            if variant != self.base:
                raise RefusedError("the server is not to be varied")
            return
        if variant == self.control.current:
            return
        await self.control.set(variant)
        self.model = await self.endpoints[0].describe(self.model.name, variant.version or None)

    async def _measure(self, step: Step, number: int, trial_s: float, *, no_write: bool) -> Trial:
        setting = step.setting
        options = replace(
            self.options,
            batch_rows=setting.batch_rows,
            in_flight_max=setting.in_flight,
            # What fails is a finding, and no reason to stop a sweep.
            failed_fraction_max=1.0,
        )
        plan = make_plan(options, self.model, self.sliced.schema, self.contract, self.sliced.name)
        out = Path(tempfile.mkdtemp(dir=self.folder))
        watch = TrialWatch(trial_s, setting.rows_in_flight / max(self.rate_rows_s, 1.0))
        before = await self._statistics()
        usage = machine.read_usage(self.server_pids)
        async with open_transports(
            make_carriage(options, plan, self.servers),
            self.endpoints,
            self.servers.shared_memory,
            self.say,
        ) as transports:
            segment_rows = segment_rows_for(self.rate_rows_s, trial_s, setting)
            write = part_writer(scratch_job(out), plan.keep)
            watch.began_s = time.perf_counter()
            with self.gpu.sampling():
                driven = await drive(
                    make_pipeline(
                        naming(self.sliced),
                        watch.read(self.sliced, segment_rows, plan, trial_s),
                        self.model,
                        plan,
                        _nothing if no_write else write,
                        confirmation(lambda: self.endpoints, self.model, options.outage_s),
                    ),
                    make_limits(options, None, plan.request_bytes),
                    transports,
                    watch.advance,
                    watch.looking(self.servers.watch),
                    watch.hopeless,
                    note=watch.note,
                )
            seconds = time.perf_counter() - watch.began_s
            transport = names_of(transports)
        used = machine.read_usage(self.server_pids)
        after = await self._counted(before, driven.rows_ok)
        await asyncio.to_thread(shutil.rmtree, out)
        return self._trial(
            step, number, watch, driven, seconds, transport, (usage, used), (before, after)
        )

    def _trial(
        self,
        step: Step,
        number: int,
        watch: TrialWatch,
        driven: Driven,
        seconds: float,
        transport: str,
        usage: tuple[machine.Usage, machine.Usage],
        counted: tuple[service_pb2.ModelStatistics | None, service_pb2.ModelStatistics | None],
    ) -> Trial:
        rows = driven.rows_ok + driven.rows_failed
        steady = steady_rate(watch.answers, step.setting.rows_in_flight)
        rate = steady.rows_per_second if steady is not None else rows / seconds
        if driven.rows_failed:
            rate *= driven.rows_ok / max(rows, 1)
        round_trip_s = watch.round_trip_s(step.setting.in_flight)
        bottleneck = find_bottleneck(driven.stages, server_seconds(*counted, self.model.instances))
        split: ServerSplit | None = server_split(*counted)
        was, now = usage
        server_s = None
        if was.server_s is not None and now.server_s is not None:
            # Less than before: a process that served an earlier variant has ended meanwhile.
            spent_s = now.server_s - was.server_s
            server_s = round(spent_s, 6) if spent_s >= 0 else None
        return Trial(
            setting=step.setting,
            round=number,
            why=step.why,
            rows=rows,
            rows_failed=driven.rows_failed,
            requests_failed=watch.failed,
            seconds=round(seconds, 6),
            rows_per_second=round(rate, 3),
            warm_up_s=round(steady.warm_up_s, 6) if steady is not None else 0.0,
            is_steady=steady is not None and steady.is_steady,
            cpu_s_client=round(now.own_s - was.own_s, 6),
            cpu_s_server=server_s,
            in_flight_little=round(little(rate, step.setting.batch_rows, round_trip_s), 3),
            round_trip_ms=round(round_trip_s * 1e3, 4),
            load=bottleneck.load if bottleneck is not None else None,
            bound_by=bottleneck.stage if bottleneck is not None else "",
            transport=transport,
            server=split,
            noise=machine.noise_between(was, now, server_is_here=self._is_here),
            gpu=self.gpu.found(),
        )

    @property
    def _is_here(self) -> bool:
        return self.servers.embedded is not None or any(
            is_loopback(address) for address in self.servers.addresses
        )

    async def _statistics(self) -> service_pb2.ModelStatistics | None:
        return await self.endpoints[0].statistics(self.model.name, self.model.version)

    async def _counted(
        self, before: service_pb2.ModelStatistics | None, rows: int
    ) -> service_pb2.ModelStatistics | None:
        """Return a reading that has all rows of one server, which counts after it has answered."""
        after = await self._statistics()
        give_up_s = time.perf_counter() + COUNTED_S
        while (
            before is not None
            and after is not None
            and len(self.endpoints) == 1
            and after.inference_count - before.inference_count < rows
            and time.perf_counter() < give_up_s
        ):
            await asyncio.sleep(0.02)
            after = await self._statistics()
        return after


def _nothing(*_: object) -> Callable[[], object]:
    return lambda: None
