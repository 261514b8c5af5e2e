"""Servers: whether each endpoint answers, what it is, and how it serves the model."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from statistics import median

from tritonclient.grpc import service_pb2

from tritonbulk.access import Access
from tritonbulk.contract import row_bytes
from tritonbulk.dispatch.limits import REQUEST_BYTES_MAX, batch_rows_auto
from tritonbulk.doctor.finding import Finding
from tritonbulk.doctor.model import judge_model
from tritonbulk.errors import AuthError, OptionError, TritonbulkError
from tritonbulk.risks import SECURITY_FLOOR, risks
from tritonbulk.transport import AttemptFailedError, Endpoint, Target, resolve
from tritonbulk.transport.served_model import describe
from tritonbulk.transport.tls import check_tls, may_be_tls

ROUND_TRIPS = 5
"""Questions whose median time is the round trip."""

PROBE_MODEL = "tritonbulk-doctor"
"""Name that no model has: requests for it pass every proxy and are refused by the server."""


async def look_at_servers(
    endpoints: Sequence[str], model: str | None, version: str | None, access: Access
) -> list[Finding]:
    """Return what was found of the servers and of the model that they serve."""
    found: list[Finding] = []
    for given in endpoints:
        targets = await resolve(given)
        if not targets:
            found.append(
                Finding("endpoint", "problem", given, "the name is not resolved", "check the name")
            )
        for target in targets:
            found += [each async for each in _look(target, model, version, access)]
    return found


async def _look(
    target: Target, model: str | None, version: str | None, access: Access
) -> AsyncIterator[Finding]:
    async with Endpoint(target, access) as endpoint:
        reached = await _reach(endpoint, access)
        yield reached
        if reached.level == "problem":
            return
        yield await _version(endpoint, access)
        if model is None:
            yield await _probe(endpoint, REQUEST_BYTES_MAX)
            return
        ready = await _ready(endpoint, model, version)
        yield ready
        if ready.level != "problem":
            async for each in _look_at_model(endpoint, model, version):
                yield each


async def _reach(endpoint: Endpoint, access: Access) -> Finding:
    """Say whether a server answers, and how fast."""
    question = service_pb2.ServerLiveRequest()
    try:
        await endpoint.ask("ServerLive", question)
        seconds = []
        for _ in range(ROUND_TRIPS):
            began_s = time.perf_counter()
            await endpoint.ask("ServerLive", question)
            seconds.append(time.perf_counter() - began_s)
    except AttemptFailedError as error:
        text = error.failure.text
        if may_be_tls(text):
            try:
                await asyncio.to_thread(check_tls, endpoint.address, access)
            except (AuthError, OptionError) as told:
                return Finding("endpoint", "problem", endpoint.address, str(told), "see above")
        fix = "check that tritonserver runs there, and that this is its gRPC port (8001 by default)"
        if error.failure.status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            fix = "give credentials by --header-env or --header-file"
        said = f"it does not answer ({error.failure.status}: {text})"
        return Finding("endpoint", "problem", endpoint.address, said, fix)
    took_ms = median(seconds) * 1000
    return Finding("endpoint", "ok", endpoint.address, f"answers within {took_ms:.1f} ms")


async def _version(endpoint: Endpoint, access: Access) -> Finding:
    about, known = endpoint.address, await endpoint.server()
    if known is None:
        return Finding(
            "version", "unknown", about, "the server does not tell its version",
            f"see that it is at least {_floor()}",
        )  # fmt: skip
    name, version = known
    if said := risks(access, [about], [known]):
        text = "; ".join(each.removeprefix("warning: ") for each in said)
        return Finding("version", "warning", about, text, f"update it to {_floor()} or later")
    if name != "triton" or re.match(r"\d+\.\d+", version) is None:
        return Finding("version", "unknown", about, f"{name} {version}, of which nothing is known")
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:3])
    if numbers < SECURITY_FLOOR:
        text = f"tritonserver {version}, the embedded one; below {_floor()}: for this machine alone"
        return Finding("version", "ok", about, text)
    return Finding("version", "ok", about, f"tritonserver {version}, not below {_floor()}")


def _floor() -> str:
    return f"{'.'.join(map(str, SECURITY_FLOOR))} (container 26.07)"


async def _ready(endpoint: Endpoint, model: str, version: str | None) -> Finding:
    question = service_pb2.ModelReadyRequest(name=model, version=version or "")
    try:
        is_ready = (await endpoint.ask("ModelReady", question)).ready
    except AttemptFailedError as error:
        text = f"{error.failure.status}: {error.failure.text}"
        return Finding("model", "problem", endpoint.address, text, "check name and version")
    if is_ready:
        return Finding("model", "ok", endpoint.address, f"model {model} is ready")
    states = await _states(endpoint)
    if model in states:
        return Finding(
            "model", "problem", endpoint.address, f"model {model} is not ready: {states[model]}",
            "see the server's log, and tritonbulk lint of its repository; or --load-model",
        )  # fmt: skip
    others = ", ".join(sorted(states)[:10]) or "others, or keeps them to itself"
    return Finding(
        "model", "problem", endpoint.address, f"there is no model {model}; it has {others}",
        "check the name, or the repository that the server was started with",
    )  # fmt: skip


async def _states(endpoint: Endpoint) -> dict[str, str]:
    """Return state and reason of every model in the server's repository, as far as it tells."""
    try:
        index = await endpoint.ask("RepositoryIndex", service_pb2.RepositoryIndexRequest())
    except AttemptFailedError:
        return {}
    return {each.name: f"{each.state} {each.reason}".strip() or "UNLOADED" for each in index.models}


async def _look_at_model(
    endpoint: Endpoint, model: str, version: str | None
) -> AsyncIterator[Finding]:
    about = endpoint.address
    try:
        metadata = await endpoint.ask(
            "ModelMetadata", service_pb2.ModelMetadataRequest(name=model, version=version or "")
        )
        config = await endpoint.config(model, version)
        served = describe(metadata, config, version)
    except AttemptFailedError as error:
        yield Finding("model", "problem", about, str(error.failure), "check the server, then again")
        return
    except TritonbulkError as error:
        yield Finding("model", "problem", about, str(error), "see above")
        return
    for each in judge_model(about, None if config is None else config.config, served.instances):
        yield each
    rows = batch_rows_auto(served.inputs, served.outputs, served.max_batch_size)
    yield await _probe(endpoint, max(rows * row_bytes(served.inputs), 1))


async def _probe(endpoint: Endpoint, size_bytes: int) -> Finding:
    """Say whether requests of this size come through, by one that no model is asked by."""
    request = service_pb2.ModelInferRequest(model_name=PROBE_MODEL)
    request.inputs.add(name="x", datatype="UINT8", shape=[1, size_bytes])
    request.raw_input_contents.append(bytes(size_bytes))
    about, size = endpoint.address, f"requests of {size_bytes / 2**20:.1f} MiB"
    try:
        await endpoint.ask("ModelInfer", request)
    except AttemptFailedError as error:
        failure = error.failure
        if failure.status in ("NOT_FOUND", "INVALID_ARGUMENT") or "restricted" in failure.text:
            return Finding("channel", "ok", about, f"{size} come through")
        return Finding(
            "channel", "problem", about,
            f"{size} do not come through ({failure.status}: {failure.text})",
            "raise the limit of the proxy in between (its largest gRPC message or body), or give "
            "fewer --batch-rows",
        )  # fmt: skip
    return Finding("channel", "unknown", about, f"a model named {PROBE_MODEL} has answered")
