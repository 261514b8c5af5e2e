"""Result: what a scoring run did; a value."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from tritonbulk.bottleneck import Bottleneck
from tritonbulk.job.manifest import Manifest, StoredPart
from tritonbulk.job.spec import JobFile
from tritonbulk.profile import Profile
from tritonbulk.shards import Shard


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
        job_rows: rows of the job, those of earlier runs included; of an increment, its own alone;
            of a shard, those of its own parts, as in the next three.
        job_rows_failed: of these, rows with an error.
        segments: parts that this run made.
        segments_before: parts of the job that stood there when it began.
        bottleneck: the stage that bounded the rate, and the figures that say so; None if there was
            nothing to do.
        profile: the measured choice that pinned batch rows and window; None if none did.
        report: where the run's report is, an HTML file; "" if there is none.
        shard: which part of the job this was; None for all of it. The job is finished by
            ``tritonbulk commit``.
        output_rows: ``job_rows``, and the rows of the finished jobs beside it in the output.
        output_rows_failed: of these, rows with an error.
        output_parts: parts that hold them.
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
    shard: Shard | None = None
    output_rows: int = 0
    output_rows_failed: int = 0
    output_parts: int = 0


@dataclass(frozen=True, slots=True)
class PartCounts:
    """What parts hold together.

    Attributes:
        parts: how many.
        rows: in them.
        rows_failed: of these, rows with an error.
    """

    parts: int
    rows: int
    rows_failed: int


def counts_of_manifest(manifest: Manifest) -> PartCounts:
    """Return what the parts of a finished job hold."""
    return PartCounts(len(manifest.parts), manifest.rows, manifest.rows_failed)


def counts_of_parts(parts: Collection[StoredPart]) -> PartCounts:
    """Return what some parts hold."""
    statements = [part.statement for part in parts]
    rows, failed = (sum(getattr(s, n) for s in statements) for n in ("rows", "rows_failed"))
    return PartCounts(len(parts), rows, failed)


def standing_result(
    output: str, file: JobFile, counts: PartCounts, seconds: float, cpu_s: float, before: int
) -> ScoreResult:
    """Return the result of a run as if it had had nothing to do.

    Args:
        output: names the store.
        file: what the job is.
        counts: what its parts hold, or those that are the run's.
        seconds: that the run took.
        cpu_s: CPU seconds of this process over the same span.
        before: parts that stood there when it began.
    """
    return ScoreResult(
        rows_in=0,
        rows_scored=0,
        rows_ok=0,
        rows_failed=0,
        seconds=round(seconds, 6),
        rows_per_second=0.0,
        cpu_seconds_client=round(cpu_s, 6),
        requests=0,
        batch_rows=file.spec["batch_rows"],
        in_flight_max=0,
        model=file.spec["model"]["name"],
        model_version=file.spec["model"]["version"],
        endpoints=(),
        transport="",
        output=output,
        rows_filtered=0,
        job=file.fingerprint,
        job_rows=counts.rows,
        job_rows_failed=counts.rows_failed,
        segments=counts.parts - before,
        segments_before=before,
        bottleneck=None,
        profile=None,
        output_rows=counts.rows,
        output_rows_failed=counts.rows_failed,
        output_parts=counts.parts,
    )


def beside(result: ScoreResult, manifests: Iterable[Manifest]) -> ScoreResult:
    """Return a result that counts the finished jobs of its output as well, if it is in none."""
    others = [each for each in manifests if each.fingerprint != result.job]
    return replace(
        result,
        output_rows=result.output_rows + sum(each.rows for each in others),
        output_rows_failed=result.output_rows_failed + sum(each.rows_failed for each in others),
        output_parts=result.output_parts + sum(len(each.parts) for each in others),
    )


def together(first: ScoreResult, more: ScoreResult) -> ScoreResult:
    """Return what two jobs of one output did, the second of which came after the first."""
    is_one_job = more.job == first.job  # there was nothing after it
    seconds = first.seconds + more.seconds
    scored = first.rows_scored + more.rows_scored
    return replace(
        more,
        rows_in=first.rows_in + more.rows_in,
        rows_scored=scored,
        rows_ok=first.rows_ok + more.rows_ok,
        rows_failed=first.rows_failed + more.rows_failed,
        seconds=seconds,
        rows_per_second=round(scored / seconds, 1) if seconds else 0.0,
        cpu_seconds_client=first.cpu_seconds_client + more.cpu_seconds_client,
        requests=first.requests + more.requests,
        in_flight_max=max(first.in_flight_max, more.in_flight_max),
        endpoints=more.endpoints or first.endpoints,
        transport=more.transport or first.transport,
        rows_filtered=first.rows_filtered + more.rows_filtered,
        job_rows=more.job_rows + (0 if is_one_job else first.job_rows),
        job_rows_failed=more.job_rows_failed + (0 if is_one_job else first.job_rows_failed),
        segments=first.segments + more.segments,
        segments_before=first.segments_before,
        bottleneck=more.bottleneck or first.bottleneck,
    )
