"""One endpoint: a channel to one server over gRPC, for requests (unary) and for questions.

Requests travel as bytes in both directions: no serializer is registered, so that gRPC passes on
what the codec made without building a message object.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tritonbulk.access import PLAIN, Access
from tritonbulk.codec import Reply, Request
from tritonbulk.dispatch import Failure, Meaning, fatal, meaning
from tritonbulk.errors import ModelError, OutageError
from tritonbulk.text import said
from tritonbulk.transport.base import AttemptFailedError
from tritonbulk.transport.naming import Target
from tritonbulk.transport.sameness import difference
from tritonbulk.transport.served_model import ServedModel, config_digest, describe
from tritonbulk.transport.tls import channel_credentials, check_tls, may_be_tls

_Answer = TypeVar("_Answer")

_SERVICE = "/inference.GRPCInferenceService"

QUESTION_TIMEOUT_S = 10.0
"""Deadline of a question (readiness, metadata, statistics)."""

_POLL_S = 0.25
"""Pause between two looks at a server that does not answer yet."""

_TELL_AFTER_S = 1.0
"""Waiting time after which the user is told what is being waited for."""

# Sizes are bounded by the codec, so gRPC's own 4 MiB limit is lifted. Its retries stay off: they
# stop silently at 256 KiB a request, and the dispatcher must see every attempt. Its reconnect
# backoff would otherwise grow to two minutes. No keepalive: Triton ends connections that ping more
# often than every 300 s; a connection on which data get no acknowledgement ends after the ping
# time-out. (grpc.io, core/lib/surface channel arguments)
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.http2.ping_timeout_ms", 20_000),
)


class Endpoint:
    """A connection to one server; an async context manager, and a `Transport`.

    Args:
        target: the server; a text is its address, ``host:port`` or any other gRPC target.
        access: how it is reached: TLS, and headers sent with every call.

    Attributes:
        target: the same.
        address: of the target.

    Raises:
        OptionError: a file of ``access`` cannot be used; a retry does not help.
    """

    def __init__(self, target: Target | str, access: Access = PLAIN) -> None:
        self.target = target if isinstance(target, Target) else Target(target, target)
        self.address = self.target.address
        self.laid_out_s = 0.0
        self._access = access
        self._headers = access.metadata()
        self._channel = _open_channel(self.target, access)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._infer = self._channel.unary_unary(f"{_SERVICE}/ModelInfer")
        self._stream = self._channel.stream_stream(f"{_SERVICE}/ModelStreamInfer")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()

    @property
    def name(self) -> str:
        """See `Transport.name`."""
        return "unary"

    async def infer(self, request: Request, timeout_s: float) -> Reply:
        """See `Transport.infer`."""
        began_s = time.perf_counter()
        message = request.to_bytes()
        self.laid_out_s += time.perf_counter() - began_s
        return Reply(
            await self._call(self._infer(message, timeout=timeout_s, metadata=self._headers))
        )

    def open_stream(self) -> Any:
        """Return a new ``ModelStreamInfer`` call of ``grpc.aio`` that takes and gives bytes."""
        return self._stream(metadata=self._headers)

    async def ask(
        self,
        method: str,
        question: object,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = QUESTION_TIMEOUT_S,
    ) -> Any:
        """Return the answer to a question (a call of the protocol other than inference).

        Args:
            method: the call's name, such as ``ModelReady``.
            question: its message.
            headers: sent besides those of the endpoint.
            timeout_s: how long the answer may take.

        Raises:
            AttemptFailedError: there is no answer within ``timeout_s``, or it is an error.
        """
        call = getattr(self._stub, method)
        metadata = (*self._headers, *(headers or {}).items())
        return await self._call(call(question, timeout=timeout_s, metadata=metadata))

    async def wait_ready(
        self, model: str, version: str | None, max_outage_s: float, say: Callable[[str], None]
    ) -> None:
        """Return once the server has the model ready; ``say`` is told once if that takes time.

        Raises:
            OutageError: it does not answer, or is not ready, for ``max_outage_s``; a retry helps
                once it runs.
            ModelError: it does not know the model or version; a retry does not help.
            AuthError: it refuses our credentials or our TLS; a retry does not help.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        question = service_pb2.ModelReadyRequest(name=model, version=version or "")
        heard, told = "no answer", False
        while True:
            try:
                answer = await self.ask("ModelReady", question)
                if answer.ready:
                    return
                heard = "the model is not ready"
                await self._check_known(model, version)
            except AttemptFailedError as error:
                if may_be_tls(error.failure.text):
                    await asyncio.to_thread(check_tls, self.address, self._access)
                heard = _check_transient(error.failure, self.address)
            waited_s = loop.time() - began_s
            if waited_s + _POLL_S > max_outage_s:
                raise OutageError(
                    f"{self.address} did not have model {model!r} ready within {max_outage_s:g} s "
                    f"({heard}); check that the server runs there and serves it"
                )
            if not told and waited_s > _TELL_AFTER_S:
                until = f"up to {max_outage_s:g} s" if max_outage_s < math.inf else "for ever"
                say(f"waiting {until} for {self.address} ({heard})")
                told = True
            await asyncio.sleep(_POLL_S)

    async def server(self) -> tuple[str, str] | None:
        """Return name and version of the server; None if it does not tell."""
        try:
            answer = await self.ask("ServerMetadata", service_pb2.ServerMetadataRequest())
        except AttemptFailedError:
            return None
        return said(answer.name), said(answer.version)

    async def check(self, model: ServedModel) -> None:
        """Return if the server has a model ready, and it is this one.

        Raises:
            AttemptFailedError: it does not answer, or is not ready; it may be later.
            ModelError: it is ready and has another model, or none of that name; no retry.
        """
        question = service_pb2.ModelReadyRequest(name=model.name, version=model.version)
        if not (await self.ask("ModelReady", question)).ready:
            await self._check_known(model.name, model.version)
            raise AttemptFailedError(Failure(14, "UNAVAILABLE", "the model is not at ready state"))
        try:
            found = await self.describe(model.name, model.version)
        except OutageError as error:
            raise AttemptFailedError(Failure(14, "UNAVAILABLE", str(error))) from error
        if found != model:
            raise ModelError(
                f"{self.address} serves another model {model.name!r} than the run began with, "
                f"under the same version ({difference(found, model)}); give it a version of its "
                "own, then run again"
            )

    async def describe(self, model: str, version: str | None) -> ServedModel:
        """Return what the server says of the model.

        Raises:
            ModelError: it does not know it, or it cannot be scored by rows; no retry.
            OutageError: the server stopped answering; a retry may help.
        """
        try:
            metadata = await self.ask(
                "ModelMetadata",
                service_pb2.ModelMetadataRequest(name=model, version=version or ""),
            )
            config = await self.config(model, version)
        except AttemptFailedError as error:
            heard = _check_transient(error.failure, self.address)
            raise OutageError(
                f"{self.address} stopped answering ({heard}); check the server, then run again"
            ) from error
        return describe(metadata, config, version)

    async def config_digest(self, model: str, version: str) -> str | None:
        """Return the digest of the model's configuration now; None if the server does not answer.

        Raises:
            ModelError: it does not serve that version any more; no retry.
        """
        try:
            return config_digest(await self.config(model, version))
        except AttemptFailedError as error:
            _check_transient(error.failure, self.address)
            return None

    async def statistics(self, model: str, version: str) -> service_pb2.ModelStatistics | None:
        """Return the model's counters since it was loaded; None if the server does not tell."""
        question = service_pb2.ModelStatisticsRequest(name=model, version=version)
        try:
            answer = await self.ask("ModelStatistics", question)
        except AttemptFailedError:
            return None
        return answer.model_stats[0] if answer.model_stats else None

    async def config(
        self, model: str, version: str | None
    ) -> service_pb2.ModelConfigResponse | None:
        """Return the model's configuration; None if the server keeps it to itself or has none.

        Raises:
            AttemptFailedError: there is no answer, or it is another error.
        """
        question = service_pb2.ModelConfigRequest(name=model, version=version or "")
        try:
            return await self.ask("ModelConfig", question)
        except AttemptFailedError as error:
            # Other servers of the protocol lack the call; a restricted one keeps it to itself.
            if error.failure.status == "UNIMPLEMENTED" or "restricted" in error.failure.text:
                return None
            raise

    async def _check_known(self, model: str, version: str | None) -> None:
        """Raise if the server says that it has no such model (which "not ready" alone does not)."""
        question = service_pb2.ModelMetadataRequest(name=model, version=version or "")
        try:
            await self.ask("ModelMetadata", question)
        except AttemptFailedError as error:
            if _is_unknown(error.failure):
                if not await self._is_ready():
                    return
                raise ModelError(
                    f"{self.address} does not serve {_called(model, version)} "
                    f"({error.failure.text}); check the name, or load it"
                    f"{_PUT_BACK if version else ''}"
                ) from error
            _check_transient(error.failure, self.address)

    async def _is_ready(self) -> bool:
        """Return whether the server says that it is ready, whatever of its models."""
        return bool((await self.ask("ServerReady", service_pb2.ServerReadyRequest())).ready)

    async def _call(self, call: Awaitable[_Answer]) -> _Answer:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            code, words = error.code(), said(error.details() or "")
            # Without its cause, whose text is the server's own, uncut.
            raise AttemptFailedError(Failure(code.value[0], code.name, words)) from None


