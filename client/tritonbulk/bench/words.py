"""Words for a verdict, as the terminal and the page have them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tritonbulk.bench.verdict import Verdict

_DOUBTS = {
    "failed": "rows or requests failed at the recommended setting",
    "noisy": "others used the machine's processors in half of its trials or more",
    "unsteady": "its rate did not settle in half of its trials or more; give longer trials",
    "starving": "fewer requests were in flight than allowed, so the client did not keep up",
}


def doubts(labels: Sequence[str]) -> list[str]:
    """Return what speaks against a figure, in sentences without an end."""
    return [_DOUBTS[label] for label in labels]


def advice_value(name: str, value: int) -> str:
    """Return what something is set to."""
    if name == "queue_delay_us":
        return "off" if value < 0 else f"{value:,} µs"
    if value == 0:
        return "no limit" if name == "max_batch_size" else "unknown"
    return f"{value:,}"


def knee_words(verdict: Verdict) -> str:
    """Return how sure the knee is."""
    share = verdict.rows_per_second / verdict.best_rows_per_second
    return (
        f"It is the cheapest setting that is nearly as fast as the fastest ({share:.1%} of it); "
        f"resampled trials put it at {_range(verdict.knee_batch_rows)} batch rows and "
        f"{_range(verdict.knee_in_flight)} in flight"
    )


def _range(ends: tuple[int, int]) -> str:
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
