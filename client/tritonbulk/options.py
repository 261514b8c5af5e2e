"""What a scoring run was asked to do: frozen, checked values with their units and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from tritonbulk.errors import OptionError
from tritonbulk.lineage import DataInterval
from tritonbulk.places import check_report, check_single_file
from tritonbulk.redaction import hide_in_uri
from tritonbulk.scorer_options import (
    COUNT_MAX,
    ScorerOptions,
    check_counts,
    check_names,
    check_seconds,
)
from tritonbulk.shards import Shard

if TYPE_CHECKING:
    import pyarrow.compute as pc

Format = Literal["parquet", "csv", "jsonl", "arrow"]
"""Input formats by the names that ``--format`` takes."""

SEGMENT_ROWS = 65_536
"""Most rows of a segment by default: enough for cheap reading and writing, few enough to hold."""

STOP_GRACE_S = 20.0
"""Default of ``--stop-grace``; process managers commonly kill after 30 s."""


OutFormat = Literal["parquet", "arrow"]
"""File formats of parts by the names that ``--out-format`` takes; also their extensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions(ScorerOptions):
    """One scoring run: of files, into an output. What `ScorerOptions` has is not repeated here.

    Attributes:
        inputs: files, folders, patterns (``*``, ``**``, ``?``, ``[…]``) or URIs of these, in output
            order.
        out: output folder, made if missing, or the URI of a prefix of an object store.
        input_format: of all input files; None tells it by their extensions.
        untrusted: read the input files, which are local, in a process with limits.
        columns: input columns to look at (names or patterns); None looks at all.
        where: keeps the rows where it is true: the text of a filter, or a pyarrow expression; None
            keeps all.
        out_format: of the parts.
        segment_rows: rows a part, before ``where``; None takes `SEGMENT_ROWS`, or fewer of wide
            rows (see `dispatch.limits`).
        limit_rows: take on only the first so many rows, before ``where``; None takes on all.
        fresh: refuse an output that holds anything; else an unfinished job there is continued.
        only_new: score those inputs alone that the finished jobs in the output do not hold.
        strict_inputs: tell inputs apart by all of their bytes, not by time and ends.
        single_writer: look before each put, for object stores that cannot create only.
        stop_grace_s: seconds that a run which was asked to stop goes on with the segments that it
            has read.
        single_file: local file to write all rows to once the job is finished; its extension
            (.csv, .jsonl, .parquet) tells the format; None writes none.
        to: sink to publish to once the job is finished, see ``docs/sinks.md``; None: none.
        table: its table, for sinks that have many.
        report: local file for the run's report (HTML), which replaces what stands there; None
            leaves it beside the job alone.
        csv_guard: whether a single .csv file's column names and errors are guarded against being
            taken for formulas.
        shard: which share of the segments to score; None scores all, and finishes the job.
        load_model: have the servers at ``endpoints`` load the model first.
        unload_model: have them unload it at the end, whatever ends the run.
        data_interval: the period that the rows are about; None says nothing.
        max_age_s: how long ago any input may have changed when the job begins; None: any time.
    """

    inputs: tuple[str, ...]
    out: Path | str
    input_format: Format | None = None
    untrusted: bool = False
    columns: tuple[str, ...] | None = None
    where: str | pc.Expression | None = None
    out_format: OutFormat = "parquet"
    segment_rows: int | None = None
    limit_rows: int | None = None
    fresh: bool = False
    only_new: bool = False
    strict_inputs: bool = False
    single_writer: bool = False
    stop_grace_s: float = STOP_GRACE_S
    single_file: Path | None = None
    to: str | None = None
    table: str | None = None
    report: Path | None = None
    csv_guard: bool = True
    shard: Shard | None = None
    load_model: bool = False
    unload_model: bool = False
    data_interval: DataInterval | None = None
    max_age_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            OptionError: names the option, its value and what it may be; a retry does not help.
        """
        for uri in (*self.inputs, str(self.out)):
            hide_in_uri(uri)
        ScorerOptions.__post_init__(self)  # super() does not know a class with slots
        if not self.inputs:
            raise OptionError("no input was given; name at least one file")
        if self.columns == ():
            raise OptionError("--columns names no column; name those that the model needs")
        check_counts(
            ("--segment-rows", self.segment_rows, COUNT_MAX),
            ("--limit", self.limit_rows, COUNT_MAX),
        )
        check_seconds("--stop-grace", self.stop_grace_s)
        check_names(
            ("--format", self.input_format or "parquet", get_args(Format)),
            ("--out-format", self.out_format, get_args(OutFormat)),
        )
        self._check_model_control()
        self._check_output()
        self._check_shard()
        self._check_sink()
        self._check_places()

    def _check_model_control(self) -> None:
        if (self.load_model or self.unload_model) and not self.endpoints:
            raise OptionError(
                "--load-model and --unload-model are for servers at --endpoint; the embedded one "
                "loads its model and ends by itself"
            )

    def _check_output(self) -> None:
        if self.only_new and (self.fresh or self.limit_rows is not None):
            raise OptionError(
                "--only-new adds whole files to a finished job; leave --fresh and --limit out"
            )
        if not str(self.out).strip():
            raise OptionError("--out is empty; give a folder or a URI such as s3://bucket/prefix")

    def _check_places(self) -> None:
        if self.single_file is not None:
            check_single_file(self.single_file, self.out, self.inputs)
        if self.report is not None:
            check_report(self.report, self.out)

    def _check_shard(self) -> None:
        if self.shard is not None and self.fresh:
            raise OptionError(
                "--fresh would refuse what other shards have begun; leave it out, or give an empty "
                "--out"
            )
        if self.shard is not None and self.single_file is not None:
            raise OptionError(
                f"--single-file is written once all shards are done: tritonbulk commit {self.out} "
                f"--single-file {self.single_file}"
            )
        if self.shard is not None and self.to is not None:
            raise OptionError(
                "--to comes once all shards are done: tritonbulk commit, then tritonbulk publish"
            )

    def _check_sink(self) -> None:
        if self.table is not None and self.to is None:
            raise OptionError("--table is the sink's; give --to as well")

    @property
    def written(self) -> tuple[Path | str, ...]:
        """Where this run writes; what is read from there would be its own."""
        files = (self.single_file, self.report)
        return (self.out, *(file for file in files if file is not None))
