"""The protocol over every interleaving: two clients, crashes, lost replies, models swapped.

Breadth first over explicit states. What the clients decide, they decide by the product's own
functions (`start`, `adopts`, `make_manifest`); seeded bugs change one step each and must be found.
A model that is swapped and swapped back between an answer and the commit, under one version, cannot
be told from one that stayed, so models here only go forward.
"""

from collections import deque
from dataclasses import dataclass, replace

import pytest

from tritonbulk.errors import DamagedError, OutputError
from tritonbulk.job.manifest import StoredPart, make_manifest
from tritonbulk.job.protocol import Standing, StandingJob, Start, adopts, start
from tritonbulk.job.spec import InputIdentity, JobFile, JobSpec, ModelIdentity
from tritonbulk.job.statement import PartStatement

SEGMENTS = 2
CRASHES_MAX = 2
LOST_MAX = 2
MODELS = ("A", "B", "C")


def spec(model):
    return JobSpec(
        inputs=(InputIdentity("in", 1, rows=SEGMENTS),),
        input_format="parquet",
        columns=(("x", "float"),),
        where=None,
        limit_rows=None,
        segment_rows=1,
        batch_rows=1,
        model=ModelIdentity("m", "1", model, ""),
        tensors={},
        output=(),
        encoding="parquet-1",
        vectors="list",
    )


SPECS = {model: spec(model) for model in MODELS}
FILES = {m: JobFile(s.to_plain(), s.fingerprint, "1") for m, s in SPECS.items()}


FINISHED = {
    m: StandingJob(
        file,
        make_manifest(
            file,
            [
                StoredPart("p", PartStatement(file.fingerprint, at, 0, at, at + 1, 1, 0, 0), 1, "")
                for at in range(SEGMENTS)
            ],
        ),
    )
    for m, file in FILES.items()
}


@dataclass(frozen=True)
class Part:
    """A stored part: the job it claims, the model that really answered, and whose bytes it is."""

    claims: str
    model: str
    serial: int
    torn: bool = False


@dataclass(frozen=True)
class Client:
    """One process: where it is, what it believes."""

    at: str = "look"
    model: str = ""  # of its fingerprint
    segment: int = 0
    answer: str = ""  # model that answered for the segment in hand
    known: tuple[str | None, ...] = (None,) * SEGMENTS  # digests it would list


@dataclass(frozen=True)
class State:
    job: str = ""  # model of job.json
    parts: tuple[Part | None, ...] = (None,) * SEGMENTS
    manifest: tuple[tuple[int, str], ...] = ()
    server: str = "A"
    crashes: int = 0
    lost: int = 0
    serial: int = 0
    clients: tuple[Client, ...] = (Client(), Client())


def statement(model, segment):
    return PartStatement(FILES[model].fingerprint, segment, 0, segment, segment + 1, 1, 0, 0)


def digest(part):
    return f"{part.claims}{part.model}{part.serial}{part.torn}"


def step(state, who, bugs):
    """Yield the states that one step of a client can lead to."""
    me = state.clients[who]

    def become(client, **changes):
        clients = list(state.clients)
        clients[who] = client
        return replace(state, clients=tuple(clients), **changes)

    match me.at:
        case "look":
            # The server is asked first: the model at this moment is the one in the fingerprint.
            yield become(replace(me, at="begin", model=state.server))
        case "begin":
            yield from begin(state, me, become, bugs)
        case "infer":
            yield become(replace(me, at="confirm", answer=state.server))
        case "confirm":
            fits = state.server == me.model or "no confirmation" in bugs
            # Its answer belongs to the model of the fingerprint only while the server still does.
            yield become(replace(me, at="put" if fits else "stopped"))
        case "put":
            yield from put(state, me, become, bugs)
        case "adopt":
            yield adopt(state, me, become, bugs)
        case "finish":
            yield from finish(state, me, become, bugs)


def begin(state, me, become, bugs):
    jobs = ()
    if state.job:
        unfinished = StandingJob(FILES[state.job], None)
        jobs = (FINISHED[state.job] if state.manifest else unfinished,)
    try:
        decided = start(Standing("out", jobs, {}), SPECS[me.model], is_fresh=False)
    except OutputError:
        if "no fingerprint" not in bugs:
            yield become(replace(me, at="stopped"))
            return
        decided = Start.CONTINUE
    if decided is Start.FINISHED:
        yield become(replace(me, at="stopped"))
    elif decided is Start.CREATE:
        # Created, then read back: the next look judges what stands there, ours or a rival's.
        yield become(me, job=me.model)
        if state.lost < LOST_MAX:
            yield become(me, lost=state.lost + 1)
    else:
        known = [None] * SEGMENTS
        for segment, part in enumerate(state.parts):
            if part is not None and (part.claims == me.model or "no fingerprint" in bugs):
                known[segment] = digest(part)
        yield become(ahead(replace(me, known=tuple(known)), bugs))


