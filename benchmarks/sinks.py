r"""Sinks: rows a second of a finished job, beside what bounds them.

    .venv-sinks/bin/python -m benchmarks.sinks out/embedded [--repeats 5] [--json FILE]

OUT is the output of a finished job, such as the README's flights. PostgreSQL stands beside psql's
``\copy`` of the same rows in its binary format, into the same table; Delta Lake beside the seconds
that the job itself took and beside a copy of its parts that is synced. Repeats are interleaved,
medians are told with the least and the most.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.sinks import postgres
from tritonbulk.checking import status
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.sinks.opening import open_sink
from tritonbulk.sinks.publish import publish

TABLE = "predictions"
PARTS = "part-*"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = sum(job.rows or 0 for job in status(LocalStore(given.out)))
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, postgres.server() as uri:
        folder = Path(name)
        publish(LocalStore(given.out), open_sink(uri, TABLE))
        _psql(uri, f"\\copy {TABLE} TO '{folder}/rows.bin' (FORMAT binary)")
        for repeat in range(given.repeats):
            for what, run in _contenders(given.out, uri, folder / str(repeat)).items():
                began = time.perf_counter()
                run()
                took.setdefault(what, []).append(time.perf_counter() - began)
    job_s = _job_seconds(given.out)
    print(_table(rows, job_s, took))
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "job_s": job_s, "took_s": took}, indent=1))


def _contenders(out: Path, uri: str, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name, each with nothing left of the last repeat."""
    folder.mkdir()
    # Publishing begins anew once nothing says that it is done.
    _psql(uri, f"TRUNCATE _tritonbulk_published, {TABLE}")
    _psql(uri, f"DROP TABLE IF EXISTS copied; CREATE TABLE copied (LIKE {TABLE})")
    rows = folder.parent / "rows.bin"
    return {
        "parts read and checked": lambda: _read(out),
        "parts copied and synced": lambda: _copy(out, folder / "copy"),
        "psql \\copy, binary": lambda: _psql(uri, f"\\copy copied FROM '{rows}' (FORMAT binary)"),
        "PostgreSQL": lambda: publish(LocalStore(out), open_sink(uri, TABLE)),
        "DuckDB": lambda: publish(LocalStore(out), open_sink(f"duckdb:{folder}/d.duckdb", TABLE)),
        "Delta Lake": lambda: publish(LocalStore(out), open_sink(f"delta:{folder}/delta")),
        "Lance": lambda: publish(LocalStore(out), open_sink(f"lance:{folder}/t.lance")),
    }


def _read(out: Path) -> None:
    class Nowhere:
        name = "nowhere"
        at: int | None = None

        def prepare(self, schema: object) -> None:
            """Take anything."""

        def published(self, job: str) -> int | None:  # noqa: ARG002  one job
            """Return how far the job has come."""
            return self.at

        def append(self, portion: object) -> None:
            """Read the parts."""
            for part in portion.parts:  # type: ignore[attr-defined]
                part.read()
            self.at = portion.end  # type: ignore[attr-defined]

    publish(LocalStore(out), Nowhere())


def _copy(out: Path, folder: Path) -> None:
    folder.mkdir()
    for part in out.glob(PARTS):
        target = shutil.copy(part, folder)
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _psql(uri: str, statement: str) -> None:
    subprocess.run(
        ["psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", uri],
        input=statement, text=True, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _job_seconds(out: Path) -> float:
    """Return the seconds that the job's runs took to score."""
    runs = [json.loads(each.read_text()) for each in out.glob("_tritonbulk/runs/*.json")]
    return float(sum(run["seconds"] for run in runs if run.get("rows_scored")))


def _table(rows: int, job_s: float, took: dict[str, list[float]]) -> str:
    lines = [f"{rows:,} rows, scored in {job_s:.2f} s"]
    lines += [f"{'':26}{'rows/s':>12}{'seconds':>10}{'least':>8}{'most':>8}  of the job"]
    for what, seconds in took.items():
        middle = statistics.median(seconds)
        share = f"{middle / job_s:8.1%}" if job_s else ""
        lines.append(
            f"{what:26}{rows / middle:12,.0f}{middle:10.3f}{min(seconds):8.3f}{max(seconds):8.3f}"
            f"  {share}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
