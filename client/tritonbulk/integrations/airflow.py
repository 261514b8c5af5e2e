"""Airflow: an operator that scores.

    score = TritonBulkScoreOperator(task_id="score", inputs="s3://lake/day={{ ds }}/",
        model="flight_delay", out="s3://lake/scored/{{ ds }}", options={"endpoint": "triton:8001"})

The XCom value is the path of the manifest; the key ``result`` holds the fields of ``score --json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tritonbulk.integrations.airflow_trigger import ManifestTrigger
from tritonbulk.integrations.command import RunError, Running, ScoreCommand


class TritonBulkScoreOperator(BaseOperator):
    """Score files with a model; a retry goes on where the last try ended.

    Args:
        inputs: file, folder, pattern or URI, or several.
        model: its name.
        out: output folder or URI, one for each data interval.
        options: more of ``tritonbulk score``, see `ScoreCommand.options`.
        deferrable: give the worker's slot back while the run goes on in a process of its own, which
            outlives the task; ``out`` must be visible to the triggerer. Not with an executor whose
            pod ends with the task.
        start_s: seconds that a deferrable task waits before it defers, in which wrong use shows.
        stall_s: seconds without a new part after which a deferred run is taken for dead, and
            started again.
    """

    template_fields: Sequence[str] = ("inputs", "model", "out", "options")

    def __init__(
        self,
        *,
        inputs: str | Sequence[str],
        model: str,
        out: str,
        options: Mapping[str, Any] | None = None,
        deferrable: bool = False,
        start_s: float = 30.0,
        stall_s: float = 1_800.0,
        **operator: Any,
    ) -> None:
        super().__init__(**operator)
        self.inputs, self.model, self.out = inputs, model, out
        self.options = dict(options or {})
        self.deferrable, self.start_s, self.stall_s = deferrable, start_s, stall_s
        self._running: Running | None = None

    def execute(self, context: Any, event: Mapping[str, Any] | None = None) -> str:
        """Start or go on with the job; return the path of its manifest once it is finished."""
        # Where the manifest stands the trigger would fire at once, and defer for ever.
        defers = self.deferrable and not (event or {}).get("finished")
        inputs = [self.inputs] if isinstance(self.inputs, str) else list(self.inputs)
        command = ScoreCommand(inputs, self.model, self.out, self.options)
        self._running = Running(command, outlives=defers)
        try:
            result = self._running.wait(self.start_s if defers else None)
        except RunError as error:
            kind = AirflowException if error.retry_helps else AirflowFailException
            raise kind(str(error)) from error
        if result is None:
            self._running.close()
            trigger = ManifestTrigger(self.out, self.stall_s)
            self.defer(trigger=trigger, method_name="resume", timeout=timedelta(days=7))
        context["ti"].xcom_push(key="result", value=result)
        return command.manifest

    def resume(self, context: Any, event: Mapping[str, Any]) -> str:
        """Return once the job is finished; a run of it then has nothing to do but to say so."""
        return self.execute(context, event)

    def on_kill(self) -> None:
        """End the run, which commits what is in memory."""
        if self._running is not None:
            self._running.stop()
