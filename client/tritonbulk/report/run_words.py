"""What stages, outcomes and states of a run are called in its report, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping

from tritonbulk.bottleneck import Stage
from tritonbulk.events import EndpointState

BOUND_BY: Mapping[Stage, str] = {
    "read": "Reading the input",
    "encode": "Laying out requests in this process",
    "wire": "The way to the server and back",
    "server queue": "Waiting in the server's queue",
    "server compute": "The model's compute",
    "server or wire": "The server, or the way to it",
    "decode": "Taking answers apart in this process",
    "write": "Writing the output",
}

ADVICE: Mapping[Stage, str] = {
    "read": "A faster server will not help. Parquet reads faster than text, fewer columns faster "
    "than many (--columns), a local disk faster than an object store.",
    "encode": "A faster server will not help. More rows a request, or two runs that share the "
    "files, will; columns that are numbers already are laid out fastest.",
    "wire": "Larger requests (--batch-rows) or more of them in flight help, as does a server on "
    "this machine with shared memory.",
    "server queue": "Requests waited for each other: more instances, or a model that takes larger "
    "batches, would help; a faster client would not.",
    "server compute": "The model is what takes the time: more instances, a GPU, another precision "
    "or larger batches would help; a faster client would not. tritonbulk bench tells which.",
    "server or wire": "The server does not tell its statistics, so its share is unknown; "
    "tritonbulk bench finds out by trying.",
    "decode": "A faster server will not help. More rows a request, or fewer outputs, will.",
    "write": "A faster server will not help. Fewer kept columns (--keep), --out-format arrow, or a "
    "faster disk or store will.",
}

MEANINGS: Mapping[str, str] = {
    "busy": "not executed: the server had too many requests",
    "away": "not executed: the server was starting, ending, reloading or out of reach",
    "lost": "the connection broke under way",
    "late": "no answer in time",
    "sick": "the process that runs the model had died",
    "suspect": "an error of some row, or of the server: the rows were sent again in halves",
    "rejected": "the model or the server refused this request alone",
    "wrong": "an answer that is not what the model promises; it was not kept",
    "oversize": "larger than the server, or a proxy before it, takes",
    "stop": "nothing that is sent can succeed",
}

STATES: Mapping[EndpointState, str] = {
    "up": "gets requests",
    "resting": "rests after failures",
    "probing": "is asked whether it answers again",
    "gone": "gets no more requests",
}
