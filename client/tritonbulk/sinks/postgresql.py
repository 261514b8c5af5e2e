"""PostgreSQL by ADBC: binary COPY and the record in one transaction.

Columns that the table has in other types (``vector`` of pgvector, ``double precision`` for a float)
go through a temporary table, from which PostgreSQL casts them as in any assignment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from tritonbulk.errors import OutputError, PlatformError, SinkError
from tritonbulk.redaction import hide_in_uri
from tritonbulk.sinks.base import Portion, check_turn, reading
from tritonbulk.sinks.columns import fit
from tritonbulk.sinks.sql import RECORD_COLUMNS, RECORD_TABLE, TableName, first_line, quote

_STAGING = "tritonbulk_rows"

_UNUSABLE = ("08", "25", "28", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that are no fault of the rows or of the table."""


class PostgreSQLSink:
    """A table of a PostgreSQL database; see `tritonbulk.sinks.base.Sink` for the methods.

    Args:
        uri: ``postgresql://…`` as libpq takes it, which also looks at ``PGPASSWORD`` and others.
        table: its name.

    Raises:
        PlatformError: the driver is not installed.
    """

    def __init__(self, uri: str, table: TableName) -> None:
        try:
            import adbc_driver_manager  # noqa: PLC0415  optional
            import adbc_driver_postgresql.dbapi as driver  # noqa: PLC0415
        except ImportError:
            raise PlatformError(
                "publishing to PostgreSQL needs its driver; pip install 'tritonbulk[postgresql]'"
            ) from None
        hide_in_uri(uri)
        parts = urlsplit(uri)
        self._error: Any = adbc_driver_manager.Error
        self._driver: Any = driver
        self._uri, self._table = uri, table
        place = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
        self.name = f"postgresql://{place} table {table}"

    def prepare(self, schema: pa.Schema) -> None:
        """See `Sink.prepare`."""
        fitted = fit(schema, _rule, "PostgreSQL through ADBC")
        with self._transaction() as cursor:
            _lock(cursor, "tritonbulk")  # the record is one for all tables of a schema
            staged = self._stage(cursor, fitted.empty_table())
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table.quoted} (LIKE pg_temp.{quote(_STAGING)})"
            )
            record = _found(cursor, self._table).beside(RECORD_TABLE)
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {record} ({RECORD_COLUMNS})")
            missing = staged.keys() - _types(cursor, self._table.quoted).keys()
            if missing:
                raise OutputError(
                    f"{self.name} has no column {min(missing)!r}; give another --table, or add it "
                    f"({staged[min(missing)]})"
                )
            # Whether its types can be assigned is told here, before the first row.
            cursor.execute(self._insert(fitted))
            _drop_staging(cursor)

    def published(self, job: str) -> int | None:
        """See `Sink.published`."""
        with self._transaction() as cursor:
            return _at(cursor, _found(cursor, self._table), job)

    def append(self, portion: Portion) -> None:
        """See `Sink.append`."""
        fitted = fit(portion.schema, _rule, "PostgreSQL through ADBC")
        with self._transaction() as cursor:
            table = _found(cursor, self._table)
            _lock(cursor, f"tritonbulk {table}")
            check_turn(_at(cursor, table, portion.job), portion, self.name)
            staged = self._stage(cursor, fitted.empty_table())
            target = _types(cursor, self._table.quoted)
            with reading(portion, fitted) as rows:
                if all(target.get(name) == kind for name, kind in staged.items()):
                    cursor.adbc_ingest(table.name, rows, mode="append", db_schema_name=table.schema)
                else:
                    cursor.adbc_ingest(_STAGING, rows, mode="append", temporary=True)
                    cursor.execute(self._insert(fitted))
            cursor.execute(
                f"INSERT INTO {table.beside(RECORD_TABLE)} VALUES ($1, $2, $3) "
                "ON CONFLICT (target, job) DO UPDATE SET segment_end = EXCLUDED.segment_end",
                (table.name, portion.job, portion.end),
            )
            _drop_staging(cursor)

    def _insert(self, fitted: pa.Schema) -> str:
        names = ", ".join(map(quote, fitted.names))
        return (
            f"INSERT INTO {self._table.quoted} ({names}) "
            f"SELECT {names} FROM pg_temp.{quote(_STAGING)}"
        )

    def _stage(self, cursor: Any, empty: pa.Table) -> dict[str, str]:
        """Make the temporary table, which the driver gives its types, and return these."""
        cursor.adbc_ingest(_STAGING, empty, mode="create", temporary=True)
        return _types(cursor, f"pg_temp.{quote(_STAGING)}")

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        try:
            with (
                closing(self._driver.connect(self._uri)) as connection,
                closing(connection.cursor()) as cursor,
            ):
                yield cursor
                connection.commit()
        except self._error as error:
            raise self._told(error) from None

    def _told(self, error: Any) -> OutputError | SinkError:
        state = error.sqlstate or ""
        said = f"{self.name} refused ({_cause(error)})"
        if not state or state.startswith(_UNUSABLE):
            return SinkError(f"{said}; check the server and the rights there, then run again")
        return OutputError(f"{said}; give another --table, or mend this one")


def _cause(error: Exception) -> str:
    """Return the server's sentence, which the driver puts after its own and the statement."""
    line = first_line(RuntimeError(str(error).rpartition("ERROR:")[2]))
    return line.strip() or first_line(error)


def _found(cursor: Any, table: TableName) -> TableName:
    """Return the name and the schema of a table as PostgreSQL has them, however it was spelled."""
    cursor.execute(
        "SELECT nspname::text, relname::text FROM pg_class JOIN pg_namespace "
        "ON pg_namespace.oid = relnamespace WHERE pg_class.oid = ($1::text)::regclass",
        (table.quoted,),
    )
    schema, name = cursor.fetchone()
    return TableName(name, schema)


def _at(cursor: Any, table: TableName, job: str) -> int | None:
    cursor.execute(
        f"SELECT segment_end FROM {table.beside(RECORD_TABLE)} WHERE target = $1 AND job = $2",
        (table.name, job),
    )
    found = cursor.fetchone()
    return None if found is None else int(found[0])


def _drop_staging(cursor: Any) -> None:
    """Drop the temporary table: a pooler may keep the session and give it to others."""
    cursor.execute(f"DROP TABLE pg_temp.{quote(_STAGING)}")


def _lock(cursor: Any, name: str) -> None:
    """Wait for other runs that hold this lock, and hold it till the end of the transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", (name,))
    cursor.fetchall()


def _types(cursor: Any, table: str) -> dict[str, str]:
    cursor.execute(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = ($1::text)::regclass AND attnum > 0 AND NOT attisdropped",
        (table,),
    )
    return dict(cursor.fetchall())


def _rule(kind: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if types.is_date64(kind):
        return pa.date32()
    if types.is_null(kind):
        return pa.string()
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)  # as fine as PostgreSQL counts
    if types.is_struct(kind) or types.is_map(kind):
        return None
    # The driver knows arrays of one dimension.
    is_nested = _is_list(kind) and (_is_list(kind.value_type) or types.is_struct(kind.value_type))
    return None if is_nested else kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
