"""Spark, on this machine: the rows of `score`, workers that die included."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed: make test-engines runs it")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java 17: requirements/engines.sh installs it", allow_module_level=True)

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import (
    FloatType,
    IntegerType,
    StringType,
    StructField,
    StructType,
)

from tests.engines.dying import die_once
from tritonbulk import Scorer
from tritonbulk.engines.spark import batch_mapper, predict_batch_fn, score_dataframe, spark_schema

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def spark():
    session = (
        # A task may fail four times, as in a cluster.
        SparkSession.builder.master("local[2,4]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "1000")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def table_of(df):
    return df.toArrow().sort_by("id")


def test_map_in_arrow_scores_as_score_does(spark, scorer, files, wanted):
    df = score_dataframe(spark.read.parquet(str(files)), scorer)
    assert df.columns == wanted.column_names
    assert table_of(df).cast(wanted.schema).equals(wanted)


def test_moments_are_kept(spark, server, files):
    df = spark.read.parquet(str(files / "1.parquet")).selectExpr("x", "timestamp_seconds(id) as t")
    kept = Scorer("poison", endpoints=server.grpc, keep=["t"])
    found = [row.t for row in score_dataframe(df, kept).orderBy("t").limit(3).collect()]
    assert found == [row.t for row in df.orderBy("t").limit(3).collect()]


def test_rows_keep_their_order_in_a_partition(spark, scorer, files):
    df = score_dataframe(spark.read.parquet(str(files / "0.parquet")).coalesce(1), scorer)
    assert df.toArrow()["id"].to_pylist() == list(range(10_000))


def test_a_worker_that_dies_costs_nothing(spark, scorer, files, wanted, tmp_path):
    marker, score = tmp_path / "died", batch_mapper(scorer)

    def dying(batches):
        def watched():
            for batch in batches:
                die_once(batch, 20_000, marker)
                yield batch

        return score(watched())

    source = spark.read.parquet(str(files))
    schema = score_dataframe(source, scorer).schema
    assert table_of(source.mapInArrow(dying, schema)).cast(wanted.schema).equals(wanted)
    assert marker.exists()


def test_each_host_has_its_sidecar(spark, server, files):
    df = spark.read.parquet(str(files / "1.parquet"))
    here = Scorer("poison", endpoints={"*": server.grpc}, keep=["id"])
    assert score_dataframe(df, here).count() == 10_000
    elsewhere = Scorer("poison", endpoints={"gpu-7": server.grpc}, keep=["id"])
    with pytest.raises(Exception, match="no endpoint is given for this host"):
        score_dataframe(df, elsewhere).count()


def test_predict_batch_udf_gives_predictions_and_errors(spark, scorer, files, wanted):
    fields = [("y", FloatType()), ("_tritonbulk_status", IntegerType())]
    fields += [("_tritonbulk_error", StringType())]
    function = predict_batch_udf(
        predict_batch_fn(Scorer("poison", endpoints=scorer.config.options.endpoints), ["x"]),
        return_type=StructType([StructField(name, kind) for name, kind in fields]),
        batch_size=512,
    )
    df = spark.read.parquet(str(files)).select("id", function("x").alias("p"))
    found = table_of(df.select("id", "p.*"))
    for name in ("_tritonbulk_status", "_tritonbulk_error"):
        assert found[name].to_pylist() == wanted[name].to_pylist(), name
    is_ok = pc.is_valid(wanted["y"])
    assert found["y"].filter(is_ok).equals(wanted["y"].filter(is_ok))


def test_types_that_spark_lacks_are_widened():
    given = pa.schema([("a", pa.uint64()), ("b", pa.list_(pa.float16(), 3)), ("c", pa.string())])
    assert spark_schema(given).types == [pa.decimal128(20), pa.list_(pa.float32()), pa.string()]
