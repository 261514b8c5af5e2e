"""P14: secrets and what stands in rows are in no artefact, whatever goes wrong.

Each path fails in its own way, by the command line, with canaries as secrets of every kind: a
header from a variable, one from a file, a password and a signature in a URI, the key of our
certificate, and values of rows. Everything that the run leaves is searched for them, in every way
in which they may be quoted.
"""

import asyncio
import base64
import html
import json
import os
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tritonclient.grpc import service_pb2

import tritonbulk
from tests.live.certificates import Authority
from tests.unit.test_other_servers import SmallServer
from tritonbulk.testing import decode_tensors, encode_answer

pytestmark = [pytest.mark.ci, pytest.mark.timeout(1800)]

VARIABLE, FILE = 'canary-"variable"&<4f7a>/é?'.replace("é", "e"), "canary file=9c2e+%20'x'"
PASSWORD, SIGNATURE = "canary-password-51d0", "canary-signature-77ab"
ROW = "canary-row-3e91"
ROWS = 200


class EvilServer(SmallServer):
    """Repeats what it was sent, in every place and form; fails in the way that it is told."""

    def __init__(self, how):
        super().__init__()
        self._how = how

    async def _ModelInfer(self, data, context):  # noqa: N802
        tensors = decode_tensors(service_pb2.ModelInferRequest.FromString(data))
        sent = dict(context.invocation_metadata())
        said = f"{sent} {json.dumps(sent)} {urllib.parse.quote(str(sent))} {html.escape(str(sent))}"
        if self._how == "rows" and (tensors["x"] >= ROWS - 2).any():
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{said} {ROW}")
        if self._how not in ("ok", "rows"):
            await context.abort(getattr(grpc.StatusCode, self._how), f"{said} {ROW}")
        return encode_answer("", {"y": tensors["x"] * 2})


class Running:
    """A server in a thread, for programs of their own."""

    def __init__(self, how):
        self._ready, self._stop = threading.Event(), None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(how)))

    async def _serve(self, how):
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((EvilServer(how),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._stop.wait()
        await server.stop(None)

    def __enter__(self):
        self._thread.start()
        self._ready.wait(60)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


def forms(secret):
    """Return every way in which a secret may be quoted."""
    return {
        secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], html.escape(secret),
        urllib.parse.quote(secret), urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret), base64.b64encode(secret.encode()).decode(),
        json.dumps(json.dumps(secret))[3:-3],
    }  # fmt: skip


def hits(artefacts, secrets):
    """Return where a secret stands: (name of the artefact, secret)."""
    return [
        (name, secret)
        for name, data in artefacts.items()
        for secret in secrets
        if any(form.encode() in data for form in forms(secret))
    ]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.parquet"
    words = pa.array([ROW] * ROWS)
    pq.write_table(pa.table({"x": np.arange(ROWS, dtype=np.float32), "words": words}), path)
    return path


def run(rows, address, *words, log_format="json", level="debug"):
    """Run the program and return its exit code and all that it left, its command line included."""
    secret_file = rows.parent / "secret"
    secret_file.write_text(FILE)
    out = rows.parent / f"out-{time.monotonic_ns()}"
    command = [
        sys.executable, "-m", "tritonbulk.cli.main", "score", str(rows), "--model", "double",
        "--out", str(out), "--endpoint", address, "--keep", "", "--batch-rows", "16",
        "--header-env", "authorization=CANARY", "--header-file", f"x-api-key={secret_file}",
        "--log-format", log_format, "--log-level", level, "--metrics-port", "0",
        "--max-outage", "2", "--json", *words,
    ]  # fmt: skip
    left = {}
    with subprocess.Popen(
        command, env={**os.environ, "CANARY": VARIABLE}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=rows.parent,
    ) as process:  # fmt: skip
        line = process.stderr.readline()
        left["first line"] = line
        left["command line"] = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        found = [word for word in line.decode().replace('"', " ").split() if "/metrics" in word]
        try:
            with urllib.request.urlopen(found[0], timeout=30) as answer:
                left["metrics"] = answer.read()
        except (OSError, IndexError):
            pass  # it had ended before
        left["stdout"], left["stderr"] = process.communicate(timeout=300)
    for path in out.rglob("*"):
        if path.is_file():
            left[str(path.relative_to(out.parent))] = path.read_bytes()
    return process.returncode, left


