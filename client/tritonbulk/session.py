"""Session: the servers of a run, started or reached, and what they say of the model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2

from tritonbulk.access import PLAIN, Access
from tritonbulk.contract import Contract
from tritonbulk.driver import settle_some
from tritonbulk.errors import (
    ContractError,
    InputError,
    ModelError,
    OutageError,
    ServerGoneError,
    UsageError,
)
from tritonbulk.fleet import Healer
from tritonbulk.model_control import LEFT_ALONE, ModelControl, controlled
from tritonbulk.risks import risks
from tritonbulk.scorer_options import DEFAULT_REPOSITORY, ScorerOptions
from tritonbulk.transport import (
    Endpoint,
    ServedModel,
    SharedMemoryAccess,
    Target,
    mixture,
    resolve,
)

if TYPE_CHECKING:
    from tritonbulk.server.embedded import EmbeddedTriton

READY_GRACE_S = 5.0
"""How long the other servers may take once one is ready."""

RESOLVE_PAUSE_S = 0.5
"""Pause before names that cannot be resolved are tried again."""

CONFIRM_PAUSE_S = 0.5
"""Pause before servers that do not answer are asked again what they serve."""

CONFIRM_S = 10.0
"""How long they are asked while there are others, which can score the rows anew."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What only the owner of an embedded server knows of it.

    Attributes:
        pid: process id of tritonserver.
        metrics: address of its metrics.
        admin_headers: open model control; a secret.
    """

    pid: int
    metrics: str
    admin_headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Servers:
    """Where a run sends its requests.

    Attributes:
        addresses: of the endpoints.
        access: how they are reached.
        watch: raises if an embedded server can no longer serve.
        heal: mends an embedded server; None with servers that are not ours.
        shared_memory: how memory is shared with them; None if it must not, or cannot.
        embedded: the embedded server, if it is one of ours; else None.
    """

    addresses: tuple[str, ...]
    access: Access
    watch: Callable[[], None]
    shared_memory: SharedMemoryAccess | None = None
    embedded: Embedded | None = None
    heal: Healer | None = None

    def connect(self, target: Target) -> Endpoint:
        """Return a new connection to one server."""
        return Endpoint(target, self.access)


@contextlib.asynccontextmanager
async def serve(options: ScorerOptions, say: Callable[[str], None]) -> AsyncIterator[Servers]:
    """Give the servers of a run: the endpoints asked for, else an embedded one for its length."""
    if options.endpoints:
        with _shared_memory_access(options.trust_shared_memory) as access:
            yield Servers(options.endpoints, options.access, lambda: None, access)
        return
    # Deferred: the embedded server is Linux only, scoring against an endpoint is not.
    from tritonbulk.server.embedded import EmbeddedTriton  # noqa: PLC0415

    repository = options.repository or DEFAULT_REPOSITORY
    if not repository.is_dir():
        raise UsageError(
            f"model repository {repository} does not exist; name one with --repository, or a "
            "running server with --endpoint"
        )
    if not (repository / options.model).is_dir():
        names = sorted(entry.name for entry in repository.iterdir() if entry.is_dir())
        raise UsageError(
            f"model repository {repository} has no model {options.model!r}; it has "
            f"{', '.join(names) or 'no models at all'}"
        )
    say(f"starting the embedded Triton server on {repository}")
    # Nobody else uses this server, so when the run is over nothing is in flight to wait for.
    async with EmbeddedTriton(
        repository,
        models=[options.model],
        instances=options.instances_pinned,
        cpu=options.cpu,
        queue_delay_us=options.profile.queue_delay_us if options.profile else None,
        max_batch_size=options.profile.max_batch_size if options.profile else None,
        stop_deadline_s=0,
        say=say,
    ) as server:
        say(f"serving {options.model} at {server.grpc}")
        access = SharedMemoryAccess(
            server.shared_memory_prefix, server.admin_headers, is_abandoned=lambda _: False
        )
        embedded = Embedded(server.pid, server.metrics, server.admin_headers)
        heal = partial(_heal_embedded, server, say)
        yield Servers((server.grpc,), PLAIN, server.check, access, embedded, heal)


async def _heal_embedded(
    server: EmbeddedTriton,
    say: Callable[[str], None],
    _: Endpoint,
    is_sick: bool,
) -> None:
    """Start the embedded server again if it, or a process of it, died or hangs; see `Care.heal`.

    To load the model again is not enough: tritonserver 2.51 does so once, and from then on takes
    a model whose files have not changed for loaded, dead process or not.

    Raises:
        StartError: it does not start any more.
    """
    if is_sick or server.has_ended:
        say(f"the embedded {_ill(server)}; starting it again")
        await asyncio.to_thread(server.restart)


def _ill(server: EmbeddedTriton) -> str:
    """Return what is wrong with an embedded server that cannot be used."""
    if server.has_ended:
        return "server died"
    try:
        server.check()
    except ServerGoneError:
        return "server's process that runs the model died"
    return "server answers nothing any more"


@contextlib.contextmanager
def _shared_memory_access(is_trusted: bool) -> Iterator[SharedMemoryAccess | None]:
    """Give the right to share memory with servers that are not ours, if the user trusts them."""
    if not is_trusted:
        yield None
        return
    from tritonbulk.server import runs  # noqa: PLC0415 - Linux only, as shared memory is

    with contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(runs.new_run())
        except (OSError, ImportError):
            yield None
        else:
            yield SharedMemoryAccess(run.prefix, {}, runs.is_abandoned)


@contextlib.asynccontextmanager
async def connect(
    servers: Servers,
    options: ScorerOptions,
    say: Callable[[str], None],
    control: ModelControl = LEFT_ALONE,
) -> AsyncIterator[tuple[list[Endpoint], ServedModel]]:
    """Give a connection to every server that has the model ready, and the one model they serve.

    Servers that are not ready `READY_GRACE_S` after the first one are left out; ``say`` is told.
    ``control`` says whether they load it within, and unload it after.

    Raises:
        ModelError: a server does not know the model, or two serve different ones; no retry.
        OutageError: no server is ready in time; a retry helps once one is.
    """
    async with contextlib.AsyncExitStack() as stack:
        endpoints = [
            await stack.enter_async_context(servers.connect(target))
            for target in await _targets(servers.addresses, options.outage_s, say)
        ]
        await stack.enter_async_context(
            controlled(control, endpoints, options.model, options.outage_s, say)
        )
        waits = [
            each.wait_ready(options.model, options.model_version, options.outage_s, say)
            for each in endpoints
        ]
        problems = await settle_some(waits, READY_GRACE_S)
        for endpoint, problem in zip(endpoints, problems, strict=True):
            if problem is not None:
                why = str(problem).removeprefix(f"{endpoint.address} ")
                say(f"going on without {endpoint.address}: {why}")
        endpoints = [e for e, problem in zip(endpoints, problems, strict=True) if problem is None]
        if options.endpoints:
            known = [await endpoint.server() for endpoint in endpoints]
            for risk in risks(servers.access, [e.address for e in endpoints], known):
                say(risk)
        described = [await e.describe(options.model, options.model_version) for e in endpoints]
        served = {each.address: model for each, model in zip(endpoints, described, strict=True)}
        if mixed := mixture(served):
            one = len({model.version for model in described}) == 1
            advice = "leave out those you do not mean" if one else "give one with --model-version"
            raise ModelError(
                f"the endpoints serve different versions or forms of model {options.model!r}: "
                f"{mixed}; {advice}"
            )
        yield endpoints, described[0]


async def _targets(
    addresses: Sequence[str], max_outage_s: float, say: Callable[[str], None]
) -> list[Target]:
    """Return the servers that the endpoints stand for, as soon as there is one.

    Raises:
        OutageError: no name can be resolved in time; a retry helps once one can.
    """
    waited_s = 0.0
    while True:
        found = [target for each in addresses for target in await resolve(each)]
        if found:
            return list(dict.fromkeys(found))  # one that was given twice is one
        names = ", ".join(addresses)
        if waited_s >= max_outage_s:
            raise OutageError(
                f"{names} could not be resolved within {waited_s:g} s; check the name"
            )
        if not waited_s:
            say(f"waiting for {names} to be resolved")
        await asyncio.sleep(RESOLVE_PAUSE_S)
        waited_s += RESOLVE_PAUSE_S


def confirmation(
    endpoints: Callable[[], Sequence[Endpoint]], model: ServedModel, max_outage_s: float
) -> Callable[[frozenset[int]], Awaitable[frozenset[int]]]:
    """Return what asks those who answered whether they still serve the model that was planned for.

    The returned function takes positions of what ``endpoints`` returns, and returns those that did
    not answer this within `CONFIRM_S` seconds. Where there are no others it goes on asking until
    ``max_outage_s`` seconds have passed.

    It raises:
        ModelError: a server serves it no longer, or in another form; no retry.
        OutageError: no server answers; a retry helps once one does.
    """

    async def confirm(answered: frozenset[int]) -> frozenset[int]:
        clock = asyncio.get_running_loop().time
        began_s, silent = clock(), answered
        while silent := await _silent(endpoints(), silent, model):
            waited_s = clock() - began_s
            if len(silent) < len(endpoints()) and waited_s >= min(CONFIRM_S, max_outage_s):
                return silent
            if waited_s >= max_outage_s:
                raise OutageError(
                    f"no server has confirmed within {max_outage_s:g} s that it still serves model "
                    f"{model.name!r} as it did; check the servers, then run again"
                )
            await asyncio.sleep(CONFIRM_PAUSE_S)
        return frozenset()

    return confirm


async def _silent(
    endpoints: Sequence[Endpoint], asked: frozenset[int], model: ServedModel
) -> frozenset[int]:
    """Return those that do not answer whether they serve the model as planned.

    Raises:
        ModelError: it says that it does not; a retry does not help.
        OutageError: it does not answer.
    """
    positions = sorted(asked)
    said = await asyncio.gather(
        *(endpoints[at].config_digest(model.name, model.version) for at in positions)
    )
    for at, digest in zip(positions, said, strict=True):
        if digest not in (None, model.config_digest):
            raise ModelError(
                f"{endpoints[at].address} has another model {model.name!r} than when the run "
                "began, under the same version; give it a version of its own, then run again"
            )
    return frozenset(at for at, digest in zip(positions, said, strict=True) if digest is None)


async def read_statistics(
    endpoints: Sequence[Endpoint], model: ServedModel
) -> list[service_pb2.ModelStatistics | None]:
    """Return each server's counters of the model; None for one that does not tell."""
    readings = (endpoint.statistics(model.name, model.version) for endpoint in endpoints)
    return await asyncio.gather(*readings)


def read_contract(options: ScorerOptions) -> Contract | None:
    """Return the contract of an explicitly given repository, if it has one for the model."""
    if options.repository is None:
        return None
    if not options.repository.is_dir():
        raise UsageError(f"model repository {options.repository} does not exist; check the path")
    path = options.repository / options.model / "contract.json"
    try:
        return Contract.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); check its permissions") from error
