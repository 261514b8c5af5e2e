"""Parts and tables in an object store: S3 as moto speaks it."""

import urllib.request

import pytest

from tests.sinks import jobs, places
from tritonbulk.job.stores.opening import open_store
from tritonbulk.sinks.opening import open_sink
from tritonbulk.sinks.publish import publish

pytestmark = pytest.mark.ci


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "canary-key",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    url = f"http://{host}:{port}/rows"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT")).close()
    yield f"s3://rows/{tmp_path.name}"  # moto keeps what it holds
    server.stop()


@pytest.fixture
def scored(bucket, tmp_path):
    """The output of a finished job in the store."""
    out = f"{bucket}/out"
    jobs.score(tmp_path, name=out)
    return out


@pytest.mark.parametrize("kind", ["delta", "lance", "duckdb"])
def test_rows_go_from_the_store_to_a_table_once(kind, scored, bucket, tmp_path):
    if why := places.missing(kind):
        pytest.skip(why)
    to = f"duckdb:{tmp_path}/d.duckdb" if kind == "duckdb" else f"{kind}:{bucket}/table.{kind}"
    table = "t" if kind == "duckdb" else None
    for _ in range(2):
        publish(open_store(scored), open_sink(to, table), parts_per_commit=6)
    assert read(kind, to.partition(":")[2], tmp_path) == jobs.rows()


def test_a_delta_table_of_the_parts_themselves(scored):
    if why := places.missing("delta"):
        pytest.skip(why)
    for _ in range(2):
        publish(open_store(scored), open_sink(f"delta:{scored}", in_place=True))
    assert read("delta", scored, None) == jobs.rows()
    assert sum(name.endswith(".parquet") for name in open_store(scored).names("")) == jobs.PARTS


def read(kind, place, folder):
    """Return the rows of a table by id, without errors' texts."""
    if kind == "delta":
        from deltalake import DeltaTable  # noqa: PLC0415

        table = DeltaTable(place, storage_options={"allow_http": "true"}).to_pyarrow_table()
    elif kind == "lance":
        import lance  # noqa: PLC0415

        table = lance.dataset(place, storage_options={"allow_http": "true"}).to_table()
    else:
        import duckdb  # noqa: PLC0415

        with duckdb.connect(str(folder / "d.duckdb")) as connection:
            table = connection.sql("SELECT * FROM t").to_arrow_table()
    rows = table.drop_columns("_tritonbulk_error").to_pylist()
    return sorted(rows, key=lambda row: row["id"])
