"""Job run: what a run's output depends on, which segments are missing, how one is committed.

Between the job, which knows bytes and stores, and the run, which knows source, model and plan.
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from tritonbulk.codec import Predictions
from tritonbulk.contract import tensors_to_plain
from tritonbulk.errors import ChangedError
from tritonbulk.job.commit import OpenJob
from tritonbulk.job.fingerprint import fingerprint
from tritonbulk.job.manifest import StoredPart
from tritonbulk.job.protocol import OWN_FOLDER, Standing, StandingJob, inputs_to_score, joins
from tritonbulk.job.spec import Follows, InputIdentity, JobFile, JobSpec, ModelIdentity
from tritonbulk.job.statement import PART_KEY, PartStatement
from tritonbulk.job.stores.base import Store
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.lineage import check_fresh
from tritonbulk.modelfiles import ModelFiles
from tritonbulk.options import OutFormat, ScoreOptions
from tritonbulk.part import encode_part, output_schema, part_table, schema_as_read, scored_rows
from tritonbulk.plan import Plan
from tritonbulk.segments import Segment
from tritonbulk.source import Source
from tritonbulk.source.identity import Stamp, check_unchanged, identify, stamp
from tritonbulk.transport import ServedModel

_ENCODINGS: Mapping[OutFormat, str] = {"parquet": "parquet-1", "arrow": "arrow-1"}
"""How rows become bytes; another number where the same rows would be read differently."""

_VALUE_OPTIONS = (
    "model",
    "model_version",
    "repository",
    "input_map",
    "input_format",
    "columns",
    "where",
    "keep",
    "rename",
    "out_format",
    "vectors",
    "nan",
    "batch_rows_pinned",
    "segment_rows",
    "limit_rows",
    "cpu",
    "status_columns",
    "data_interval",
)


@dataclass(frozen=True, slots=True)
class JobInputs:
    """The input files of one job.

    Attributes:
        source: of them alone.
        identities: of each, for the job's fingerprint.
        stamps: of each, to see that it does not change while the job runs.
        follows: what an increment follows; None for the first job.
        newer: files beside them that are in no job yet, and wait for the next increment.
    """

    source: Source
    identities: tuple[InputIdentity, ...]
    stamps: tuple[Stamp, ...]
    follows: Follows | None
    newer: int = 0


def job_inputs(source: Source, options: ScoreOptions, standing: Standing) -> JobInputs | None:
    """Return the inputs of the job to run; None if ``only_new`` finds no new file.

    Raises:
        SourceError: a file cannot be read, or has gone; a retry may help.
        OutputError: with ``only_new`` a file that was scored has changed; no retry.
    """
    stamps = tuple(stamp(file, is_strict=options.strict_inputs) for file in source.files)
    identities = identify(source.files, source.file_rows, is_strict=options.strict_inputs)
    if not options.only_new:
        return JobInputs(source, identities, stamps, None)
    chosen, follows = inputs_to_score(standing, identities)
    if not chosen:
        return None
    positions = [identities.index(each) for each in chosen]
    restricted = replace(
        source,
        files=tuple(source.files[at] for at in positions),
        file_rows=tuple(source.file_rows[at] for at in positions),
    )
    taken = {entry["name"] for job in standing.jobs for entry in job.file.spec["inputs"]}
    newer = sum(each.name not in taken for each in identities if each not in chosen)
    return JobInputs(restricted, chosen, tuple(stamps[at] for at in positions), follows, newer)


def asked_of(options: ScoreOptions, files: ModelFiles | None) -> str:
    """Return a digest of all that can change a job's values and is known before a server is.

    It covers the files of the model's entry. "" where there are none to look at (None): with
    servers at endpoints, which only they themselves can describe.
    """
    if files is None:
        return ""
    return fingerprint(
        {
            "release": version("tritonbulk"),
            "options": {name: str(getattr(options, name)) for name in _VALUE_OPTIONS},
            "entry": files.digests,
        }
    )


def finished_job(standing: Standing, inputs: JobInputs, asked: str) -> StandingJob | None:
    """Return the finished job that a run asks for, as far as that is known without a server."""
    plain = [asdict(each) for each in inputs.identities]
    for job in standing.jobs:
        if asked and job.manifest and job.file.asked == asked and job.file.spec["inputs"] == plain:
            return job
    return None


def schema_of_parts(options: ScoreOptions, schema: pa.Schema, plan: Plan) -> pa.Schema:
    """Return the schema with which parts are read, of a run over rows of ``schema``."""
    return schema_as_read(_output_schema(options, schema, plan), options.out_format, plan.keep)


def _output_schema(options: ScoreOptions, schema: pa.Schema, plan: Plan) -> pa.Schema:
    return output_schema(
        [schema.field(name) for name in plan.keep],
        plan.outputs,
        plan.names,
        options.vectors,
        has_status=options.status_columns,
    )


def make_spec(
    options: ScoreOptions,
    inputs: JobInputs,
    model: ServedModel,
    plan: Plan,
    segment_rows: int,
    files: ModelFiles | None = None,
) -> JobSpec:
    """Return what the output of a run depends on; ``files`` are the model's, where known."""
    schema = inputs.source.schema
    return JobSpec(
        inputs=inputs.identities,
        input_format=inputs.source.files[0].format,
        columns=tuple((name, str(schema.field(name).type)) for name in plan.columns),
        where=None if options.where is None else str(options.where).strip(),
        limit_rows=options.limit_rows,
        segment_rows=segment_rows,
        batch_rows=plan.batch_rows,
        model=ModelIdentity(
            model.name,
            model.version,
            model.contract.digest if model.contract else "",
            model.config_digest,
            files.of_version(model.name, model.version) if files else "",
        ),
        tensors=tensors_to_plain(plan.inputs, plan.outputs),
        output=tuple(
            (field.name, str(field.type)) for field in _output_schema(options, schema, plan)
        ),
        encoding=_ENCODINGS[options.out_format],
        vectors=options.vectors,
        nan=options.nan,
        data_interval=options.data_interval.to_plain() if options.data_interval else None,
        follows=inputs.follows,
    )