def ahead(me, bugs):
    missing = [segment for segment, known in enumerate(me.known) if known is None]
    if not missing or ("early manifest" in bugs and len(missing) < SEGMENTS):
        return replace(me, at="finish")
    return replace(me, at="infer", segment=missing[0])


def put(state, me, become, bugs):
    part = Part(me.model, me.answer, state.serial + 1)
    taken = state.parts[me.segment] is not None

    def stored(new):
        parts = list(state.parts)
        parts[me.segment] = new
        return {"parts": tuple(parts), "serial": state.serial + 1}

    own = ahead_after(me, digest(part), bugs)
    if taken and "overwrite" not in bugs:
        # Refused; the loser looks, unless the bug lets it list the bytes that it had sent.
        yield become(own if "own digest" in bugs else replace(me, at="adopt"))
        return
    yield become(replace(me, at="adopt"), **stored(part))
    if "overwrite" in bugs:
        yield become(own, **stored(part))
    if "torn write" in bugs:
        yield become(
            replace(me, at="look", known=(None,) * SEGMENTS), **stored(replace(part, torn=True))
        )
    if state.lost < LOST_MAX:
        lost = {"lost": state.lost + 1}
        yield become(replace(me, at="adopt"), **stored(part), **lost)  # done, its reply lost
        yield become(replace(me, at="adopt"), **lost)  # never arrived


def adopt(state, me, become, bugs):
    part = state.parts[me.segment]
    if part is None:
        return become(replace(me, at="put"))
    if not adopts(statement(part.claims, me.segment), statement(me.model, me.segment)):
        return become(replace(me, at="stopped"))
    return become(ahead_after(me, digest(part), bugs))


def ahead_after(me, listed, bugs):
    known = list(me.known)
    known[me.segment] = listed
    return ahead(replace(me, known=tuple(known)), bugs)


def finish(state, me, become, bugs):
    listed = [
        StoredPart("p", statement(me.model, segment), 1, known)
        for segment, known in enumerate(me.known)
        if known is not None
    ]
    try:
        entries = make_manifest(FILES[me.model], listed).parts
    except DamagedError:
        if "early manifest" not in bugs:
            raise
        entries = [part.to_plain() for part in listed]
    manifest = state.manifest or tuple((entry["segment"], entry["sha256"]) for entry in entries)
    yield become(replace(me, at="stopped"), manifest=manifest)


def environment(state):
    """Yield what may happen at any time: a swap of the model, a crash of either client."""
    if state.server != MODELS[-1]:
        yield replace(state, server=MODELS[MODELS.index(state.server) + 1])
    if state.crashes < CRASHES_MAX:
        for who, client in enumerate(state.clients):
            if client != Client():
                clients = list(state.clients)
                clients[who] = Client()
                yield replace(state, clients=tuple(clients), crashes=state.crashes + 1)


def fault(state):
    """Return what is wrong with a state, None if nothing is."""
    if not state.manifest:
        return None
    if [segment for segment, _ in state.manifest] != list(range(SEGMENTS)):
        return "the manifest does not list every segment"
    for segment, listed in state.manifest:
        part = state.parts[segment]
        if part is None or digest(part) != listed:
            return "the manifest's digest is not the stored part's"
        if part.torn:
            return "a part is torn"
    if len({part.model for part in state.parts}) > 1:
        return "parts of two models stand under one manifest"
    if state.parts[0].model != state.job:
        return "the parts are not of the model that the job names"
    return None


def explore(bugs=()):
    """Return (states, finished states, first fault or None)."""
    seen, queue, finished = {State()}, deque([State()]), 0
    while queue:
        state = queue.popleft()
        if found := fault(state):
            return len(seen), finished, found
        finished += bool(state.manifest)
        successors = list(environment(state))
        for who in range(len(state.clients)):
            successors += step(state, who, bugs)
        for successor in successors:
            if successor not in seen:
                seen.add(successor)
                queue.append(successor)
    return len(seen), finished, None


def test_no_interleaving_breaks_a_promise():
    states, finished, found = explore()
    print(f"{states:,} states, {finished:,} of them finished")
    assert found is None
    assert states > 20_000
    assert finished > 1_000


@pytest.mark.parametrize(
    ("bug", "fault_found"),
    [
        ("no fingerprint", "two models|not of the model|digest"),
        ("no confirmation", "two models|not of the model"),
        ("overwrite", "digest"),
        ("torn write", "torn"),
        ("own digest", "digest"),
        ("early manifest", "every segment"),
    ],
)
def test_a_seeded_bug_is_found(bug, fault_found):
    _, _, found = explore((bug,))
    assert found is not None, f"{bug}: not found"
    assert any(words in found for words in fault_found.split("|")), found
