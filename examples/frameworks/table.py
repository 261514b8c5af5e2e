"""Export and serve every example that this machine can, and print one table.

    python -m examples.frameworks.table [NAME …]

Each is trained, exported (compared with its source on every row), served by the embedded Triton,
scored through it, and what came back is compared once more, with the answers that the framework
itself gave right after training. Exits with 1 if one differs or fails.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import tritonbulk
from examples.frameworks.example import BUILD, Answers, Example

EXAMPLES = (
    *("torch_module", "torch_program", "transformers_bert", "keras_model", "jax_flax"),
    *("sklearn_pipeline", "xgboost_trees", "lightgbm_trees", "catboost_trees", "raw_onnx"),
)
REPOSITORY = BUILD / "models"
TOLERANCE = 2e-5
"""Of what is served, against the framework's own answers: ``TOLERANCE * (1 + |answer|)``."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    source: str
    target: str
    precision: str
    rows: int
    difference: float
    flips: int
    size_bytes: int
    export_s: float
    score_s: float

    @property
    def is_right(self) -> bool:
        """Return whether what was served is what the framework answers."""
        return self.difference <= TOLERANCE and not self.flips


def main() -> None:
    """Run the examples that are named, or all."""
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    lines, failed = [], []
    for name in sys.argv[1:] or EXAMPLES:
        print(f"--- {name}", file=sys.stderr, flush=True)
        try:
            lines += run(name)
        except ModuleNotFoundError as error:
            print(f"left out: {error.name} is not installed", file=sys.stderr)
        except (subprocess.CalledProcessError, tritonbulk.TritonbulkError) as error:
            print(f"FAILED: {error}", file=sys.stderr)
            failed.append(name)
    print(table(lines))
    wrong = [line.source for line in lines if not line.is_right]
    if failed or wrong:
        sys.exit(f"not as they should be: {', '.join([*failed, *wrong])}")


def run(name: str) -> list[Line]:
    """Make, export, serve and compare one example."""
    make = importlib.import_module(f"examples.frameworks.{name}").make
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    example: Example = make(folder)
    start = time.perf_counter()
    done = exported(example)
    export_s = time.perf_counter() - start
    start = time.perf_counter()
    tritonbulk.score(
        example.sample, model=example.name, repository=REPOSITORY, out=folder / "scored"
    )
    score_s = time.perf_counter() - start
    rows, difference, flips = compared(folder / "scored", example.answers)
    version = Path(done["entry"]) / str(done["version"])
    size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    return [
        Line(name, "ONNX", "fp32", rows, difference, flips, size, export_s, score_s),
    ]


def exported(example: Example) -> dict[str, Any]:
    """Export by the command line, as a user would, and return what it says as JSON."""
    command = (
        *(sys.executable, "-m", "tritonbulk.cli.main", "export", *example.arguments),
        *("--name", example.name, "--sample", str(example.sample)),
        *("--repository", str(REPOSITORY), "--json"),
    )
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    told: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return told


def compared(out: Path, answers: Answers) -> tuple[int, float, int]:
    """Return rows, the largest difference (in units of 1 + |answer|), and labels that differ."""
    parts = sorted(out.glob("part-*.parquet"))
    scored = pq.ParquetDataset(parts).read()
    difference, flips = 0.0, 0
    for name, answer in answers.items():
        expected = answer.reshape(len(answer), -1)
        found = np.array(scored[name].to_pylist()).reshape(len(answer), -1)
        if expected.dtype.kind == "f":
            off = np.abs(found - expected) / (1 + np.abs(expected))
            difference = max(difference, float(off.max()))
        else:
            flips += int((found != expected).sum())
    return scored.num_rows, difference, flips


def table(lines: list[Line]) -> str:
    """Return the table as Markdown."""
    names = "source|target|precision|rows compared|max error|flips|size|export|score"
    head = f"| {names.replace('|', ' | ')} |"
    rows = [
        f"| {line.source} | {line.target} | {line.precision} | {line.rows:,} | "
        f"{line.difference:.1e} | {line.flips} | {line.size_bytes / 1000:,.0f} kB | "
        f"{line.export_s:.1f} s | {line.score_s:.1f} s |"
        for line in lines
    ]
    return "\n".join([head, "|---|---|---|---:|---:|---:|---:|---:|---:|", *rows])


if __name__ == "__main__":
    main()
