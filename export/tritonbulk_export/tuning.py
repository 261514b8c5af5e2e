"""Serving by measurement: what ``tritonbulk bench`` recommends, read from its file or run now.

Export knows bench by its command line and its JSON alone: the sweep goes through the very code of
``score``, against the embedded server, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tritonbulk.errors import InputError, ModelError
from tritonbulk_export.serving import BatchSize, Serving

BENCH_FORMAT = "tritonbulk-bench-1"
BENCH_BYTES_MAX = 64 << 20
TUNE_S_MAX = 86_400
EXTRA_S = 900.0
"""How much longer than its budget a sweep may take: the server starts, models load."""

_WORDS_MAX = 500


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a sweep recommends.

    Attributes:
        batch: rows a request may have; None: the sweep says nothing of it.
        serving: instances, delay and requests in flight, where they were not asked for.
    """

    batch: BatchSize | None
    serving: Serving


def read_bench(path: Path, asked: Serving) -> Tuned:
    """Return what the verdict in a file of ``tritonbulk bench`` recommends.

    Args:
        path: of its ``--out``.
        asked: what was asked about serving, which goes before what was measured.

    Raises:
        InputError: the file is something else, or has no verdict; a retry does not help.
    """
    try:
        if path.stat().st_size > BENCH_BYTES_MAX:
            raise InputError(f"--bench-result {path} is larger than 64 MiB; give bench's own file")
        figures = json.loads(path.read_text(encoding="utf-8"))
        if figures["format"] != BENCH_FORMAT:
            raise KeyError(figures["format"])
        verdict = figures["verdict"]
    except OSError as error:
        raise InputError(
            f"--bench-result {path} cannot be read: {error.strerror or error}"
        ) from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"--bench-result {path} does not have the figures of tritonbulk bench ({error}); give "
            "the file that its --out wrote"
        ) from error
    if not isinstance(verdict, Mapping):
        raise InputError(f"--bench-result {path} has no verdict; sweep longer, with --budget")
    return _tuned(verdict, path, asked)


def _tuned(verdict: Mapping[str, Any], path: Path, asked: Serving) -> Tuned:
    try:
        rows, instances = int(verdict["max_batch_size"]), int(verdict["instances"])
        delay, in_flight = int(verdict["queue_delay_us"]), int(verdict["in_flight"])
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"--bench-result {path} has no verdict that can be read") from error
    changes: dict[str, Any] = {}
    is_default = asked.instances == Serving().instances and "instances" not in asked.asked
    if is_default and instances > 0:
        changes["instances"] = instances
    if asked.queue_delay_us is None and delay >= 0:
        changes["queue_delay_us"] = delay
    if asked.in_flight is None and in_flight > 0:
        changes["in_flight"] = in_flight
    batch = BatchSize(rows, "measured by tritonbulk bench") if rows > 0 else None
    return Tuned(batch, replace(asked, **changes))


def run_bench(repository: Path, model: str, sample: Path, budget_s: float, asked: Serving) -> Tuned:
    """Sweep a published model on the embedded server and return what is recommended.

    Args:
        repository: where it was published.
        model: its name.
        sample: rows that the model will meet.
        budget_s: how long the trials may take, in seconds.
        asked: see `read_bench`.

    Raises:
        ModelError: the sweep failed; carries its last words. The entry is as it was published.
        InputError: it came to no verdict; a longer budget helps.
    """
    with tempfile.TemporaryDirectory(prefix="tritonbulk-tune-") as folder:
        out = Path(folder, "bench.json")
        command = [
            *(sys.executable, "-m", "tritonbulk.cli.main", "bench", str(sample), "--model", model),
            *("--repository", str(repository), "--budget", f"{budget_s:g}s", "--out", str(out)),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=budget_s + EXTRA_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"--tune took {EXTRA_S:.0f} s longer than its {budget_s:g} s"
            ) from error
        if done.returncode:
            words = " ".join(done.stderr.split())[-_WORDS_MAX:]
            raise ModelError(f"--tune failed, and the entry has its defaults: {words}")
        return read_bench(out, asked)
