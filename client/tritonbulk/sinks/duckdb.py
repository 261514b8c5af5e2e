"""DuckDB: a table in a local database file; rows and record in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from tritonbulk.errors import OutputError, PlatformError, SinkError
from tritonbulk.sinks.base import Portion, check_turn, reading
from tritonbulk.sinks.columns import fit
from tritonbulk.sinks.sql import RECORD_COLUMNS, RECORD_TABLE, TableName, first_line

_UNUSABLE = ("IOException", "TransactionException", "FatalException", "InternalException")


class DuckDBSink:
    """A table of a DuckDB database; see `tritonbulk.sinks.base.Sink` for the methods.

    Args:
        file: of the database; made if it is missing.
        table: its name.

    Raises:
        PlatformError: duckdb is not installed.
    """

    def __init__(self, file: Path, table: TableName) -> None:
        try:
            import duckdb  # noqa: PLC0415  optional
        except ImportError:
            raise PlatformError(
                "publishing to DuckDB needs its package; pip install 'tritonbulk[duckdb]'"
            ) from None
        self._duckdb: Any = duckdb
        self._file, self._table = file, table
        self.name = f"{file} table {table}"

    def prepare(self, schema: pa.Schema) -> None:
        """See `Sink.prepare`."""
        fitted = fit(schema, _rule, "DuckDB")
        with self._transaction() as connection:
            connection.register("rows_of_parts", fitted.empty_table())
            _done(
                connection,
                f"CREATE TABLE IF NOT EXISTS {self._table.quoted} "
                "AS SELECT * FROM rows_of_parts LIMIT 0",
            )
            # Columns that the table lacks are told of here, before the first row.
            _done(connection, self._insert)
            _done(connection, f"CREATE TABLE IF NOT EXISTS {self._record} ({RECORD_COLUMNS})")

    def published(self, job: str) -> int | None:
        """See `Sink.published`."""
        with self._transaction() as connection:
            return self._at(connection, job)

    def append(self, portion: Portion) -> None:
        """See `Sink.append`."""
        fitted = fit(portion.schema, _rule, "DuckDB")
        with self._transaction() as connection, reading(portion, fitted) as rows:
            check_turn(self._at(connection, portion.job), portion, self.name)
            connection.register("rows_of_parts", rows)
            _done(connection, self._insert)
            _done(
                connection,
                f"INSERT OR REPLACE INTO {self._record} VALUES (?, ?, ?)",
                [self._target, portion.job, portion.end],
            )

    @property
    def _insert(self) -> str:
        return f"INSERT INTO {self._table.quoted} BY NAME SELECT * FROM rows_of_parts"

    @property
    def _record(self) -> str:
        return self._table.beside(RECORD_TABLE)

    @property
    def _target(self) -> str:
        """The table's name in the record of its schema, the same for all spellings of it.

        DuckDB ignores the case of ASCII letters alone.
        """
        return self._table.name.encode().lower().decode()

    def _at(self, connection: Any, job: str) -> int | None:
        found = _done(
            connection,
            f"SELECT segment_end FROM {self._record} WHERE target = ? AND job = ?",
            [self._target, job],
        )
        return int(found[0][0]) if found else None

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        try:
            with self._duckdb.connect(str(self._file)) as connection:
                _done(connection, "BEGIN")
                yield connection
                _done(connection, "COMMIT")
        except self._duckdb.Error as error:
            said = f"{self.name} refused ({first_line(error)})"
            if type(error).__name__ in _UNUSABLE:
                raise SinkError(f"{said}; another process may hold it: run again later") from error
            raise OutputError(f"{said}; give another --table, or mend this one") from error


def _done(connection: Any, statement: str, values: Sequence[Any] = ()) -> list[Any]:
    """Carry a statement out to its end, and return its rows."""
    rows: list[Any] = connection.execute(statement, list(values)).fetchall()
    return rows


def _rule(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_date64(kind):
        return pa.date32()
    return pa.string() if pa.types.is_null(kind) else kind
