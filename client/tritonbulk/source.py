"""Source: the input data set, read segment by segment in bounded memory.

Parquet files, local. A file is opened once; its rows stream in order, so that no more than about
one segment and one decoded batch of a row group are held here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tritonbulk.errors import InputError, SourceError
from tritonbulk.segments import Segment, plan_segments


@dataclass(frozen=True, slots=True)
class Source:
    """Input files with one common schema.

    Attributes:
        paths: the files, in output order.
        schema: of every file, column for column.
        file_rows: rows of each file.
    """

    paths: tuple[Path, ...]
    schema: pa.Schema
    file_rows: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(self.file_rows)

    def null_counts(self, columns: Sequence[str]) -> dict[str, int]:
        """Return the nulls of each column over all files, as far as their statistics tell.

        A column that has no statistics, or is no plain column, is left out.
        """
        totals = dict.fromkeys(columns, 0)
        for path in self.paths:
            with _open(path) as file:
                counts = _null_counts(file.metadata, totals)
            totals = {name: totals[name] + count for name, count in counts.items()}
        return totals

    def read(
        self, segment_rows: int, columns: Sequence[str], limit_rows: int | None = None
    ) -> Iterator[tuple[Segment, pa.RecordBatch]]:
        """Yield every segment with its rows (only ``columns``), in order.

        Raises:
            SourceError: reading failed, or a file has changed since it was opened.
        """
        segments = plan_segments(self.file_rows, segment_rows, limit_rows)
        for file_index, group in _by_file(segments):
            path = self.paths[file_index]
            try:
                yield from _read_file(path, group, columns)
            except (OSError, pa.ArrowException) as error:
                raise SourceError(f"reading {path} failed: {_line(error)}") from error


def open_source(inputs: Sequence[str]) -> Source:
    """Return the source made of ``inputs``, Parquet files whose schemas agree.

    Raises:
        InputError: a file is missing, unreadable or of another schema; a retry does not help.
    """
    paths = tuple(Path(name) for name in inputs)
    opened = [_open(path) for path in paths]
    schema = opened[0].schema_arrow
    for path, file in zip(paths, opened, strict=True):
        if not file.schema_arrow.equals(schema):
            raise InputError(
                f"{path} and {paths[0]} have different columns or types; "
                "score them in separate runs or give them one schema"
            )
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise InputError(f"{paths[0]} has two columns named {name!r}; rename one")
    rows = tuple(file.metadata.num_rows for file in opened)
    for file in opened:
        file.close()
    return Source(paths, schema.remove_metadata(), rows)


def _open(path: Path) -> pq.ParquetFile:
    if not path.exists():
        raise InputError(f"input file {path} does not exist; check the path")
    if path.is_dir():
        raise InputError(f"input {path} is a folder; name its files, for example {path}/*.parquet")
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"input file {path} cannot be read as Parquet ({_line(error)}); "
            "convert it or check that it is complete"
        ) from error


def _null_counts(metadata: pq.FileMetaData, columns: Iterable[str]) -> dict[str, int]:
    positions = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
    counts: dict[str, int] = {}
    for name in columns:
        if name not in positions:
            continue
        groups = [
            metadata.row_group(group).column(positions[name]).statistics
            for group in range(metadata.num_row_groups)
        ]
        if all(statistics is not None and statistics.has_null_count for statistics in groups):
            counts[name] = sum(statistics.null_count for statistics in groups)
    return counts


def _by_file(segments: Iterator[Segment]) -> Iterator[tuple[int, list[Segment]]]:
    group: list[Segment] = []
    for segment in segments:
        if group and group[0].file_index != segment.file_index:
            yield group[0].file_index, group
            group = []
        group.append(segment)
    if group:
        yield group[0].file_index, group


def _read_file(
    path: Path, segments: Sequence[Segment], columns: Sequence[str]
) -> Iterator[tuple[Segment, pa.RecordBatch]]:
    with pq.ParquetFile(path) as file:
        # Threads inside the reader would fight the server for the cores and gain nothing
        # measurable; reading ahead happens one level up.
        batches = file.iter_batches(segments[0].rows, columns=list(columns), use_threads=False)
        ready: list[pa.RecordBatch] = []
        for segment in segments:
            have = sum(batch.num_rows for batch in ready)
            while have < segment.rows:
                batch = next(batches, None)
                if batch is None:
                    raise SourceError(
                        f"{path} ends at row {segment.row_begin + have}, but had more rows when "
                        "the run began; do not change inputs while they are scored"
                    )
                ready.append(batch)
                have += batch.num_rows
            yield segment, _take(ready, segment.rows, columns)


def _take(ready: list[pa.RecordBatch], rows: int, columns: Sequence[str]) -> pa.RecordBatch:
    """Remove the first ``rows`` rows from ``ready`` and return them as one batch."""
    taken: list[pa.RecordBatch] = []
    while rows:
        batch = ready.pop(0)
        if batch.num_rows > rows:
            ready.insert(0, batch.slice(rows))
            batch = batch.slice(0, rows)
        taken.append(batch)
        rows -= batch.num_rows
    whole = taken[0] if len(taken) == 1 else pa.concat_batches(taken)
    return whole.select(list(columns))


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
