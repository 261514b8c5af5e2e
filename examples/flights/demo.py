"""From a model and a file to scored rows: the whole way, once, with what happens printed.

1. writes the data set ``data/flights.parquet`` (336,776 real flights),
2. exports the trained model into ``model_repository/``, proven equal on real rows,
3. starts the real Triton server on that repository,
4. scores the file through it into ``scored/`` and compares every row with ONNX Runtime in-process,
5. shows from Triton's own statistics which batches it executed,
6. sweeps batch rows and requests in flight,

and ends with the paths of the two reports.

    python examples/flights/demo.py
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq

import tritonbulk
from tritonbulk.contract import gather
from tritonbulk.transport import Endpoint

DATA = Path("data/flights.parquet")
MODEL = "flight_delay"
REPOSITORY = Path("model_repository")
OUT = Path("scored")
TOLERANCE = 1e-6


def main() -> None:
    """Run the demo; exits with 1 if a prediction differs from ONNX Runtime's."""
    step("1. the data")
    run("data.py")
    step("2. export: the trained LightGBM model becomes a model entry, proven on held-out flights")
    run("train.py", "--no-train")
    step("3. a real Triton server on model_repository/")
    with tritonbulk.EmbeddedTriton(REPOSITORY, models=[MODEL], say=print) as triton:
        print(f"gRPC at {triton.grpc}, metrics at http://{triton.metrics}/metrics")
        step("4. score every flight")
        clear_finished()
        tritonbulk_command(
            "score", str(DATA), "--model", MODEL, "--endpoint", triton.grpc, "--out", str(OUT)
        )
        compare()
        step("5. what Triton executed")
        asyncio.run(show_batches(triton.grpc))
        step("6. which batch size, how many requests in flight?")
        tritonbulk_command(
            *("bench", str(DATA), "--model", MODEL, "--endpoint", triton.grpc),
            *("--budget", "60s"),
        )
    (report,) = sorted((OUT / "_tritonbulk" / "runs").glob("*.html"))[-1:]
    step("reports, to open in a browser")
    print(f"of the scoring: {report.resolve()}\nof the sweep: {Path('bench.html').resolve()}")


def clear_finished() -> None:
    """Remove the output of a demo that was finished; one that was killed is gone on with."""
    old = OUT.with_name(f"{OUT.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if (OUT / "_tritonbulk" / "manifest.json").exists():
        # Moved away first: half a removed job would be taken for a damaged one.
        OUT.rename(old)
    shutil.rmtree(old, ignore_errors=True)


def step(text: str) -> None:
    """Print a heading."""
    print(f"\n=== {text}", flush=True)


def run(script: str, *arguments: str) -> None:
    """Run a neighbour of this file, and stop with its exit code if it fails."""
    finish([sys.executable, str(Path(__file__).with_name(script)), *arguments])


def tritonbulk_command(*arguments: str) -> None:
    """Show and run a command line of tritonbulk."""
    print("$ tritonbulk", *arguments, flush=True)
    finish([sys.executable, "-m", "tritonbulk.cli.main", *arguments])


def finish(command: list[str]) -> None:
    """Run a command, and stop with its exit code if it fails."""
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)


def compare() -> None:
    """Compare every scored row with the same model run in this process."""
    entry = REPOSITORY / MODEL
    contract = tritonbulk.Contract.from_json((entry / "contract.json").read_text())
    model = max(entry.glob("[0-9]*/model.onnx"))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scored = pq.read_table(OUT)
    flights = pq.read_table(DATA)
    columns = scored["probabilities"].combine_chunks()
    found = columns.flatten().to_numpy().reshape(len(scored), -1)
    (features,) = (
        gather(flights.combine_chunks().to_batches()[0], tensor) for tensor in contract.inputs
    )
    (wanted,) = session.run(["probabilities"], {contract.inputs[0].name: features})
    difference = float(np.abs(found - wanted).max())
    same_order = scored["flight"].equals(flights["flight"])
    print(
        f"{len(scored):,} rows in {OUT}/, input order kept: {same_order}, largest difference to "
        f"in-process ONNX Runtime: {difference:.1e} (at most {TOLERANCE:.0e} is allowed)"
    )
    if len(scored) != len(flights) or not same_order or not difference <= TOLERANCE:
        sys.exit("the scored rows are not those of the model")


async def show_batches(address: str) -> None:
    """Print the sizes of the batches that Triton executed, from its statistics extension."""
    async with Endpoint(address) as endpoint:
        model = await endpoint.describe(MODEL, None)
        statistics = await endpoint.statistics(MODEL, model.version)
    assert statistics is not None, "the embedded server tells its statistics"
    print(
        f"{statistics.inference_count:,} rows in {statistics.inference_stats.success.count:,} "
        f"requests, executed as {statistics.execution_count:,} batches:"
    )
    for batch in statistics.batch_stats:
        print(f"  {batch.compute_infer.count:>6,} × {batch.batch_size:,} rows")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
