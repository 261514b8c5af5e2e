"""Run within Airflow: the operator by ``dag.test()``, in both modes, killed and retried.

python in_airflow.py SPEC.json      prints one JSON object
"""

import asyncio
import json
import os
import runpy
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

spec = json.loads(Path(sys.argv[1]).read_text())
os.environ.setdefault("AIRFLOW_HOME", spec["home"])
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

from airflow.sdk.exceptions import TaskDeferred  # noqa: E402

from tritonbulk.integrations.airflow import TritonBulkScoreOperator  # noqa: E402
from tritonbulk.integrations.airflow_trigger import ManifestTrigger  # noqa: E402


def operator(name, **more):
    given = {"inputs": spec["rows"], "model": spec["model"], "options": spec["options"]}
    return TritonBulkScoreOperator(task_id=name, out=f"{spec['out']}/{name}", **{**given, **more})


class Instance:
    """A task instance, as far as the operator asks for one."""

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


def kill_after_a_part(out, running):
    while not list(Path(out).glob("part-*")):
        time.sleep(0.01)
    os.kill(running()._running.pid, signal.SIGKILL)


def by_dag_test():
    # Airflow runs what it finds in its folder.
    file = Path(os.environ["AIRFLOW_HOME"]) / "dags" / "nightly.py"
    file.parent.mkdir(exist_ok=True)
    out = spec["out"] + "/score-{{ ds_nodash }}"
    file.write_text(
        "from airflow.sdk import DAG\n"
        "from tritonbulk.integrations.airflow import TritonBulkScoreOperator\n"
        "with DAG('nightly', schedule=None) as dag:\n"
        f"    TritonBulkScoreOperator(task_id='score', inputs={spec['rows']!r}, "
        f"model={spec['model']!r}, out={out!r}, options={spec['options']!r})\n"
    )
    run = runpy.run_path(str(file))["dag"].test()
    (task,) = run.get_task_instances()
    return {"state": str(run.state), "manifest": task.xcom_pull(task_ids="score")}


def killed_and_retried():
    task = operator("killed", retries=1, retry_delay=timedelta(0))
    threading.Thread(target=kill_after_a_part, args=(task.out, lambda: task), daemon=True).start()
    told = {}
    try:
        task.execute({"ti": Instance()})
    except Exception as error:
        told["first"] = type(error).__name__
        told["parts"] = len(list(Path(task.out).glob("part-*")))
    instance = Instance()
    told["manifest"] = task.execute({"ti": instance})
    told["segments_before"] = instance.pushed["result"]["segments_before"]
    return told


def wrong_use():
    task = operator("wrong", model="no_such_model")
    try:
        task.execute({"ti": Instance()})
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error)}
    return {}


async def first_event(trigger):
    async for event in trigger.run():
        return event.payload
    return None


def deferred():
    """Defer at once, let the trigger wait, resume; then one whose process dies while deferred."""
    told = {}
    for name in ("deferred", "died"):
        task = operator(name, deferrable=True, start_s=0.05, stall_s=3.0)
        try:
            task.execute({"ti": Instance()})
            told[name] = {"deferred": False}
            continue
        except TaskDeferred as deferral:
            path, arguments = deferral.trigger.serialize()
        assert path == f"{ManifestTrigger.__module__}.ManifestTrigger"
        if name == "died":
            os.kill(task._running.pid, signal.SIGKILL)
        event = asyncio.run(first_event(ManifestTrigger(**{**arguments, "poll_s": 0.1})))
        # On another worker, which has another object of the operator.
        again = operator(name, deferrable=True, start_s=60.0)
        manifest = again.resume({"ti": Instance()}, event)
        told[name] = {"deferred": True, "event": event, "manifest": manifest}
    return told


print(
    json.dumps(
        {
            "dag": by_dag_test(),
            "killed": killed_and_retried(),
            "wrong": wrong_use(),
            "deferrable": deferred(),
        }
    )
)
