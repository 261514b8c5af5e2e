"""Model control: a run that loads its model into running servers, and takes it out at its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from tritonclient.grpc import service_pb2

from tritonbulk.errors import ModelError, OutageError
from tritonbulk.transport import AttemptFailedError, Endpoint

LOAD_S = 1800.0
"""Deadline of one load or unload: engines of many GB are read and warmed up."""

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
    may have been killed. Servers that do not answer then are told of by ``say``.

    Raises:
        ModelError: a server does not load it; says why. A retry does not help.
        OutageError: a server does not answer for ``max_outage_s``; a retry helps once it does.
    """
    try:
        if control.loads:
            say(f"loading model {model} into {_several(endpoints)}")
            await asyncio.gather(*(_load(each, model, max_outage_s) for each in endpoints))
        yield
    finally:
        if control.unloads:
            say(f"unloading model {model} from {_several(endpoints)}")
            for problem in await asyncio.gather(*(_unload(each, model) for each in endpoints)):
                if problem:
                    say(problem)


async def _load(endpoint: Endpoint, model: str, max_outage_s: float) -> None:
    await _wait_live(endpoint, max_outage_s)
    request = service_pb2.RepositoryModelLoadRequest(model_name=model)
    try:
        await endpoint.ask("RepositoryModelLoad", request, timeout_s=LOAD_S)
    except AttemptFailedError as error:
        raise ModelError(
            f"{endpoint.address} does not load model {model!r}: {error.failure.text}"
            f"{_hint(error.failure.text)}"
        ) from None


async def _unload(endpoint: Endpoint, model: str) -> str | None:
    """Unload a model, and what was loaded for it; return what stood in the way, if anything."""
    request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
    request.parameters["unload_dependents"].bool_param = True
    try:
        await endpoint.ask("RepositoryModelUnload", request, timeout_s=LOAD_S)
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
