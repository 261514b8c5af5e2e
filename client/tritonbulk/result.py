"""Result: what a scoring run did; a value."""

from __future__ import annotations

from dataclasses import dataclass

from tritonbulk.bottleneck import Bottleneck
from tritonbulk.profile import Profile


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What a scoring run did; the fields of ``score --json``.

    Attributes:
        rows_in: input rows that were read.
        rows_scored: of these, rows that stand in the output, with a prediction or their error.
        rows_ok: of these, rows with a prediction.
        rows_failed: of these, rows with an error.
        seconds: wall time from parsed options to the last commit, without starting or stopping
            an embedded server.
        rows_per_second: ``rows_scored / seconds``.
        cpu_seconds_client: user and system time of this process over the same span.
        requests: requests sent, repeated attempts included.
        batch_rows: rows of a full request.
        in_flight_max: most requests in flight at one moment.
        model: the model's name.
        model_version: the version that answered.
        endpoints: addresses of the servers.
        transport: what carried the requests at the end: unary, stream or shm; joined by "+" where
            endpoints differ.
        output: the output folder.
        rows_filtered: rows that were read and that ``where`` removed:
            ``rows_in - rows_scored``.
        job: the job's fingerprint.
        job_rows: rows in its output, those of earlier runs included.
        job_rows_failed: of these, rows with an error.
        segments: parts that this run made.
        segments_before: parts that stood there when it began.
        bottleneck: the stage that bounded the rate, and the figures that say so; None if there was
            nothing to do.
        profile: the measured choice that pinned batch rows and window; None if none did.
        report: where the run's report is, an HTML file; "" if there is none.
    """

    rows_in: int
    rows_scored: int
    rows_ok: int
    rows_failed: int
    seconds: float
    rows_per_second: float
    cpu_seconds_client: float
    requests: int
    batch_rows: int
    in_flight_max: int
    model: str
    model_version: str
    endpoints: tuple[str, ...]
    transport: str
    output: str
    rows_filtered: int
    job: str
    job_rows: int
    job_rows_failed: int
    segments: int
    segments_before: int
    bottleneck: Bottleneck | None
    profile: Profile | None
    report: str = ""
