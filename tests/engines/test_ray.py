"""Ray Data, in a local cluster: the rows of `score`, actors that die included."""

from __future__ import annotations

import pytest

pytest.importorskip("ray", reason="ray is not installed: make test-engines runs it")

import pyarrow as pa
import ray
import ray.data

from tests.engines.dying import die_once
from tritonbulk import ScoreOptions, Secret
from tritonbulk.access import Access
from tritonbulk.cli.score import command
from tritonbulk.engines.ray import TritonProcessorConfig, TritonScorer, build_triton_processor
from tritonbulk.engines.ray_job import score_with_ray
from tritonbulk.errors import OptionError

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=300 * 2**20, logging_level="ERROR"
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def table_of(dataset):
    blocks = [ray.get(each) for each in dataset.to_arrow_refs()]
    return pa.concat_tables(blocks, promote_options="default").sort_by("id")


def test_an_actor_pool_scores_as_score_does(scorer, files, wanted):
    dataset = ray.data.read_parquet(str(files)).map_batches(
        TritonScorer,
        fn_constructor_args=(scorer,),
        batch_format="pyarrow",
        batch_size=4096,
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=0.5,
    )
    assert table_of(dataset).cast(wanted.schema).equals(wanted)


class Dying(TritonScorer):
    def __init__(self, scorer, marker):
        super().__init__(scorer)
        self._marker = marker

    async def __call__(self, batch):
        die_once(batch, 20_000, self._marker)
        return await super().__call__(batch)


def test_an_actor_that_dies_costs_nothing(scorer, files, wanted, tmp_path):
    dataset = ray.data.read_parquet(str(files)).map_batches(
        Dying,
        fn_constructor_args=(scorer, tmp_path / "died"),
        batch_format="pyarrow",
        batch_size=2048,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=0.5,
    )
    assert table_of(dataset).cast(wanted.schema).equals(wanted)
    assert (tmp_path / "died").exists()


def test_a_processor_takes_rows_through_functions(server, files, wanted):
    config = TritonProcessorConfig(
        model="poison", endpoints=server.grpc, concurrency=(1, 2), options={"keep": ["id"]}
    )
    processor = build_triton_processor(
        config,
        preprocess=lambda row: {**row, "x": row["x"] + 1 if row["x"] != 13 else row["x"]},
        postprocess=lambda row: {"id": row["id"], "half": row["y"] and row["y"] / 2},
    )
    found = table_of(processor(ray.data.read_parquet(str(files / "0.parquet"))))
    assert found["half"].to_pylist() == [None if i == 3 else 1001.0 + i for i in range(10_000)]


def test_a_job_in_tasks_is_the_job_of_one_run_byte_for_byte(server, files, tmp_path, monkeypatch):
    asked = ["--model", "poison", "--endpoint", server.grpc, "--segment-rows", "3000"]
    monkeypatch.chdir(files.parent)
    for out, more in (("one", []), ("shards", ["--engine", "ray", "--engine-shards", "3"])):
        words = [files.name, "--out", str(tmp_path / out), *asked, *more]
        # Failed rows stand in the output.
        assert command.main(words, standalone_mode=False) == 1, out
    parts = {path.name: path.read_bytes() for path in (tmp_path / "one").glob("part-*")}
    assert len(parts) == 16
    for name, data in parts.items():
        assert (tmp_path / "shards" / name).read_bytes() == data, name
    one, shards = (tmp_path / out / "_tritonbulk" / "manifest.json" for out in ("one", "shards"))
    assert one.read_bytes() == shards.read_bytes()


def test_what_tasks_cannot_do_is_refused_before_they_start(tmp_path):
    given = {"inputs": ("a.parquet",), "model": "m", "out": tmp_path}
    for more, said in (
        ({}, "needs --endpoint"),
        ({"endpoints": ("a:1",), "fresh": True}, "--fresh"),
        (
            {"endpoints": ("a:1",), "access": Access(headers={"authorization": Secret("hush")})},
            "--header-env",
        ),
    ):
        with pytest.raises(OptionError, match=said):
            score_with_ray(ScoreOptions(**given, **more), 2, print)


def test_numbers_without_a_meaning_are_refused():
    with pytest.raises(OptionError, match="concurrency 0"):
        TritonProcessorConfig(model="m", endpoints="a:1", concurrency=0)
