"""Ray and Spark with a scorer, and with a tritonclient that sends a batch at a time.

    make engines-venv; PYTHON=.venv-engines/bin/python
    $PYTHON -m benchmarks.engines                                   about half an hour
    $PYTHON -m benchmarks.engines --server-seconds 2 --rounds 1     whether it runs
    $PYTHON -m benchmarks.engines --flights                         an engine's cost beside score

Simulated accelerators (8 ms + 0.05 ms a row, 1,024 rows a batch at most), as many servers as asked
for. Within an engine everyone has the same cluster, started before, the same files, two workers
(one a core), requests of 1,024 rows, and writes Parquet. The tritonclient sends one batch at a time
a worker, in turn to the servers. A first round does not count; the outputs must agree. The last
line is one JSON object with the median rates and their ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

import tritonbulk
from benchmarks import machine
from benchmarks.entries import make_entry
from tritonbulk import EmbeddedTriton, Scorer

PROJECT = Path(__file__).parents[1]
BATCH_ROWS = 1024
RATE = BATCH_ROWS / ((8 + 0.05 * BATCH_ROWS) / 1000)
"""Rows a second of one simulated accelerator that always has a full batch."""

WORKERS = 2
FILES = 8
FEATURES = [f"x{number}" for number in range(4)]
SCORER: dict[str, Any] = {"input_map": {"x": ["x*"]}, "keep": ["row"]}

Job = Callable[[Path, Path], None]
"""Scores the files of a folder into another one."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for and print it."""
    given = _parser().parse_args(arguments)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = str(PROJECT)  # for the workers
    print(json.dumps(machine.card()), file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-engines-", dir=given.folder) as folder:
        measured = (flights if given.flights else accelerators)(given, Path(folder))
    print(json.dumps(measured))


def accelerators(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the rates of all contenders, and ours ÷ that of a tritonclient, by engine."""
    repository = folder / "models"
    repository.mkdir()
    make_entry("accelerator", repository)
    rows = FILES * round(given.accelerators * RATE * given.server_seconds / FILES)
    write_rows(folder / "rows", rows)
    measured: dict[str, Any] = {"rows": rows, "accelerators": given.accelerators}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(EmbeddedTriton(repository, stop_deadline_s=0))
            for _ in range(given.accelerators)
        ]
        addresses = [server.grpc for server in servers]
        scorer = Scorer("accelerator", endpoints=addresses, **SCORER)
        for engine in given.engines:
            jobs = ENGINES[engine](scorer, addresses, stack)
            seconds = rounds(jobs, folder, given.rounds, _agree)
            rates = {name: round(rows / median(each)) for name, each in seconds.items()}
            measured[engine] = {
                "rows_s": rates,
                "seconds": seconds,
                "ours_vs_tritonclient": round(rates["scorer"] / rates["tritonclient"], 3),
                "ours_vs_ideal": round(rates["scorer"] / (given.accelerators * RATE), 3),
            }
    return measured


def flights(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the seconds of the flights by engine, and of `score` on the same server."""
    source = PROJECT / "data" / "flights.parquet"
    if not source.exists():
        sys.exit(f"{source} is missing; python examples/flights/data.py makes it")
    (folder / "rows").mkdir()
    table = pq.read_table(source)
    for number in range(FILES):
        share = -(-len(table) // FILES)
        pq.write_table(table.slice(number * share, share), folder / "rows" / f"{number}.parquet")
    measured: dict[str, Any] = {"rows": len(table)}
    with ExitStack() as stack:
        embedded = EmbeddedTriton(PROJECT / "model_repository", stop_deadline_s=0)
        server = stack.enter_context(embedded)
        scorer = Scorer("flight_delay", endpoints=server.grpc, keep=["flight"])

        def alone(source: Path, out: Path) -> None:
            tritonbulk.score(
                source, model="flight_delay", out=out, endpoints=[server.grpc], keep=["flight"]
            )

        measured["score"] = rounds({"score": alone}, folder, given.rounds, None)["score"]
        for engine in given.engines:
            jobs = {"scorer": ENGINES[engine](scorer, [server.grpc], stack)["scorer"]}
            measured[engine] = rounds(jobs, folder, given.rounds, None)["scorer"]
    return measured


def rounds(
    jobs: dict[str, Job], folder: Path, count: int, agree: Callable[[Path], Any] | None
) -> dict[str, list[float]]:
    """Return the seconds of each job in each round, interleaved in shuffled order."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    found = {}
    shuffler = random.Random(0)  # noqa: S311  an order, not a secret
    for number in range(-1, count):
        for name in shuffler.sample(list(jobs), len(jobs)):
            out = folder / "out"
            began_s = time.perf_counter()
            jobs[name](folder / "rows", out)
            took_s = time.perf_counter() - began_s
            print(f"round {number} {name}: {took_s:.1f} s", file=sys.stderr)
            if number >= 0:
                seconds[name].append(round(took_s, 2))
            elif agree is not None:
                found[name] = agree(out)
            shutil.rmtree(out)
    if len({json.dumps(each) for each in found.values()}) > 1:
        sys.exit(f"the outputs differ: {found}")
    return seconds


def ray_jobs(scorer: Scorer, addresses: Sequence[str], stack: ExitStack) -> dict[str, Job]:
    """Return the contenders in a Ray of this machine, which runs until ``stack`` ends."""
    import ray  # noqa: PLC0415 - started only where it takes part
    from ray.data import ActorPoolStrategy, DataContext  # noqa: PLC0415

    from tritonbulk.engines.ray import TritonScorer  # noqa: PLC0415

    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        object_store_memory=2**30,
        logging_level="ERROR",
    )
    stack.callback(ray.shutdown)
    DataContext.get_current().enable_progress_bars = False

    def job(kind: Any, arguments: tuple[Any, ...], batch_rows: int) -> Job:
        def run(source: Path, out: Path) -> None:
            rows = ray.data.read_parquet(str(source))
            # Small files make one block, which one actor would have for itself.
            rows.repartition(4 * WORKERS).map_batches(
                kind,
                fn_constructor_args=arguments,
                batch_format="pyarrow",
                batch_size=batch_rows,
                compute=ActorPoolStrategy(size=WORKERS),
                num_cpus=0.5,
            ).write_parquet(str(out))

        return run

    return {
        "scorer": job(TritonScorer, (scorer,), 16 * BATCH_ROWS),
        "tritonclient": job(BatchClient, (tuple(addresses),), BATCH_ROWS),
    }


def spark_jobs(scorer: Scorer, addresses: Sequence[str], stack: ExitStack) -> dict[str, Job]:
    """Return the contenders in a Spark of this machine, which runs until ``stack`` ends."""
    from pyspark.ml.functions import predict_batch_udf  # noqa: PLC0415
    from pyspark.sql import SparkSession  # noqa: PLC0415
    from pyspark.sql.functions import array  # noqa: PLC0415
    from pyspark.sql.types import FloatType  # noqa: PLC0415

    from tritonbulk.engines.spark import score_dataframe  # noqa: PLC0415

    spark = (
        SparkSession.builder.master(f"local[{WORKERS}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    stack.callback(spark.stop)
    spark.sparkContext.setLogLevel("ERROR")
    given = tuple(addresses)

    def make_predict() -> Callable[[Any], Any]:
        return BatchClient(given).predict

    def ours(source: Path, out: Path) -> None:
        score_dataframe(spark.read.parquet(str(source)), scorer).write.parquet(str(out))

    def theirs(source: Path, out: Path) -> None:
        predict = predict_batch_udf(
            make_predict, return_type=FloatType(), batch_size=BATCH_ROWS, input_tensor_shapes=[[4]]
        )
        df = spark.read.parquet(str(source))
        df.select("row", predict(array(*FEATURES)).alias("y")).write.parquet(str(out))

    return {"scorer": ours, "tritonclient": theirs}


ENGINES = {"ray": ray_jobs, "spark": spark_jobs}


class BatchClient:
    """What users write: a tritonclient a worker, one request at a time."""

    def __init__(self, addresses: Sequence[str]) -> None:
        from tritonclient import grpc  # noqa: PLC0415 - in the worker

        self._grpc = grpc
        clients = [grpc.InferenceServerClient(address) for address in addresses]
        self._clients = itertools.cycle(clients)

    def predict(self, x: Any) -> Any:
        """Return the answer to FP32 rows [n, 4], shape [n]."""
        tensor = self._grpc.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(np.ascontiguousarray(x, np.float32))
        answer = next(self._clients).infer("accelerator", [tensor])
        return answer.as_numpy("y").reshape(-1)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a batch with its predictions, for Ray."""
        x = np.column_stack([batch[name].to_numpy() for name in FEATURES])
        return pa.table({"row": batch["row"], "y": self.predict(x)})


def write_rows(folder: Path, rows: int) -> None:
    """Write files of a number and four FP32 features a row."""
    folder.mkdir()
    made = np.random.default_rng(0)
    for number in range(FILES):
        count = rows // FILES
        columns = {name: made.standard_normal(count, dtype=np.float32) for name in FEATURES}
        table = pa.table({"row": np.arange(count) + number * count, **columns})
        pq.write_table(table, folder / f"{number}.parquet")


def _agree(out: Path) -> tuple[float, ...]:
    table = ds.dataset(out, format="parquet", exclude_invalid_files=True).to_table()
    return len(table), pc.sum(table["row"]).as_py(), round(pc.sum(table["y"]).as_py(), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accelerators", type=int, default=4)
    parser.add_argument(
        "--server-seconds", type=float, default=60, help="of each accelerator, if it never waits"
    )
    parser.add_argument("--flights", action="store_true")
    parser.add_argument("--folder", help="for what is made; default: the system's temporary one")
    return parser


if __name__ == "__main__":
    main()
