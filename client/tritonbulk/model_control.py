"""Model control: a run that loads its model into running servers, and takes it out at its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from tritonclient.grpc import service_pb2

from tritonbulk.dispatch.policy import Meaning, meaning
from tritonbulk.driver import settle_some
from tritonbulk.errors import ModelError, OutageError
from tritonbulk.transport import AttemptFailedError, Endpoint

LIVE_GRACE_S = 5.0
"""How long the other servers may take to answer once one does."""

LOAD_S = 1800.0
"""Deadline of one load: engines of many GB are read and warmed up."""

UNLOAD_S = 60.0
"""Deadline of one unload, which may come after SIGTERM."""

_TRANSIENT = frozenset({Meaning.LOST, Meaning.AWAY, Meaning.LATE, Meaning.BUSY})

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class ModelControl:
    """What servers are asked to do about the model of a run.

    Attributes:
        loads: load it first.
        unloads: unload it at the end.
    """

    loads: bool = False
    unloads: bool = False


LEFT_ALONE = ModelControl()
"""Servers keep the models that they have."""


@contextlib.asynccontextmanager
async def controlled(
    control: ModelControl,
    endpoints: Sequence[Endpoint],
    model: str,
    max_outage_s: float,
    say: Callable[[str], None],
) -> AsyncIterator[None]:
    """Have a model loaded by all servers within, and by none of them after, as far as asked for.

    It is unloaded whatever ends the block, also where others had loaded it: a run before this one
    may have been killed. Servers that do not answer then are told of by ``say``, as are those into
    which it is not loaded because they do not answer while others do.

    Raises:
        ModelError: a server does not load it; says why. A retry does not help.
        OutageError: no server answers for ``max_outage_s``, or all are lost while they load it; a
            retry helps once one does.
    """
    try:
        if control.loads:
            await _load_all(endpoints, model, max_outage_s, say)
        yield
    finally:
        if control.unloads:
            say(f"unloading model {model} from {_several(endpoints)}")
            for problem in await asyncio.gather(*(_unload(each, model) for each in endpoints)):
                if problem:
                    say(problem)


async def _load_all(
    endpoints: Sequence[Endpoint], model: str, max_outage_s: float, say: Callable[[str], None]
) -> None:
    waits = [_wait_live(each, max_outage_s) for each in endpoints]
    problems = await settle_some(waits, LIVE_GRACE_S)
    live = [each for each, problem in zip(endpoints, problems, strict=True) if problem is None]
    say(f"loading model {model} into {_several(live)}")
    problems += await settle_some([_load(each, model) for each in live], LOAD_S)
    for endpoint, problem in zip([*endpoints, *live], problems, strict=True):
        if problem is not None:
            why = str(problem).removeprefix(f"{endpoint.address} ")
            say(f"model {model} is not loaded into {endpoint.address}: {why}")


async def _load(endpoint: Endpoint, model: str) -> None:
    request = service_pb2.RepositoryModelLoadRequest(model_name=model)
    try:
        await endpoint.ask("RepositoryModelLoad", request, timeout_s=LOAD_S)
    except AttemptFailedError as error:
        text = error.failure.text
        hint = _hint(text)
        if not hint and meaning(error.failure) in _TRANSIENT:
            raise OutageError(
                f"{endpoint.address} was lost while it loaded model {model!r} ({error.failure}); "
                "look at its log (memory?), then run again"
            ) from None
        raise ModelError(
            f"{endpoint.address} does not load model {model!r}: {text}{hint}"
        ) from None


async def _unload(endpoint: Endpoint, model: str) -> str | None:
    """Unload a model, and what was loaded for it; return what stood in the way, if anything."""
    request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
    request.parameters["unload_dependents"].bool_param = True
    try:
        await endpoint.ask("RepositoryModelUnload", request, timeout_s=UNLOAD_S)
    except AttemptFailedError as error:
        text = error.failure.text
        return f"{endpoint.address} has not unloaded model {model!r}: {text}{_hint(text)}"
    return None


async def _wait_live(endpoint: Endpoint, max_outage_s: float) -> None:
    """Return once a server answers; one that has just been started takes a while."""
    clock = asyncio.get_running_loop().time
    began_s = clock()
    while True:
        try:
            await endpoint.ask("ServerLive", service_pb2.ServerLiveRequest())
        except AttemptFailedError as error:
            if clock() - began_s + _POLL_S > max_outage_s:
                raise OutageError(
                    f"{endpoint.address} did not answer within {max_outage_s:g} s "
                    f"({error.failure}); check that the server runs there"
                ) from None
            await asyncio.sleep(_POLL_S)
        else:
            return


def _hint(text: str) -> str:
    if "restricted" in text:
        return "; give the header that opens model control by --header-env or --header-file"
    if "explicit" in text or "polling" in text or "not allow" in text:
        return "; start the server with --model-control-mode=explicit"
    return ""


def _several(endpoints: Sequence[Endpoint]) -> str:
    others = len(endpoints) - 1
    return endpoints[0].address + (f" and {others} more" if others else "")
