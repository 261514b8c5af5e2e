"""Iceberg: files put first, then one commit that adds them and notes how far the job has come.

The note is a property of the table, set in the commit of the snapshot: unlike snapshots it does not
expire. The snapshot's own properties name the job as well.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from tritonbulk.errors import OptionError, OutputError, PlatformError, SinkError, TritonbulkError
from tritonbulk.sinks import lake
from tritonbulk.sinks.base import RECORD, Portion, PublishedPart, RivalError, check_turn
from tritonbulk.sinks.columns import fit, is_written_as
from tritonbulk.sinks.sql import first_line


class IcebergSink:
    """An Iceberg table; see `tritonbulk.sinks.base.Sink` for the methods.

    Args:
        catalog: its name in pyiceberg's configuration (``.pyiceberg.yaml``, ``PYICEBERG_…``).
        table: ``namespace.name``.
        in_place: refer to the parts where they stand.

    Raises:
        PlatformError: pyiceberg is not installed.
        OptionError: the table's name has no namespace.
    """

    def __init__(self, catalog: str, table: str, *, in_place: bool = False) -> None:
        try:
            import pyiceberg.exceptions  # noqa: PLC0415  optional
            from pyiceberg.catalog import load_catalog  # noqa: PLC0415
        except ImportError:
            raise PlatformError(
                "publishing to Iceberg needs its package; pip install 'tritonbulk[iceberg]'"
            ) from None
        if "." not in table.strip("."):
            raise OptionError(f"--table {table} has no namespace; give NAMESPACE.NAME")
        self._exceptions: Any = pyiceberg.exceptions
        self._load_catalog: Any = load_catalog
        self._catalog, self._identifier, self._in_place = catalog, table, in_place
        self.name = f"Iceberg table {table} of catalog {catalog}"

    def prepare(self, schema: pa.Schema) -> None:
        """See `Sink.prepare`."""
        fitted = fit(schema, lake.rule, "Iceberg")
        if self._in_place and not is_written_as(schema, fitted):
            raise OutputError(f"{self.name} cannot hold the parts' types; leave --in-place out")
        with self._errors():
            table = self._made(fitted)
            if table.spec().fields:
                raise OutputError(
                    f"{self.name} is partitioned, and parts are not; give another table"
                )
            lake.check_columns(table.schema().as_arrow(), fitted, self.name)

    def _made(self, fitted: pa.Schema) -> Any:
        try:
            return self._table()
        except self._exceptions.NoSuchTableError:
            catalog = self._load_catalog(self._catalog)
            catalog.create_namespace_if_not_exists(self._identifier.rpartition(".")[0])
            return catalog.create_table_if_not_exists(self._identifier, fitted)

    def published(self, job: str) -> int | None:
        """See `Sink.published`."""
        with self._errors():
            return _at(self._table(), job)

    def append(self, portion: Portion) -> None:
        """See `Sink.append`."""
        with self._errors():
            table = self._table()
            check_turn(_at(table, portion.job), portion, self.name)
            files = [self._file(table, portion, part) for part in portion.parts if part.rows]
            # pyiceberg would repeat a commit that met a rival's, on top of what that one added.
            # This is the copy in memory: the table's own properties stay as they are.
            table.metadata.properties["commit.retry.num-retries"] = "0"
            with table.transaction() as transaction:
                transaction.set_properties({_key(portion.job): str(portion.end)})
                if files:
                    transaction.add_files(files, snapshot_properties={RECORD: portion.job})

    def _file(self, table: Any, portion: Portion, part: PublishedPart) -> str:
        """Make a part's file stand where the table can refer to it, and return where."""
        if self._in_place:
            return part.location
        # Not every place writes a file whole or not at all, so no two runs write the same one.
        name = lake.file_name(portion, part, secrets.token_hex(4))
        location = f"{table.location().rstrip('/')}/data/{name}"
        fitted = fit(portion.schema, lake.rule, "Iceberg")
        with table.io.new_output(location).create() as stream:
            stream.write(lake.file_bytes(part, portion.schema, fitted))
        return location

    def _table(self) -> Any:
        return self._load_catalog(self._catalog).load_table(self._identifier)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Tell apart what a retry helps; catalogs have errors of many packages."""
        try:
            yield
        except TritonbulkError:
            raise
        except self._exceptions.CommitFailedException as error:
            raise RivalError(f"another run has changed {self.name} meanwhile; run again") from error
        except (ValueError, self._exceptions.ValidationError) as error:
            raise OutputError(
                f"{self.name} refused ({first_line(error)}); give another --table, or check the "
                "catalog's configuration"
            ) from error
        except Exception as error:
            raise SinkError(
                f"{self.name} failed ({first_line(error)}); check the catalog, then run again"
            ) from error


def _at(table: Any, job: str) -> int | None:
    found = table.properties.get(_key(job))
    return None if found is None else int(found)


def _key(job: str) -> str:
    return f"{RECORD}.{job}"
