"""tritonbulk: score a very large file with a model on NVIDIA Triton, fast, once, correctly.

::

    import tritonbulk

    result = tritonbulk.score("flights.parquet", model="flight_delay", out="scored")
    print(result.rows_per_second)

Names are imported on first use, so that ``import tritonbulk`` itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritonbulk.access import Access
    from tritonbulk.api import commit, score, score_async
    from tritonbulk.contract import Contract
    from tritonbulk.errors import (
        FailureLimitError,
        OutageError,
        ServerError,
        TritonbulkError,
        UsageError,
    )
    from tritonbulk.options import ScoreOptions
    from tritonbulk.redaction import Secret
    from tritonbulk.result import ScoreResult
    from tritonbulk.scorer import Scorer, score_batches, score_batches_async
    from tritonbulk.server.embedded import EmbeddedTriton

_HOME = {
    "Access": "tritonbulk.access",
    "Contract": "tritonbulk.contract",
    "EmbeddedTriton": "tritonbulk.server.embedded",
    "FailureLimitError": "tritonbulk.errors",
    "OutageError": "tritonbulk.errors",
    "ScoreOptions": "tritonbulk.options",
    "ScoreResult": "tritonbulk.result",
    "Scorer": "tritonbulk.scorer",
    "Secret": "tritonbulk.redaction",
    "ServerError": "tritonbulk.errors",
    "TritonbulkError": "tritonbulk.errors",
    "UsageError": "tritonbulk.errors",
    "commit": "tritonbulk.api",
    "score": "tritonbulk.api",
    "score_async": "tritonbulk.api",
    "score_batches": "tritonbulk.scorer",
    "score_batches_async": "tritonbulk.scorer",
}

__all__ = [
    "Access",
    "Contract",
    "EmbeddedTriton",
    "FailureLimitError",
    "OutageError",
    "ScoreOptions",
    "ScoreResult",
    "Scorer",
    "Secret",
    "ServerError",
    "TritonbulkError",
    "UsageError",
    "commit",
    "score",
    "score_async",
    "score_batches",
    "score_batches_async",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'tritonbulk' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
