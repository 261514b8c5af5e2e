"""Delta Lake: files put first, then one commit that adds them with an application transaction.

Its id is the job's: of two runs that commit for the same job the format lets one pass.
Files have names of their job and part, so what a crash leaves is taken by the next run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tritonbulk.errors import OutputError, PlatformError, SinkError
from tritonbulk.job.protocol import Put
from tritonbulk.job.stores.object import is_endpoint_plain
from tritonbulk.job.stores.opening import open_store
from tritonbulk.sinks import lake
from tritonbulk.sinks.base import RECORD, Portion, PublishedPart, RivalError, check_turn
from tritonbulk.sinks.columns import fit, is_written_as
from tritonbulk.sinks.sql import first_line

_RULES = ("delta.invariants", "delta.generationExpression", "delta.identity.")
"""Beginnings of the names of what a column demands; `_CONSTRAINTS` of what a table does."""

_CONSTRAINTS = "delta.constraints."


class DeltaSink:
    """A Delta table; see `tritonbulk.sinks.base.Sink` for the methods.

    Args:
        place: folder or URI of the table.
        in_place: refer to the parts where they stand, which is the table's own place.

    Raises:
        PlatformError: deltalake is not installed.
    """

    def __init__(self, place: str, *, in_place: bool = False) -> None:
        try:
            import deltalake  # noqa: PLC0415  optional
            import deltalake.exceptions  # noqa: PLC0415
            import deltalake.transaction  # noqa: PLC0415
        except ImportError:
            raise PlatformError(
                "publishing to Delta Lake needs its package; pip install 'tritonbulk[delta]'"
            ) from None
        self._delta: Any = deltalake
        self._store = open_store(place)
        self._place, self._in_place = place, in_place
        self._options = {"allow_http": "true"} if is_endpoint_plain() else None
        self.name = f"Delta table {self._store.name}"

    def prepare(self, schema: pa.Schema) -> None:
        """See `Sink.prepare`."""
        fitted = fit(schema, lake.rule, "Delta Lake")
        if self._in_place and not is_written_as(schema, fitted):
            raise OutputError(f"{self.name} cannot hold the parts' types; leave --in-place out")
        exceptions = self._delta.exceptions
        try:
            self._delta.DeltaTable.create(
                self._place,
                self._delta.Schema.from_arrow(fitted),
                mode="ignore",
                storage_options=self._options,
            )
            table = self._table()
        except (exceptions.DeltaError, OSError) as error:
            raise self._failed(error) from error
        about, there = table.metadata(), pa.schema(table.schema().to_arrow())
        if about.partition_columns:
            raise OutputError(f"{self.name} is partitioned, and parts are not; give another table")
        if rule := _first_rule(about.configuration, there):
            raise OutputError(
                f"{self.name} has {rule}, which nothing checks in files that are added; give "
                "another table, and add its rows to this one with your engine"
            )
        lake.check_columns(there, fitted, self.name)

    def published(self, job: str) -> int | None:
        """See `Sink.published`."""
        try:
            at: int | None = self._table().transaction_version(_app_id(job))
        except (self._delta.exceptions.DeltaError, OSError) as error:
            raise self._failed(error) from error
        return at

    def append(self, portion: Portion) -> None:
        """See `Sink.append`."""
        delta, exceptions = self._delta, self._delta.exceptions
        try:
            table = self._table()
            app_id = _app_id(portion.job)
            check_turn(table.transaction_version(app_id), portion, self.name)
            actions = [self._added(portion, part) for part in portion.parts if part.rows]
            table.create_write_transaction(
                actions,
                "append",
                table.schema(),
                commit_properties=delta.CommitProperties(
                    custom_metadata={RECORD: portion.job},
                    app_transactions=[delta.Transaction(app_id, portion.end)],
                ),
            )
        except exceptions.CommitFailedError as error:
            raise RivalError(f"another run has changed {self.name} meanwhile; run again") from error
        except (exceptions.DeltaError, OSError) as error:
            raise self._failed(error) from error

    def _added(self, portion: Portion, part: PublishedPart) -> Any:
        """Make a part's file stand in the table, and return the action that adds it."""
        if self._in_place:
            if part.location != self._own_location(part.name):
                raise OutputError("--in-place needs the output itself as the place of the table")
            name, size = part.name, len(part.read())
        else:
            name = lake.file_name(portion, part)
            data = lake.file_bytes(part, portion.schema, fit(portion.schema, lake.rule, self.name))
            size = len(data)
            if self._store.create(name, data) is not Put.CREATED:
                if (there := self._store.read(name)) is None:
                    raise SinkError(f"{self._store.name}/{name} was not written; run again")
                if there != data:
                    raise OutputError(
                        f"{self._store.name}/{name} is not what this job gives; remove it"
                    )
        stats = json.dumps({"numRecords": part.rows})
        return self._delta.transaction.AddAction(name, size, {}, 0, True, stats)

    def _own_location(self, name: str) -> str:
        place = self._store.name
        return f"{place if '://' in place else Path(place).absolute()}/{name}"

    def _table(self) -> Any:
        return self._delta.DeltaTable(self._place, storage_options=self._options)

    def _failed(self, error: Exception) -> SinkError:
        return SinkError(f"{self.name} failed ({first_line(error)}); check it, then run again")


def _first_rule(configuration: Mapping[str, Any], columns: pa.Schema) -> str | None:
    """Return the first thing that a table demands of its rows; None: any will do."""
    for name in configuration:
        if name.startswith(_CONSTRAINTS):
            return str(name)
    for field in columns:
        for name in map(bytes.decode, field.metadata or {}):
            if name.startswith(_RULES):
                return f"{name} of column {field.name!r}"
    return None


def _app_id(job: str) -> str:
    return f"tritonbulk {job}"
