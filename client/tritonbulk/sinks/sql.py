"""What the sinks that speak SQL have in common. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tritonbulk.errors import OptionError

RECORD_TABLE = "_tritonbulk_published"
"""Table beside the target that tells how far each job has come."""

RECORD_COLUMNS = (
    "target VARCHAR NOT NULL, job VARCHAR NOT NULL, segment_end BIGINT NOT NULL, "
    "PRIMARY KEY (target, job)"
)

_CAUSE_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class TableName:
    """Name of a table: ``name``, or ``schema.name``.

    Attributes:
        name: of the table.
        schema: that it is in; None: the default.
    """

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"

    @property
    def quoted(self) -> str:
        """The name as SQL."""
        return self.beside(self.name)

    def beside(self, name: str) -> str:
        """Return another table of the same schema as SQL."""
        return quote(name) if self.schema is None else f"{quote(self.schema)}.{quote(name)}"


def parse_table(text: str | None) -> TableName:
    """Return the name of a table as the user gave it.

    Raises:
        OptionError: it is none.
    """
    schema, _, name = (text or "").rpartition(".")
    if not name or "\0" in name or (text or "").startswith("."):
        raise OptionError("--to needs --table NAME or SCHEMA.NAME; say which table takes the rows")
    return TableName(name, schema or None)


def quote(name: str) -> str:
    """Return an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, cut."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line[:_CAUSE_CHARACTERS_MAX].rstrip(".")
