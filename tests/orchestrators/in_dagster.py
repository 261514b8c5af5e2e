"""Run within Dagster: partitions materialized; wrong use and a kill. Prints one JSON object."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

import dagster

from tritonbulk.integrations import command
from tritonbulk.integrations.dagster import scored_asset

spec = json.loads(Path(sys.argv[1]).read_text())
days = dagster.StaticPartitionsDefinition(["a", "b"])
asset = scored_asset(
    "scored",
    inputs=spec["rows"],
    model=spec["model"],
    out=spec["out"] + "/{partition}",
    options=spec["options"],
    partitions_def=days,
    retry_policy=dagster.RetryPolicy(max_retries=2),
)
wrong = scored_asset(
    "wrong", inputs=spec["rows"], model="no_such_model", out=spec["out"] + "/wrong",
    options=spec["options"], retry_policy=dagster.RetryPolicy(max_retries=2),
)  # fmt: skip

pids: list[int] = []
started = command.Running.__init__


def remembered(self, *given, **more):
    started(self, *given, **more)
    pids.append(self.pid)


def kill_the_first(out):
    while not list(Path(out).glob("part-*")):
        time.sleep(0.01)
    os.kill(pids[0], signal.SIGKILL)


patch.object(command.Running, "__init__", remembered).start()
threading.Thread(target=kill_the_first, args=(spec["out"] + "/a",), daemon=True).start()
told = {}
for key in ("a", "b"):
    before = len(pids)
    done = dagster.materialize([asset], partition_key=key, raise_on_error=False)
    (event,) = done.asset_materializations_for_node("scored")
    metadata = {name: value.value for name, value in event.metadata.items()}
    told[key] = {"success": done.success, "runs": len(pids) - before, **metadata}
before = len(pids)
failed = dagster.materialize([wrong], raise_on_error=False)
told["wrong"] = {"success": failed.success, "runs": len(pids) - before}
print(json.dumps(told))
