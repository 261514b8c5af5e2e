"""Figures: a sweep as the JSON that ``bench`` writes and prints. Pure but for reading a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tritonbulk.bench.cells import summarize
from tritonbulk.bench.result import Sweep
from tritonbulk.bench.trial import Trial, trial_from_plain, trial_to_plain
from tritonbulk.bench.verdict import Verdict
from tritonbulk.errors import InputError

FORMAT = "tritonbulk-bench-1"


def to_plain(sweep: Sweep) -> dict[str, Any]:
    """Return all figures of a sweep, for JSON; see ``docs/bench.md``."""
    return {
        "format": FORMAT,
        "model": sweep.model,
        "input": list(sweep.inputs),
        "environment": dict(sweep.environment),
        "configured": asdict(sweep.space.base),
        "ceiling_rows_per_second": sweep.ceiling,
        "seconds": round(sweep.took_s, 3),
        "verdict": None if sweep.verdict is None else _verdict(sweep.verdict),
        "cells": [asdict(cell) for cell in summarize(sweep.trials)],
        "trials": [trial_to_plain(trial) for trial in sweep.trials],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    plain = asdict(verdict)
    advice = plain.pop("advice")
    return {**plain, "advice": list(advice)}


def read_trials(path: Path) -> tuple[Trial, ...]:
    """Return the trials in a file of figures.

    Raises:
        InputError: it is missing or something else; a retry does not help.
    """
    figures = read_figures(path)
    try:
        return tuple(trial_from_plain(plain) for plain in figures["trials"])
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not have the figures of tritonbulk bench") from error


def read_figures(path: Path) -> Mapping[str, Any]:
    """Return what stands in a file of figures.

    Raises:
        InputError: it is missing or something else; a retry does not help.
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the path") from error
    if not isinstance(figures, dict) or figures.get("format") != FORMAT:
        raise InputError(
            f"{path} does not have the figures of this version of tritonbulk bench; name the file "
            "that its --out wrote"
        )
    return figures
