"""What the contract keeps of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tritonbulk_export.spec import OutputParity, Parity, PrecisionReport

_COSINE_NOISE = 1e-12
"""What float64 sums alone make of a cosine of 1."""


def stored(parity: Parity, precision: PrecisionReport | None = None) -> Mapping[str, Any]:
    """Return the figures as the contract keeps them: bounds, rounded up to one digit.

    The last bits of a float32 sum depend on the processor; a bound of one digit does not, so that
    the same export elsewhere writes the same contract.
    """
    record: dict[str, Any] = {
        "rows": parity.rows,
        "outputs": {name: _figures(figures) for name, figures in parity.outputs.items()},
    }
    if precision is not None:
        record["precision"] = precision.precision
        record["is_verified"] = precision.is_verified
    if parity.ranking is not None:
        record["ranking"] = {
            "metric": parity.ranking.metric,
            "output": parity.ranking.output,
            "change": rounded_up(parity.ranking.change),
        }
    if parity.waivers:
        record["waivers"] = [
            {"name": waiver.name, "reason": waiver.reason} for waiver in parity.waivers
        ]
    return record


def rounded_up(value: float) -> float:
    """Return the smallest number of one digit that is at least ``value``, which is at least 0."""
    if value == 0.0 or not math.isfinite(value):
        return value if math.isfinite(value) else 1e308
    scale = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / scale) * scale:.1g}")


def _figures(figures: OutputParity) -> Mapping[str, float | int]:
    record: dict[str, float | int] = {
        "max_abs": rounded_up(figures.max_abs),
        "max_rel": rounded_up(figures.max_rel),
        "mean_abs": rounded_up(figures.mean_abs),
        "p999_abs": rounded_up(figures.p999_abs),
        "cosine_loss": rounded_up(loss if (loss := 1.0 - figures.cosine) > _COSINE_NOISE else 0.0),
        "flips": figures.flips + figures.top1_flips,
    }
    if figures.threshold_flips is not None:
        record["threshold_flips"] = figures.threshold_flips
    return record
