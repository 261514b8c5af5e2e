"""Trials → cells: medians, spreads, and what Triton counted meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tritonclient.grpc import service_pb2

from tritonbulk.bench.plan import Setting
from tritonbulk.server_statistics import server_seconds


@dataclass(frozen=True, slots=True)
class ServerSplit:
    """What Triton counted for one model over a span.

    Attributes:
        executed_batch_rows: mean rows of the batches that the model executed.
        queue_ms: mean time that a request waited for an instance.
        compute_ms: mean rest of a request's time in the server, copies of its tensors included.
    """

    executed_batch_rows: float
    queue_ms: float
    compute_ms: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One measured point.

    Attributes:
        setting: what was set.
        rows: rows scored and written.
        rows_failed: rows written with an error.
        seconds: from the first read to the last commit.
        cpu_seconds_client: user and system time of this process over the same span.
        in_flight_max: most requests in flight at one moment.
        server: what Triton counted; None if the server does not tell.
        transport: what carried the requests.
    """

    setting: Setting
    rows: int
    rows_failed: int
    seconds: float
    cpu_seconds_client: float
    in_flight_max: int
    server: ServerSplit | None
    transport: str

    @property
    def rows_per_second(self) -> float:
        """Rows a second, end to end."""
        return self.rows / self.seconds


@dataclass(frozen=True, slots=True)
class Cell:
    """All trials of one setting.

    Attributes:
        setting: the setting.
        rows_per_second: median over the trials.
        rows_per_second_min: slowest trial.
        rows_per_second_max: fastest trial.
        cpu_seconds_per_million_rows: of the client, median.
        server: medians of what Triton counted; None if the server does not tell.
    """

    setting: Setting
    rows_per_second: float
    rows_per_second_min: float
    rows_per_second_max: float
    cpu_seconds_per_million_rows: float
    server: ServerSplit | None


def summarize(trials: Sequence[Trial]) -> list[Cell]:
    """Return one cell a setting, in the order of settings; no trial is left out."""
    settings = sorted({trial.setting for trial in trials})
    return [_cell(setting, [t for t in trials if t.setting == setting]) for setting in settings]


def _cell(setting: Setting, trials: Sequence[Trial]) -> Cell:
    rates = [trial.rows_per_second for trial in trials]
    splits = [trial.server for trial in trials if trial.server is not None]
    return Cell(
        setting=setting,
        rows_per_second=median(rates),
        rows_per_second_min=min(rates),
        rows_per_second_max=max(rates),
        cpu_seconds_per_million_rows=median(
            t.cpu_seconds_client / max(t.rows, 1) * 1e6 for t in trials
        ),
        server=ServerSplit(
            median(split.executed_batch_rows for split in splits),
            median(split.queue_ms for split in splits),
            median(split.compute_ms for split in splits),
        )
        if splits
        else None,
    )


def server_split(
    before: service_pb2.ModelStatistics | None, after: service_pb2.ModelStatistics | None
) -> ServerSplit | None:
    """Return the means between two readings; None where `server_seconds` has nothing to say."""
    seconds = server_seconds(before, after, instances=0)
    if seconds is None:
        return None
    return ServerSplit(
        executed_batch_rows=seconds.rows / seconds.executions,
        queue_ms=seconds.queue_s / seconds.requests * 1e3,
        compute_ms=seconds.compute_s / seconds.requests * 1e3,
    )
