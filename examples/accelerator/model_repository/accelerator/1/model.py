"""A simulated accelerator: batches take time and memory as on a real one, and no processor.

A batch of n rows takes ``base_ms + row_ms · n`` milliseconds. ``concurrency`` batches execute at a
time, however many instances there are: a further instance only hides what lies between two batches
of another, up to that number. A batch of more than ``memory_mb`` (``row_kb`` a row) fails, out of
memory. The answer ``y`` is the sum of a row's values, so that wrong answers can be told from right.

All five are ``parameters`` of ``config.pbtxt``. What a batch takes is kept by sleeping until the
moment at which it would be done, so the accelerator's speed does not depend on the machine's.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

POLL_S = 0.0005


class TritonPythonModel:
    """One instance of the model; Triton runs each in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters, and open the files whose locks are the accelerator's slots.

        Instances share nothing but the server, whose process names the files: two servers are two
        accelerators.
        """
        parameters = json.loads(args["model_config"])["parameters"]
        base_ms, row_ms, concurrency, memory_mb, row_kb = (
            float(parameters[name]["string_value"])
            for name in ("base_ms", "row_ms", "concurrency", "memory_mb", "row_kb")
        )
        self.base_s, self.row_s = base_ms / 1e3, row_ms / 1e3
        self.memory_rows = int(memory_mb * 1e3 // row_kb)
        self.files = ExitStack()
        front = Path(tempfile.gettempdir(), f"{args['model_name']}-{os.getppid()}")
        self.turn, *self.slots = (
            self.files.enter_context(Path(f"{front}-{number}.lock").open("w"))  # noqa: SIM115
            for number in range(1 + int(concurrency))
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton put together, as one batch."""
        inputs = [pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        rows = sum(map(len, inputs))
        if rows > self.memory_rows:
            said = f"out of memory: a batch of {rows} rows does not fit, {self.memory_rows} do"
            # An error of its own for each: Triton's stub crashes where answers share one.
            errors = [pb_utils.TritonError(said) for _ in requests]
            return [pb_utils.InferenceResponse(error=error) for error in errors]
        with self.slot():
            done_s = time.monotonic() + self.base_s + self.row_s * rows
            answers = [each.sum(axis=1, keepdims=True, dtype=np.float32) for each in inputs]
            time.sleep(max(done_s - time.monotonic(), 0.0))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", each)]) for each in answers]

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one slot of the accelerator; instances that wait for one take turns."""
        fcntl.flock(self.turn, fcntl.LOCK_EX)
        while (taken := next((slot for slot in self.slots if is_taken(slot)), None)) is None:
            time.sleep(POLL_S)
        fcntl.flock(self.turn, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(taken, fcntl.LOCK_UN)

    def finalize(self) -> None:
        """Close the files; the server's temporary folder goes with the server."""
        self.files.close()


def is_taken(slot: Any) -> bool:
    """Return whether this call took a slot that was free."""
    try:
        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
