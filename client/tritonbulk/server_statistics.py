"""What servers counted for one model over a span, from Triton's statistics extension. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritonclient.grpc import service_pb2


@dataclass(frozen=True, slots=True)
class ServerSeconds:
    """What the servers counted meanwhile, those of other clients included.

    Attributes:
        requests: answered with success.
        executions: batches that the model executed; the server may join requests.
        rows: in these.
        queue_s: sum over the requests of the time that each waited for an instance.
        compute_s: sum over the requests of the rest of their time in the server.
        executing_s: sum over the instances of the time that each was busy; 0 if not told.
        instances: of the model, on all servers that tell; 0 if not told.
    """

    requests: int
    executions: int
    rows: int
    queue_s: float
    compute_s: float
    executing_s: float
    instances: int


def server_seconds(
    before: service_pb2.ModelStatistics | None,
    after: service_pb2.ModelStatistics | None,
    instances: int,
) -> ServerSeconds | None:
    """Return what happened between two readings of one server.

    None if either reading is missing or nothing was executed in between. Triton adds a batch's
    full compute time to every request in it, so the sums are what requests experienced; only its
    ``batch_stats`` count a batch once, which gives the time that instances were busy.
    """
    if before is None or after is None:
        return None
    executions = after.execution_count - before.execution_count
    was, now = before.inference_stats, after.inference_stats
    requests = now.success.count - was.success.count
    if executions <= 0 or requests <= 0:
        return None
    queue_s = (now.queue.ns - was.queue.ns) / 1e9
    return ServerSeconds(
        requests=requests,
        executions=executions,
        rows=after.inference_count - before.inference_count,
        queue_s=queue_s,
        # Not the sum of its parts, since an ensemble has none of its own.
        compute_s=max((now.success.ns - was.success.ns) / 1e9 - queue_s, 0.0),
        executing_s=max(_executing_s(after) - _executing_s(before), 0.0),
        instances=instances,
    )


def total_seconds(
    before: Sequence[service_pb2.ModelStatistics | None],
    after: Sequence[service_pb2.ModelStatistics | None],
    instances: int,
) -> ServerSeconds | None:
    """Return the sum over the servers that tell; None if none does.

    Args:
        before: a reading of each server.
        after: a later one, in the same order.
        instances: of the model, on each; 0 if not told.
    """
    told = [
        seconds
        for was, now in zip(before, after, strict=True)
        if (seconds := server_seconds(was, now, instances)) is not None
    ]
    if not told:
        return None
    return ServerSeconds(
        requests=sum(each.requests for each in told),
        executions=sum(each.executions for each in told),
        rows=sum(each.rows for each in told),
        queue_s=sum(each.queue_s for each in told),
        compute_s=sum(each.compute_s for each in told),
        executing_s=sum(each.executing_s for each in told),
        instances=sum(each.instances for each in told),
    )


def _executing_s(statistics: service_pb2.ModelStatistics) -> float:
    spans = (
        span
        for size in statistics.batch_stats
        for span in (size.compute_input, size.compute_infer, size.compute_output)
    )
    return sum(span.ns for span in spans) / 1e9
