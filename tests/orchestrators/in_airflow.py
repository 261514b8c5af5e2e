"""Run within Airflow: the operator by ``dag.test()``, in both modes, killed and retried.

python in_airflow.py SPEC.json      prints one JSON object
"""

import asyncio
import json
import os
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

from airflow.sdk import DAG  # noqa: E402
from airflow.sdk.exceptions import TaskDeferred  # noqa: E402

from tritonbulk.integrations.airflow import ManifestTrigger, TritonBulkScoreOperator  # noqa: E402


def operator(name, **more):
    given = {"inputs": spec["rows"], "model": spec["model"], "options": spec["options"]}
    return TritonBulkScoreOperator(
        task_id=name, out=f"{spec['out']}/{name}-{{{{ ds_nodash }}}}", **{**given, **more}
    )


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
    with DAG("nightly", schedule=None) as dag:
        operator("score")
    run = dag.test()
    (task,) = run.get_task_instances()
    return {"state": str(run.state), "manifest": task.xcom_pull(task_ids="score")}


def killed_and_retried():
    task = operator("killed", retries=1, retry_delay=timedelta(0))
    task.out = f"{spec['out']}/killed"
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
    task.out = f"{spec['out']}/wrong"
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
        task.out = f"{spec['out']}/{name}"
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
        again.out = task.out
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
