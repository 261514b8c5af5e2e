"""Reads hostile files, many in one process, and says of each what became of it.

    python tests/hostile/program.py FOLDER [--untrusted] [--from N]

Each line of stdout is a JSON object: before a file ``{"at": N}``, after it its outcome. A process
that ends without the second was ended by the file. Nothing may be opened for writing but below
FOLDER/out, nothing started but the sandbox, and no address reached.
"""

import json
import re
import resource
import signal
import sys
import time
from pathlib import Path

MEMORY_BYTES = 3 * 2**30
CASE_S = 120

_sandboxes: list[list[str]] = []


def main():
    folder, is_untrusted = Path(sys.argv[1]), "--untrusted" in sys.argv
    begin = int(sys.argv[sys.argv.index("--from") + 1]) if "--from" in sys.argv else 0
    from tests.crash.program import run  # noqa: PLC0415
    from tritonbulk.errors import TritonbulkError  # noqa: PLC0415
    from tritonbulk.options import ScoreOptions  # noqa: PLC0415
    from tritonbulk.source import dataset  # noqa: PLC0415

    shared = dataset.Untrusted()  # a process of its own for each file would take longest
    dataset.Untrusted = lambda: shared
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    sys.addaudithook(lambda event, args: _watch(event, args, folder))
    for number, path in enumerate(sorted(folder.glob("case-*"))[begin:], begin):
        print(json.dumps({"at": number}), flush=True)
        signal.alarm(CASE_S)
        began = time.monotonic()
        options = ScoreOptions(
            inputs=(str(path),), model="m", out=folder / "out" / path.name, segment_rows=65_536,
            batch_rows=256, untrusted=is_untrusted, input_map={"x": ("x",)},
        )  # fmt: skip
        try:
            outcome, text = "scored", str(run(options, say=lambda _: None)[0])
        except TritonbulkError as error:
            outcome, text = type(error).__name__, str(error)
        except Exception as error:
            outcome, text = "unexpected", repr(error)
        signal.alarm(0)
        peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10
        took = time.monotonic() - began
        print(
            json.dumps(
                {"outcome": outcome, "text": text, "peak": peak, "took_s": took,
                 "sandboxes": len(_sandboxes)}
            ),
            flush=True,
        )  # fmt: skip


def _watch(event, args, folder):
    if event == "open" and isinstance(args[0], str) and isinstance(args[1], str):
        is_writing = any(letter in args[1] for letter in "wax+")
        if is_writing and not args[0].startswith((str(folder / "out"), "/dev/null")):
            _escaped(f"writes {args[0]}")
    elif event == "socket.connect":
        _escaped(f"connects to {args[1]}")
    elif event == "subprocess.Popen":
        if args[1][1:] != ["-m", "tritonbulk.source.sandbox"]:
            _escaped(f"starts {args[1]}")
        _sandboxes.append(args[1])
    elif event in ("os.system", "os.exec", "pty.spawn"):
        _escaped(event)


def _escaped(how):
    print(json.dumps({"outcome": "escaped", "text": how, "peak": 0, "took_s": 0}), flush=True)


if __name__ == "__main__":
    main()
