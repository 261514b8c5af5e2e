"""Bottleneck: which stage bounded a run, from the seconds that each was busy. Pure.

A run is a pipeline: a reader thread, the event loop (encode, send, decode), a writer thread, and
the instances of the model. The stage that is busy nearly all of the time bounds the rate (the
utilization law of queueing networks). Where none is, requests wait for each other's round trips,
and the largest share of these bounds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tritonbulk.server_statistics import ServerSeconds

Stage = Literal[
    "read", "encode", "wire", "server queue", "server compute", "server or wire", "decode", "write"
]
"""Stages in the order in which a row meets them; "server or wire" if the server does not tell."""

SATURATED_SHARE = 0.75
"""Share of the time from which on a resource counts as busy all along: ramps at both ends and short
waits for a processor take the rest."""


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """What a run measured of itself.

    Attributes:
        wall_s: length of the run.
        read_s: the reader thread was busy.
        encode_s: the event loop laid out requests.
        decode_s: the event loop checked answers and put them in place.
        loop_s: processor time of the event loop, these two included.
        write_s: the writer thread was busy.
        under_way_s: at least one request was under way.
        round_trips_s: sum over all requests of the time from sending to answer.
        requests: how many these were.
    """

    wall_s: float
    read_s: float
    encode_s: float
    decode_s: float
    loop_s: float
    write_s: float
    under_way_s: float
    round_trips_s: float
    requests: int


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a run kept what; shares of its wall time from 0 to 1, times of a mean request.

    Attributes:
        read: of the reader thread.
        encode: of the event loop, laying out requests.
        decode: of the event loop, checking answers and putting them in place.
        loop: of the event loop in all.
        write: of the writer thread.
        under_way: with at least one request under way.
        instances: of the model's instances; None if the server does not tell.
        round_trip_ms: from sending to answer.
        queue_ms: of this, waiting in the server; None if the server does not tell.
        compute_ms: of this, the rest of the time in the server; None if the server does not tell.
    """

    read: float
    encode: float
    decode: float
    loop: float
    write: float
    under_way: float
    instances: float | None
    round_trip_ms: float
    queue_ms: float | None
    compute_ms: float | None


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What bounded the rate of a run.

    Attributes:
        stage: where a faster one would have helped most.
        is_saturated: whether it was busy nearly all of the time; if not, no stage was, and this is
            where most of the time went.
        load: the figures behind it.
    """

    stage: Stage
    is_saturated: bool
    load: Load


def find_bottleneck(stages: StageSeconds, server: ServerSeconds | None) -> Bottleneck | None:
    """Return what bounded a run; None if it sent no request.

    Args:
        stages: measured here.
        server: counted by the servers over the same span; None if they do not tell.
    """
    if not stages.requests:
        return None
    load = _load(stages, server)
    busy: dict[Stage, float] = {
        "read": load.read,
        _loop_stage(load): load.loop,
        "write": load.write,
        "server compute": load.instances or 0.0,
    }
    stage = max(busy, key=busy.__getitem__)
    if busy[stage] >= SATURATED_SHARE:
        return Bottleneck(stage, is_saturated=True, load=load)
    for name, share in _round_trip_shares(load).items():
        busy[name] = max(busy.get(name, 0.0), share * load.under_way)
    return Bottleneck(max(busy, key=busy.__getitem__), is_saturated=False, load=load)


def describe(bottleneck: Bottleneck) -> str:
    """Return the bottleneck and the figures behind it in one line of plain English."""
    load = bottleneck.load
    verdict = "busy nearly all of the time" if bottleneck.is_saturated else "none stands out"
    text = (
        f"{bottleneck.stage} ({verdict}: read {load.read:.0%}, event loop {load.loop:.0%} "
        f"(encode {load.encode:.0%}, decode {load.decode:.0%}), write {load.write:.0%}"
    )
    if load.instances is not None:
        text += f", model instances {load.instances:.0%}"
    if load.round_trip_ms:
        text += f"; a request took {load.round_trip_ms:.1f} ms"
    if load.queue_ms is not None and load.compute_ms is not None:
        text += f", {load.queue_ms:.1f} in the server's queue, {load.compute_ms:.1f} in compute"
    return text + ")"


def _load(stages: StageSeconds, server: ServerSeconds | None) -> Load:
    wall_s = max(stages.wall_s, 1e-9)
    instances = queue_ms = compute_ms = None
    if server is not None and server.requests:
        queue_ms = server.queue_s / server.requests * 1e3
        compute_ms = server.compute_s / server.requests * 1e3
        if server.instances and server.executing_s:
            instances = _share(server.executing_s, wall_s * server.instances)
    return Load(
        read=_share(stages.read_s, wall_s),
        encode=_share(stages.encode_s, wall_s),
        decode=_share(stages.decode_s, wall_s),
        # Where processors are short, the wall time of the two exceeds the processor time of all.
        loop=_share(max(stages.loop_s, stages.encode_s + stages.decode_s), wall_s),
        write=_share(stages.write_s, wall_s),
        under_way=_share(stages.under_way_s, wall_s),
        instances=instances,
        round_trip_ms=round(stages.round_trips_s / max(stages.requests, 1) * 1e3, 3),
        queue_ms=None if queue_ms is None else round(queue_ms, 3),
        compute_ms=None if compute_ms is None else round(compute_ms, 3),
    )


def _share(seconds: float, of_s: float) -> float:
    # Clocks of several threads and processes do not agree to the last digit.
    return round(min(seconds / of_s, 1.0), 4)


def _loop_stage(load: Load) -> Stage:
    """Return what the event loop does most; what is neither encode nor decode is the wire."""
    parts: dict[Stage, float] = {
        "encode": load.encode,
        "decode": load.decode,
        "wire": load.loop - load.encode - load.decode,
    }
    return max(parts, key=parts.__getitem__)


def _round_trip_shares(load: Load) -> dict[Stage, float]:
    """Return the shares of a mean round trip; they make 1 together."""
    if load.queue_ms is None or load.compute_ms is None:
        return {"server or wire": 1.0}
    in_server_ms = load.queue_ms + load.compute_ms
    whole_ms = max(load.round_trip_ms, in_server_ms, 1e-9)
    return {
        "wire": (whole_ms - in_server_ms) / whole_ms,
        "server queue": load.queue_ms / whole_ms,
        "server compute": load.compute_ms / whole_ms,
    }
