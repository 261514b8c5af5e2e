"""Opening: what the user names as ``--to`` → its sink."""

from __future__ import annotations

from pathlib import Path

from tritonbulk.errors import OptionError
from tritonbulk.sinks.base import Sink
from tritonbulk.sinks.sql import parse_table

KINDS = (
    "postgresql://…",
    "duckdb:FILE",
    "delta:FOLDER|URI",
    "iceberg:CATALOG",
    "lance:FOLDER|URI",
)
"""What ``--to`` takes."""


def open_sink(to: str, table: str | None = None, *, in_place: bool = False) -> Sink:
    """Return the sink that ``to`` names; nothing is asked of it yet.

    Args:
        to: one of `KINDS`.
        table: its table, for those that have many.
        in_place: let the table refer to the parts where they stand (Delta Lake, Iceberg).

    Raises:
        OptionError: it names none, or an option is missing or has no meaning there.
        PlatformError: its package is not installed.
    """
    kind, _, place = to.partition(":")
    if kind not in ("postgresql", "postgres", "duckdb", "delta", "iceberg", "lance") or not place:
        raise OptionError(f"--to {kind}… is no sink; give {', '.join(KINDS)}")
    if in_place and kind not in ("delta", "iceberg"):
        raise OptionError("--in-place is for Delta Lake and Iceberg, whose tables refer to files")
    if kind in ("delta", "lance"):
        if table is not None:
            raise OptionError(f"--table has no meaning with {kind}:, whose place is one table")
        return _open_place(kind, place, in_place=in_place)
    name = parse_table(table)
    if kind == "duckdb":
        from tritonbulk.sinks.duckdb import DuckDBSink  # noqa: PLC0415

        return DuckDBSink(Path(place), name)
    if kind == "iceberg":
        from tritonbulk.sinks.iceberg import IcebergSink  # noqa: PLC0415

        return IcebergSink(place, str(name), in_place=in_place)
    from tritonbulk.sinks.postgresql import PostgreSQLSink  # noqa: PLC0415

    return PostgreSQLSink(to, name)


def _open_place(kind: str, place: str, *, in_place: bool) -> Sink:
    if kind == "delta":
        from tritonbulk.sinks.delta import DeltaSink  # noqa: PLC0415

        return DeltaSink(place, in_place=in_place)
    from tritonbulk.sinks.lance import LanceSink  # noqa: PLC0415

    return LanceSink(place)
