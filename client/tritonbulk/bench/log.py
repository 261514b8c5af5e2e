"""The raw trials of a sweep: JSON Lines, each written as soon as it is measured.

The first line says what was asked; a sweep that finds its own there, and no last line that says it
came to its end, goes on with the trials that follow it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonbulk.bench.trial import Trial, trial_from_plain, trial_to_plain
from tritonbulk.errors import InputError, SinkError


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file holds.

    Attributes:
        asked: what the sweep was asked for.
        ceiling: rows a second of the model alone; None if that was not measured yet.
        trials: measured so far.
        took_s: seconds that they took, setting the server included.
        is_finished: whether the sweep came to its end.
    """

    asked: Mapping[str, Any]
    ceiling: float | None
    trials: tuple[Trial, ...]
    took_s: float
    is_finished: bool


class TrialLog:
    """The file of one sweep, open for more lines.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, asked: Mapping[str, Any]) -> Saved | None:
        """Return what an interrupted sweep of the same kind left; else None, with an empty file.

        Raises:
            SinkError: the file cannot be written; a retry may help.
        """
        try:
            saved = read_log(self.path)
        except InputError:
            saved = None
        if saved is not None and not saved.is_finished and saved.asked == asked:
            self._drop_half_a_line()
            return saved
        self._write({"asked": asked}, mode="w")
        return None

    def ceiling(self, rows_per_second: float, took_s: float) -> None:
        """Add the ceiling."""
        self._write({"ceiling": rows_per_second, "took_s": took_s})

    def add(self, trial: Trial, took_s: float) -> None:
        """Add one trial."""
        self._write({"trial": trial_to_plain(trial), "took_s": took_s})

    def finish(self) -> None:
        """Say that the sweep came to its end."""
        self._write({"finished": True})

    def _drop_half_a_line(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)

    def _write(self, line: Mapping[str, Any], mode: str = "a") -> None:
        try:
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(f"writing {self.path} failed ({error}); give another --out") from error


def read_log(path: Path) -> Saved:
    """Return what stands in a file of raw trials; a last line that was cut off is left out.

    Raises:
        InputError: it is missing, or something else; a retry does not help.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        plain = [json.loads(line) for line in lines if line.endswith("\n")]
        ceilings = [line["ceiling"] for line in plain if "ceiling" in line]
        return Saved(
            asked=plain[0]["asked"],
            ceiling=float(ceilings[-1]) if ceilings else None,
            trials=tuple(trial_from_plain(line["trial"]) for line in plain if "trial" in line),
            took_s=sum(float(line.get("took_s", 0.0)) for line in plain),
            is_finished="finished" in plain[-1],
        )
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not hold the raw trials of tritonbulk bench ({error}); name the file "
            "that it wrote"
        ) from error
