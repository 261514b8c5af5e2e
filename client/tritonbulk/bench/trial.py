"""Trial: one measured point, and its form as a line of JSON. Values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bottleneck import Load

NOISY_CORES = 0.2
"""Processors used by others, or taken by the machine's host, from which on a trial is noisy."""


@dataclass(frozen=True, slots=True)
class Executed:
    """Batches of one size that the model executed.

    Attributes:
        rows: of a batch.
        count: how many there were.
        infer_ms: mean time of the model itself.
    """

    rows: int
    count: int
    infer_ms: float


@dataclass(frozen=True, slots=True)
class ServerSplit:
    """What Triton counted for one model meanwhile; times are means of a request.

    Attributes:
        executed_batch_rows: mean rows of the batches that the model executed.
        queue_ms: waiting for an instance, or for others to make a batch with.
        input_ms: tensors were brought to the model.
        infer_ms: the model computed.
        output_ms: tensors were brought from it.
        executed: the batches by size; () where the server does not tell.
    """

    executed_batch_rows: float
    queue_ms: float
    input_ms: float
    infer_ms: float
    output_ms: float
    executed: tuple[Executed, ...]


@dataclass(frozen=True, slots=True)
class Noise:
    """Who else used the machine's processors.

    Attributes:
        foreign_cores: processors that were busy with neither this process nor the server.
        steal_cores: processors that the machine's host gave to others.
    """

    foreign_cores: float
    steal_cores: float

    @property
    def is_noisy(self) -> bool:
        """Whether that is too much for a figure to be trusted."""
        return self.foreign_cores + self.steal_cores > NOISY_CORES


@dataclass(frozen=True, slots=True)
class Gpu:
    """GPUs as Triton's metrics had them: largest utilization, from 0 to 1, and memory in bytes."""

    utilization: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One measured point.

    Attributes:
        setting: what was set.
        round: in which round of the sweep.
        why: why this setting was chosen.
        rows: rows scored and written.
        rows_failed: rows written with an error.
        requests_failed: attempts that were refused or went wrong, and were repeated.
        seconds: from the first read to the last commit.
        rows_per_second: between warm-up and the end of reading; of the whole trial if that was too
            short to tell.
        warm_up_s: how long the warm-up took.
        is_steady: whether it was seen to end.
        cpu_s_client: user and system time of this process.
        cpu_s_server: of the server and its processes; None if it is elsewhere.
        in_flight_little: requests in flight by Little's law: rate × round trip. Fewer than were set
            means that the client did not keep up.
        round_trip_ms: mean, from sending to answer.
        load: how busy each stage was; None if nothing was sent.
        bound_by: the stage that bounded the rate; "" if nothing was sent.
        transport: what carried the requests.
        server: what Triton counted; None if the server does not tell.
        noise: who else used the machine; None where the system does not tell.
        gpu: GPUs; None if there are none that Triton knows of.
        error: what ended the trial before its time; "" for nothing.
    """

    setting: Setting
    round: int
    why: str
    rows: int = 0
    rows_failed: int = 0
    requests_failed: int = 0
    seconds: float = 0.0
    rows_per_second: float = 0.0
    warm_up_s: float = 0.0
    is_steady: bool = False
    cpu_s_client: float = 0.0
    cpu_s_server: float | None = None
    in_flight_little: float = 0.0
    round_trip_ms: float = 0.0
    load: Load | None = None
    bound_by: str = ""
    transport: str = ""
    server: ServerSplit | None = None
    noise: Noise | None = None
    gpu: Gpu | None = None
    error: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether every row was scored, each at the first attempt."""
        return not (self.error or self.rows_failed or self.requests_failed)


def trial_to_plain(trial: Trial) -> dict[str, Any]:
    """Return a trial as JSON takes it."""
    return asdict(trial)


def trial_from_plain(plain: Mapping[str, Any]) -> Trial:
    """Return the trial that `trial_to_plain` made plain.

    Raises:
        LookupError, TypeError: it is something else.
    """
    values = dict(plain)
    setting = dict(values.pop("setting"))
    values["setting"] = Setting(**{**setting, "variant": Variant(**setting["variant"])})
    if (server := values.get("server")) is not None:
        executed = tuple(Executed(**each) for each in server["executed"])
        values["server"] = ServerSplit(**{**server, "executed": executed})
    for name, kind in (("load", Load), ("noise", Noise), ("gpu", Gpu)):
        if values.get(name) is not None:
            values[name] = kind(**values[name])
    return Trial(**values)


def server_split(
    before: service_pb2.ModelStatistics | None, after: service_pb2.ModelStatistics | None
) -> ServerSplit | None:
    """Return what happened between two readings of one server.

    None if either is missing or nothing was executed in between.
    """
    if before is None or after is None:
        return None
    executions = after.execution_count - before.execution_count
    was, now = before.inference_stats, after.inference_stats
    requests = now.success.count - was.success.count
    if executions <= 0 or requests <= 0:
        return None

    def mean_ms(name: str) -> float:
        return max((getattr(now, name).ns - getattr(was, name).ns) / requests / 1e6, 0.0)

    return ServerSplit(
        executed_batch_rows=(after.inference_count - before.inference_count) / executions,
        queue_ms=mean_ms("queue"),
        input_ms=mean_ms("compute_input"),
        infer_ms=mean_ms("compute_infer"),
        output_ms=mean_ms("compute_output"),
        executed=_executed(before, after),
    )


def _executed(
    before: service_pb2.ModelStatistics, after: service_pb2.ModelStatistics
) -> tuple[Executed, ...]:
    earlier = {each.batch_size: each.compute_infer for each in before.batch_stats}
    found = []
    for each in after.batch_stats:
        count, took_ns = each.compute_infer.count, each.compute_infer.ns
        if (known := earlier.get(each.batch_size)) is not None:
            count, took_ns = count - known.count, took_ns - known.ns
        if count > 0:
            found.append(Executed(each.batch_size, count, took_ns / count / 1e6))
    return tuple(sorted(found, key=lambda batches: batches.rows))
