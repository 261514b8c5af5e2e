"""NVIDIA's perf_analyzer: a load generator in C++, with random values from its own memory."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import tritonclient.grpc as triton

from benchmarks.task import Stopwatch, Task
from benchmarks.workloads import IN_FLIGHT

FETCH_S = 300
RUN_S = 300
WINDOW_MS = 1000


def fetch(folder: Path) -> tuple[str, str]:
    """Return the command's path, or "" and one sentence that says why there is none."""
    script = Path(__file__).with_suffix(".sh")
    try:
        done = subprocess.run(
            ["bash", str(script), str(folder)],  # noqa: S607  wherever the system keeps it
            capture_output=True, text=True, timeout=FETCH_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if done.returncode:
        return "", (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]
    return done.stdout.strip(), ""


def perf_analyzer(task: Task, watch: Stopwatch) -> int:
    """Load the server with as many requests in flight as the others; return the rows sent.

    The rate is its own, over three windows; costs are of its whole life.
    """
    workload = task.workload
    client = triton.InferenceServerClient(task.endpoints[0])
    report = Path(task.out).with_suffix(".csv")
    report.unlink(missing_ok=True)
    shape = ",".join(map(str, workload.shape))
    command = [
        task.perf_analyzer, "-m", workload.entry, "-i", "grpc", "-u", task.endpoints[0],
        "-b", str(workload.batch_rows), "--shape", f"{workload.tensors[0]}:{shape}",
        "--concurrency-range", str(IN_FLIGHT), "-p", str(WINDOW_MS), "-r", "3",
        # However far apart the windows are: unsteadiness is for the rounds to show.
        "-s", "999", "-f", str(report),
    ]  # fmt: skip
    before = _rows_served(client, workload.entry)
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
    watch.stop()
    if done.returncode:
        sys.exit(f"perf_analyzer failed: {done.stderr or done.stdout}")
    rows = _rows_served(client, workload.entry) - before
    with report.open(newline="") as file:
        (figures,) = csv.DictReader(file)
    watch.seconds = rows / float(figures["Inferences/Second"])
    return rows


def _rows_served(client: triton.InferenceServerClient, model: str) -> int:
    (statistics,) = client.get_inference_statistics(model).model_stats
    return int(statistics.inference_count)
