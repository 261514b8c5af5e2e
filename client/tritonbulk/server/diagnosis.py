"""What tritonserver's log means: is it ready, has a port been taken, why did it not start.

The texts are those of tritonserver 2.51; pure functions over the log so far.
"""

from __future__ import annotations

import re

LOGGED_ERROR = re.compile(r'^E\d{4} \S+ \d+ \S+\] "(?P<text>.*)"$')
PROTOBUF_ERROR = re.compile(r"^\[libprotobuf ERROR [^\]]*\] (?P<text>.*)$")
SERVER_ERROR = re.compile(r"^error: (?P<text>.*)$")
STARTED = re.compile(r'"Started (GRPCInferenceService|HTTPService|Metrics Service) at ')
PORT_TAKEN = re.compile(r"failed to start .* service: Unavailable - Socket '.*' already in use")
STUB_CANNOT_LOAD = "error while loading shared libraries: "

NOISE = ("CudaDriverHelper has not been initialized", "ERROR: Failed to create instance")
SUMMARY = "creating server: Internal - failed to load all models"
CAUSES_MAX = 5
FALLBACK_LINES = 3


def services_started(log: str) -> int:
    """Return how many of the services (gRPC, HTTP, metrics) say that they were started.

    A service whose port is taken says so *after* it said that it was started.
    """
    return len(STARTED.findall(log))


def port_taken(log: str) -> bool:
    """Return whether a port that was free a moment ago belongs to somebody else now."""
    # A bad TLS certificate gives the same text, but the embedded server has none.
    return PORT_TAKEN.search(log) is not None


def missing_library(log: str) -> str | None:
    """Return what the loader says if a stub could not be loaded: then the server waits for ever."""
    _, found, rest = log.partition(STUB_CANNOT_LOAD)
    return rest.splitlines()[0] if found and rest else None


def causes(log: str) -> tuple[str, ...]:
    """Return why the server did not start: Triton's own words without what surrounds them.

    At most ``CAUSES_MAX`` texts, in the order of the log, each once; the last lines of the log if
    nothing in it is a known form of error.
    """
    found: dict[str, None] = {}
    if library := missing_library(log):
        found[STUB_CANNOT_LOAD + library] = None
    for line in log.splitlines():
        match = LOGGED_ERROR.match(line) or PROTOBUF_ERROR.match(line) or SERVER_ERROR.match(line)
        if match is None or any(noise in line for noise in NOISE):
            continue
        # The backend's Python frames follow after an empty line; newlines are logged as \n.
        found[match["text"].split(r"\n\nAt:")[0].replace(r"\n", " ").strip()] = None
    if len(found) > 1:
        found.pop(SUMMARY, None)
    if not found:
        return tuple(line for line in log.splitlines() if line.strip())[-FALLBACK_LINES:]
    return tuple(found)[:CAUSES_MAX]