def _open_channel(target: Target, access: Access) -> grpc.aio.Channel:
    credentials = channel_credentials(access)
    if credentials is None:
        return grpc.aio.insecure_channel(target.address, options=_CHANNEL_OPTIONS)
    options: tuple[tuple[str, int | str], ...] = _CHANNEL_OPTIONS
    if name := access.tls_server_name or target.authority:
        options = (*options, ("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(target.address, credentials, options=options)


def _called(model: str, version: str | None) -> str:
    return f"model {model!r}" + (f" version {version}" if version else "")


_PUT_BACK = " (tritonbulk rollback serves an earlier version of an exported one again)"


def _is_unknown(failure: Failure) -> bool:
    """Return whether a server says that it has no such model, and not only none that is loaded."""
    return failure.status == "NOT_FOUND" and "no available versions" not in failure.text


def _check_transient(failure: Failure, address: str) -> str:
    """Return the failure's words if waiting may help; else raise what it means."""
    if error := fatal(failure, address, is_first=True):
        raise error
    if _is_unknown(failure):
        raise ModelError(
            f"{address} does not serve the model ({failure.text}); check the name and "
            f"--model-version, or load it{_PUT_BACK}"
        )
    if meaning(failure) in (Meaning.REJECTED, Meaning.SUSPECT):
        raise ModelError(
            f"{address} refuses the question for the model: {failure.text}; check "
            "the model's name and --model-version"
        )
    return str(failure)
