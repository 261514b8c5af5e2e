"""Sinks to publish to, each read back by something else than tritonbulk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.sinks import postgres
from tritonbulk.sinks.base import Sink
from tritonbulk.sinks.opening import open_sink

KINDS = ("duckdb", "postgresql", "delta", "iceberg", "lance")
PACKAGES = {
    "duckdb": "duckdb",
    "postgresql": "adbc_driver_postgresql",
    "delta": "deltalake",
    "iceberg": "pyiceberg",
    "lance": "lance",
}


@dataclass(frozen=True)
class Place:
    """A sink that nothing was published to yet.

    Attributes:
        kind: one of `KINDS`.
        to: as ``--to`` takes it.
        table: as ``--table`` takes it.
        read: returns all of its rows, in no order; none where there is no table.
    """

    kind: str
    to: str
    table: str | None
    read: Callable[[], pa.Table]

    def open(self, **more: Any) -> Sink:
        return open_sink(self.to, self.table, **more)

    def words(self, out: Path, *more: str) -> tuple[str, ...]:
        """Return the command line that publishes to it."""
        table = () if self.table is None else ("--table", self.table)
        return ("publish", str(out), "--to", self.to, *table, *more)

    def rows(self) -> list[dict[str, Any]]:
        """Return its rows by id, without errors' texts."""
        found = self.read().to_pylist()
        for row in found:
            row.pop("_tritonbulk_error", None)
        return sorted(found, key=lambda row: row["id"])


def make(kind: str, folder: Path, uri: str = "") -> Place:
    """Return a new place of a kind.

    Args:
        kind: one of `KINDS`.
        folder: for its files, of a name of its own.
        uri: of a PostgreSQL server, for the kind that needs one.
    """
    table = f"main.{folder.name}" if kind == "iceberg" else folder.name
    table = table.replace("-", "_")
    if kind == "duckdb":
        return Place(kind, f"duckdb:{folder}/rows.duckdb", table, lambda: _duckdb(folder, table))
    if kind == "postgresql":
        return Place(kind, uri, table, lambda: postgresql(uri, f'SELECT * FROM "{table}"'))
    if kind == "delta":
        return Place(kind, f"delta:{folder}/delta", None, lambda: _delta(folder / "delta"))
    if kind == "lance":
        return Place(kind, f"lance:{folder}/db/t.lance", None, lambda: _lance(folder / "db"))
    return Place(kind, "iceberg:test", table, lambda: _iceberg(table))


def iceberg_environment(folder: Path) -> dict[str, str]:
    """Return what names the catalog ``test``; pyiceberg reads it once a process."""
    return {
        "PYICEBERG_CATALOG__TEST__TYPE": "sql",
        "PYICEBERG_CATALOG__TEST__URI": f"sqlite:///{folder}/catalog.db",
        "PYICEBERG_CATALOG__TEST__WAREHOUSE": f"file://{folder}/warehouse",
    }


def missing(kind: str) -> str:
    """Return why a kind cannot be tested here, "" if it can."""
    if find_spec(PACKAGES[kind]) is None:
        return f"{PACKAGES[kind]} is not installed; make test-sinks"
    if kind == "postgresql" and postgres.programs() is None:
        return "PostgreSQL is not installed (Debian, Ubuntu: apt install postgresql)"
    return ""


def postgresql(uri: str, query: str) -> pa.Table:
    """Return what a query gives; none where a table is missing."""
    import adbc_driver_postgresql.dbapi as driver  # noqa: PLC0415

    with driver.connect(uri) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(query)
            return cursor.fetch_arrow_table()
        except driver.ProgrammingError:
            return pa.table({"id": []})


def _duckdb(folder: Path, table: str) -> pa.Table:
    import duckdb  # noqa: PLC0415

    with duckdb.connect(str(folder / "rows.duckdb")) as connection:
        try:
            return connection.sql(f'SELECT * FROM "{table}"').to_arrow_table()
        except duckdb.CatalogException:
            return pa.table({"id": []})


def _delta(path: Path) -> pa.Table:
    from deltalake import DeltaTable  # noqa: PLC0415
    from deltalake.exceptions import TableNotFoundError  # noqa: PLC0415

    try:
        return DeltaTable(str(path)).to_pyarrow_table()
    except TableNotFoundError:
        return pa.table({"id": []})


def _iceberg(table: str) -> pa.Table:
    from pyiceberg.catalog import load_catalog  # noqa: PLC0415
    from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415

    try:
        return load_catalog("test").load_table(table).scan().to_arrow()
    except NoSuchTableError:
        return pa.table({"id": []})


def _lance(path: Path) -> pa.Table:
    # LanceDB where it is, since its users read through it.
    if find_spec("lancedb") is None:
        import lance  # noqa: PLC0415

        return lance.dataset(str(path / "t.lance")).to_table()
    import lancedb  # noqa: PLC0415

    try:
        return lancedb.connect(str(path)).open_table("t").to_arrow()
    except ValueError:  # there is none
        return pa.table({"id": []})
