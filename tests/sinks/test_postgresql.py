"""What only PostgreSQL has: columns in other types, schemas, rights; nothing secret is told."""

import pytest

from tests.sinks import jobs, places
from tests.sinks.places import postgresql as query
from tritonbulk.errors import OutputError, SinkError
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.sinks.opening import open_sink
from tritonbulk.sinks.publish import publish

pytestmark = pytest.mark.skipif(bool(places.missing("postgresql")), reason="make test-sinks")

# What pgvector's ``vector`` is to this: a type of its own to which real[] is cast in assignments.
TYPE_OF_ITS_OWN = """
CREATE TYPE {0}_packed AS (numbers real[]);
CREATE FUNCTION {0}_pack(real[]) RETURNS {0}_packed LANGUAGE SQL AS 'SELECT ROW($1)::{0}_packed';
CREATE CAST (real[] AS {0}_packed) WITH FUNCTION {0}_pack(real[]) AS ASSIGNMENT;
CREATE TABLE "{0}" (id bigint PRIMARY KEY, x double precision, name text, y numeric,
  vector {0}_packed, _tritonbulk_status int, _tritonbulk_error text,
  added timestamptz DEFAULT now())
"""


def do(uri, statements):
    import adbc_driver_postgresql.dbapi as driver  # noqa: PLC0415

    with driver.connect(uri) as connection, connection.cursor() as cursor:
        for each in statements.split(";\n"):
            cursor.execute(each)
        connection.commit()


def test_columns_of_other_types_are_cast_by_the_server(out, postgresql, tmp_path):
    do(postgresql, TYPE_OF_ITS_OWN.format("cast_here"))
    sink = open_sink(postgresql, "cast_here")
    publish(LocalStore(out), sink, parts_per_commit=4)
    found = query(
        postgresql, "SELECT id, x, y::float8 AS y, (vector).numbers AS vector FROM cast_here "
        "WHERE added IS NOT NULL ORDER BY id",
    ).to_pylist()  # fmt: skip
    expected = [{name: row[name] for name in ("id", "x", "y", "vector")} for row in jobs.rows()]
    assert [each for each in found if each["id"] != jobs.FAILED_ROW] == [
        each for each in expected if each["id"] != jobs.FAILED_ROW
    ]
    assert len(found) == jobs.ROWS


def test_a_table_in_a_schema(out, postgresql):
    do(postgresql, 'CREATE SCHEMA "Odd schema"')
    publish(LocalStore(out), open_sink(postgresql, "Odd schema.odd;table"))
    found = query(postgresql, 'SELECT * FROM "Odd schema"."odd;table"')
    assert found.num_rows == jobs.ROWS
    (record,) = query(postgresql, 'SELECT * FROM "Odd schema"._tritonbulk_published').to_pylist()
    assert (record["target"], record["segment_end"]) == ("odd;table", jobs.PARTS)


def test_a_table_named_with_its_schema_is_the_one_named_without(out, postgresql):
    publish(LocalStore(out), open_sink(postgresql, "spelled"))
    done = publish(LocalStore(out), open_sink(postgresql, "public.spelled"))
    assert done.rows == 0
    assert query(postgresql, "SELECT id FROM spelled").num_rows == jobs.ROWS


def test_a_session_that_a_pooler_keeps_for_all_transactions(out, postgresql):
    import adbc_driver_postgresql.dbapi as driver  # noqa: PLC0415

    class Kept:
        """What PgBouncer gives: another transaction of the same session."""

        def __init__(self, connection):
            self.cursor, self.commit = connection.cursor, connection.commit
            self.close = connection.rollback

    sink = open_sink(postgresql, "pooled")
    with driver.connect(postgresql) as session:

        class Pooler:
            @staticmethod
            def connect(uri):
                return Kept(session)

        sink._driver = Pooler
        publish(LocalStore(out), sink, parts_per_commit=4, sleep=lambda _: None)
    assert query(postgresql, "SELECT id FROM pooled").num_rows == jobs.ROWS


def test_what_the_table_refuses_is_told_before_the_first_row(out, postgresql):
    do(postgresql, "CREATE TABLE refuses (id date)")
    with pytest.raises(OutputError, match="has no column"):
        publish(LocalStore(out), open_sink(postgresql, "refuses"))
    do(
        postgresql,
        "DROP TABLE refuses;\n" + TYPE_OF_ITS_OWN.format("refuses").replace("y numeric", "y date"),
    )
    with pytest.raises(OutputError, match='column "y" is of type date'):
        publish(LocalStore(out), open_sink(postgresql, "refuses"))


def test_a_row_that_a_constraint_refuses_publishes_none(out, postgresql):
    do(postgresql, TYPE_OF_ITS_OWN.format("keyed"))
    do(postgresql, "INSERT INTO keyed (id) VALUES (995)")
    with pytest.raises(OutputError, match="duplicate key"):
        publish(LocalStore(out), open_sink(postgresql, "keyed"))
    assert query(postgresql, "SELECT id FROM keyed").num_rows == 1


def test_a_server_that_is_not_there_and_no_password_in_what_is_told(out, tmp_path):
    sink = open_sink(f"postgresql://someone:hunter22@/db?host={tmp_path}", "t")
    said = []
    with pytest.raises(SinkError) as caught:
        publish(LocalStore(out), sink, say=said.append, sleep=lambda _: None)
    assert len(said) == 4
    assert "hunter22" not in f"{caught.value}{said}{sink.name}"