PATHS = {
    "all is well": ("ok", (), 0),
    "rows fail": ("rows", ("--max-failed-fraction", "1"), 1),
    "rows fail, beyond the limit": ("rows", ("--max-failed-fraction", "0"), 4),
    "every row is refused": ("INVALID_ARGUMENT", (), 2),
    "the model raises": ("INTERNAL", (), 4),
    "unknown": ("UNKNOWN", (), 4),
    "an outage": ("UNAVAILABLE", (), 3),
    "refused credentials": ("UNAUTHENTICATED", (), 2),
    "no permission": ("PERMISSION_DENIED", (), 2),
    "gone": ("NOT_FOUND", (), 2),
    "a full queue": ("RESOURCE_EXHAUSTED", (), 3),
    "late": ("DEADLINE_EXCEEDED", (), 4),
    "a secret on the command line": ("ok", ("--header", f"x-token={PASSWORD}"), 2),
    "an output that cannot be had": ("ok", ("--out", f"s3://u:{PASSWORD}@b/x?sig={SIGNATURE}"), 2),
    "a stranger's mapping": ("ok", ("--input-map", "z=x"), 2),
}
GIVEN_AWAY = {"a secret on the command line", "an output that cannot be had"}


@pytest.mark.parametrize("path", PATHS)
def test_no_artefact_of_any_failure_holds_a_secret(path, rows, tally):
    how, words, code = PATHS[path]
    secrets = [VARIABLE, FILE, PASSWORD, SIGNATURE]
    with Running(how) as server:
        for log_format in ("json", "text"):
            got, left = run(rows, server.address, *words, log_format=log_format)
            said = left["stderr"].decode()[-3000:]
            assert got == code or path in GIVEN_AWAY, (got, said)
            if path in GIVEN_AWAY:
                assert got in (2, 3), said
                del left["command line"]  # put there by whoever typed it; it is refused for that
            assert not hits(left, secrets), said
            logs = {
                name: left[name] for name in ("stderr", "first line", "metrics") if name in left
            }
            if log_format == "json":
                assert not hits(logs, [ROW]), said
            tally("P14: artefacts searched", len(left))
        tally("P14: failure paths", 2)


def test_tracebacks_of_the_library_hold_no_secret(rows, tally):
    access = tritonbulk.Access(headers={"authorization": VARIABLE, "x-api-key": FILE})
    for how in ("UNAUTHENTICATED", "INVALID_ARGUMENT", "INTERNAL", "UNAVAILABLE"):
        with Running(how) as server, pytest.raises(tritonbulk.TritonbulkError) as caught:
            tritonbulk.score(
                rows, model="double", out=rows.parent / how, endpoints=[server.address],
                access=access, max_outage_s=2,
            )  # fmt: skip
        text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert not hits({"traceback": text.encode()}, [VARIABLE, FILE])
        tally("P14: tracebacks searched")


def test_a_private_key_is_in_no_artefact(rows, tmp_path, tally):
    pair = Authority(tmp_path, "authority").pair("client")
    key = pair.key.read_text().splitlines()[1]
    with Running("ok") as server:
        code, left = run(
            rows, server.address, "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)
        )
    assert code == 2
    assert not hits(left, [key])
    tally("P14: artefacts searched", len(left))


@pytest.mark.parametrize("bug", ["errors are not redacted", "servers' words are not redacted"])
def test_a_leak_is_found(bug, rows, tally, monkeypatch):
    """The search has eyes: without redaction the same paths leave secrets."""
    (rows.parent / "bug").mkdir()
    (rows.parent / "bug" / "sitecustomize.py").write_text(
        "import tritonbulk.redaction as r\nr.redact = lambda text: text\n"
        "import tritonbulk.text as t\nt.redact = r.redact\n"
        if bug.startswith("errors")
        else "import tritonbulk.text as t\nt.redact = lambda text: text\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(rows.parent / "bug"))
    with Running("rows") as server:
        _, left = run(rows, server.address, "--max-failed-fraction", "1")
    assert hits(left, [VARIABLE, FILE])
    tally(f"P14: seeded bug found: {bug}")
