"""Prefect: a task that scores.

@flow
def nightly(day: str):
done = score(f"lake/{day}/", "flight_delay", f"scored/{day}", endpoint="triton:8001")
return done["manifest"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import task

from tritonbulk.integrations.command import RunError, ScoreCommand, run


def _retry_helps(_task: Any, _run: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return not isinstance(error, RunError) or error.retry_helps


@task(
    name="tritonbulk score",
    retries=3,
    retry_delay_seconds=[10, 60, 300],
    retry_condition_fn=_retry_helps,
)
def score(inputs: str | Sequence[str], model: str, out: str, **options: Any) -> dict[str, Any]:
    """Score files with a model; a retry goes on where the last try ended.

    Args:
        inputs: file, folder, pattern or URI, or several.
        model: its name.
        out: output folder or URI.
        options: more of ``tritonbulk score``, see `ScoreCommand.options`.

    Returns:
        The fields of ``score --json``, and ``manifest``, its path.

    Raises:
        RunError: it ended without finishing the job; retried where that may help.
    """
    given = [inputs] if isinstance(inputs, str) else list(inputs)
    command = ScoreCommand(given, model, out, options)
    return {**run(command), "manifest": command.manifest}
