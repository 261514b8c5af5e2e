"""What tables of Delta Lake and Iceberg demand of rows, which files that are added do not obey."""

import pyarrow as pa
import pytest

from tests.sinks import jobs, places
from tritonbulk.errors import OutputError
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.sinks.opening import open_sink
from tritonbulk.sinks.publish import publish

FIELDS = {
    "id": pa.int64(),
    "x": pa.float32(),
    "name": pa.string(),
    "y": pa.float32(),
    "vector": pa.list_(pa.float32()),
    "_tritonbulk_status": pa.int32(),
    "_tritonbulk_error": pa.string(),
}
GENERATED = {b"delta.generationExpression": b"id * 2"}


def fields(**changed):
    return pa.schema([*{**{n: pa.field(n, k) for n, k in FIELDS.items()}, **changed}.values()])


@pytest.mark.skipif(bool(places.missing("delta")), reason="make test-sinks")
@pytest.mark.parametrize(
    ("schema", "constraints", "said"),
    [
        (fields(y=pa.field("y", pa.float32(), nullable=False)), {}, "column 'y' .*NULL"),
        (fields(day=pa.field("day", pa.date32(), nullable=False)), {}, "column 'day' .*NULL"),
        (
            fields(vector=pa.field("vector", pa.list_(pa.field("element", pa.float32(), False)))),
            {},
            "column 'vector' .*NULL",
        ),
        (fields(), {"small": "id < 10"}, "delta.constraints.small"),
        (fields(two=pa.field("two", pa.int64(), metadata=GENERATED)), {}, "generationExpression"),
    ],
)
def test_a_delta_table_with_rules_is_refused(out, tmp_path, schema, constraints, said):
    from deltalake import DeltaTable  # noqa: PLC0415

    place = str(tmp_path / "table")
    table = DeltaTable.create(place, schema)
    if constraints:
        table.alter.add_constraint(constraints)
    with pytest.raises(OutputError, match=said):
        publish(LocalStore(out), open_sink(f"delta:{place}"), sleep=lambda _: None)
    assert table.version() == DeltaTable(place).version()


@pytest.mark.skipif(bool(places.missing("delta")), reason="make test-sinks")
def test_a_delta_table_without_rules_may_have_more_columns(out, tmp_path):
    from deltalake import DeltaTable  # noqa: PLC0415

    place = str(tmp_path / "table")
    more = {"delta.appendOnly": "true"}
    tags = pa.map_(pa.string(), pa.string())
    DeltaTable.create(place, fields(tags=pa.field("tags", tags)), configuration=more)
    publish(LocalStore(out), open_sink(f"delta:{place}"), sleep=lambda _: None)
    assert DeltaTable(place).to_pyarrow_table().num_rows == jobs.ROWS


@pytest.mark.skipif(bool(places.missing("iceberg")), reason="make test-sinks")
def test_an_iceberg_table_with_a_required_column_is_refused(out):
    from pyiceberg.catalog import load_catalog  # noqa: PLC0415

    catalog = load_catalog("test")
    catalog.create_namespace_if_not_exists("main")
    catalog.create_table("main.demands", fields(y=pa.field("y", pa.float32(), nullable=False)))
    with pytest.raises(OutputError, match=r"column 'y' .*NULL"):
        open_sink("iceberg:test", "main.demands").prepare(pa.schema(FIELDS))
