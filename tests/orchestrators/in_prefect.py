"""Run within Prefect: a flow whose first run is killed; wrong use. Prints one JSON object."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from tritonbulk.integrations import command
from tritonbulk.integrations.prefect import score

spec = json.loads(Path(sys.argv[1]).read_text())
pids: list[int] = []
started = command.Running.__init__
task = score.with_options(retry_delay_seconds=0)


def remembered(self, *given, **more):
    started(self, *given, **more)
    pids.append(self.pid)


def kill_the_first(out):
    while not list(Path(out).glob("part-*")):
        time.sleep(0.01)
    os.kill(pids[0], signal.SIGKILL)


@flow
def nightly():
    return task(spec["rows"], spec["model"], spec["out"] + "/a", **spec["options"])


@flow
def wrong():
    return task(spec["rows"], "no_such_model", spec["out"] + "/wrong", **spec["options"])


patch.object(command.Running, "__init__", remembered).start()
threading.Thread(target=kill_the_first, args=(spec["out"] + "/a",), daemon=True).start()
with prefect_test_harness(server_startup_timeout=180):
    done = nightly()
    runs = len(pids)
    state = wrong(return_state=True)
told = {"done": {**done, "runs": runs}}
told["wrong"] = {"failed": state.is_failed(), "runs": len(pids) - runs}
print(json.dumps(told))