def check_age(inputs: JobInputs, max_age_s: float) -> None:
    """Check that no input has last changed longer ago than so many seconds.

    Raises:
        StaleError: names those that have; a retry helps once they are renewed.
    """
    names = [file.name for file in inputs.source.files]
    changed_ns = [each.mtime_ns for each in inputs.stamps]
    check_fresh(names, changed_ns, int(datetime.now(UTC).timestamp() * 1e9), max_age_s)


def missing_segments(
    inputs: JobInputs,
    job: OpenJob,
    plan: Plan,
    segment_rows: int,
    limit_rows: int | None,
    counted: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[tuple[Segment, pa.RecordBatch]]:
    """Yield the segments that have no part yet, numbered as in the job; those of others are left.

    ``counted`` is told each input's position and its rows once nothing of it is left to read.

    Raises:
        SourceError: an input has changed since the run began, or cannot be read.
        InputError: a file is not what it claims to be; a retry does not help.
        StoppedError: nobody waits for the next one any more.
    """
    begin, before = job.file.segment_begin, dict(job.parts)
    done = _Done({segment - begin for segment in before}, job.others)

    def check(file_index: int, rows: int | None = None) -> None:
        check_unchanged(inputs.source.files[file_index], inputs.stamps[file_index])
        if rows is not None:
            counted(file_index, rows)

    for segment, rows in inputs.source.read(
        segment_rows, plan.columns, limit_rows, done, lambda: job.sleep(0), check
    ):
        # After reading: what was read is then what the fingerprint speaks of. A file that was left
        # behind is checked too, since what it holds numbers the segments of those after it.
        check(segment.file_index)
        numbered = replace(segment, index=begin + segment.index)
        if not joins(before, numbered):
            raise ChangedError(
                f"{inputs.source.files[segment.file_index].name}: the rows around row "
                f"{segment.row_begin} are not those that stand in the output; restore the inputs "
                "and run again, or score them into another --out"
            )
        yield numbered, rows


@dataclass(frozen=True, slots=True)
class _Done(Container[int]):
    """Segments that are not this run's to score: their parts stand there, or others care."""

    parts: Container[int]
    others: Container[int]

    def __contains__(self, segment: object) -> bool:
        return segment in self.parts or segment in self.others


def part_writer(
    job: OpenJob, keep: Sequence[str], *, has_status: bool = True
) -> Callable[[Segment, pa.RecordBatch, Predictions], Callable[[], StoredPart]]:
    """Return what makes the part of one complete segment, and in turn returns what commits it.

    See `OpenJob.commit` for the errors of the latter.
    """

    def write(
        segment: Segment, rows: pa.RecordBatch, predictions: Predictions
    ) -> Callable[[], StoredPart]:
        statement = PartStatement(
            fingerprint=job.file.fingerprint,
            segment=segment.index,
            input=segment.file_index,
            row_begin=segment.row_begin,
            row_end=segment.row_begin + segment.rows + segment.rows_filtered,
            rows=segment.rows,
            rows_failed=predictions.rows_failed,
            rows_filtered=segment.rows_filtered,
        )
        file = io.BytesIO()
        scored = scored_rows(
            rows.select(keep), predictions, job.file.spec["vectors"], has_status=has_status
        )
        table = part_table(scored, {PART_KEY: statement.to_text()})
        encode_part(table, file, job.file.out_format, keep)
        return partial(job.commit, statement, file.getvalue())

    return write


def write_empty(job: OpenJob, source: Source, plan: Plan, *, has_status: bool = True) -> None:
    """Commit one part without rows, so that whoever reads the output finds its columns."""
    kept = pa.schema([source.schema.field(name) for name in plan.keep])
    write = part_writer(job, plan.keep, has_status=has_status)
    commit = write(
        Segment(job.file.segment_begin, 0, 0, 0),
        pa.RecordBatch.from_pylist([], kept),
        Predictions(0, plan.outputs, plan.names),
    )
    commit()


def record_run(store: Store, figures: Mapping[str, Any] | None, report: bytes) -> str:
    """Leave the report of one run beside its job, and its figures if it has any.

    Nothing depends on them. Returns the report's name in the store.

    Raises:
        SinkError: they cannot be written; the job itself is finished.
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{OWN_FOLDER}/runs/{now}-{secrets.token_hex(4)}"
    if figures is not None:
        store.create(f"{name}.json", (json.dumps(figures, indent=1) + "\n").encode())
    store.create(f"{name}.html", report)
    if figures is not None:
        store.tidy()
    return f"{name}.html"


def scratch_job(folder: Path) -> OpenJob:
    """Return a job in an empty folder to measure with: commits are real, it is never finished."""
    store = LocalStore(folder)
    store.prepare()
    spec = {"follows": None, "encoding": _ENCODINGS["parquet"], "vectors": "list"}
    return OpenJob(store, JobFile(spec, "sha256:" + "0" * 64, ""), 0)
