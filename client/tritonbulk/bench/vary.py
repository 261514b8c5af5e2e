"""Vary: instances, queue delay and batch limit of a served model, and back again.

The model is loaded anew with an edited configuration, which Triton's explicit model control takes
without any file being written. An embedded server takes it with it when it ends. For a server that
is not ours, a record of what was there is written before the first change and held locked while
the sweep lives: whoever finds one unlocked, because its sweep was killed, puts the server back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc import service_pb2

from tritonbulk.access import Access
from tritonbulk.bench import configuration
from tritonbulk.bench.setting import Variant
from tritonbulk.errors import OptionError, TritonbulkError
from tritonbulk.server.locks import try_lock
from tritonbulk.transport import AttemptFailedError, Endpoint

LOAD_S = 300.0
"""How long a model may take to load."""


class RefusedError(TritonbulkError):
    """The server does not take a variant: that one cannot be measured, others may."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a server that is not ours served before it was varied.

    Attributes:
        addresses: of the servers.
        model: the model's name.
        config: its configuration, as JSON.
    """

    addresses: tuple[str, ...]
    model: str
    config: str


class Control:
    """Model control of one model on all endpoints; make it with `controlling`.

    Args:
        endpoints: of the servers, which serve the same.
        model: the model's name.
        config: its configuration as it is served.
        base: the same, as a variant.
        headers: open model control, besides those of the endpoints.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        model: str,
        config: configuration.Config,
        base: Variant,
        headers: Mapping[str, str],
    ) -> None:
        self.base = base
        self.current = base
        self.config = config
        self._endpoints = endpoints
        self._model = model
        self._headers = headers

    async def set(self, variant: Variant) -> None:
        """Serve the model as a variant from now on.

        Raises:
            RefusedError: a server does not take it; what it serves now is not known.
        """
        if variant == self.current:
            return
        edited = configuration.with_variant(self.config, variant, self.base)
        self.current = Variant(-1)  # of nothing, until all have it
        for endpoint in self._endpoints:
            await _load(endpoint, self._model, configuration.to_json(edited), self._headers)
        self.current = variant

    async def reload(self) -> Variant:
        """Serve the model as its repository has it now, and take that for how it was; return it.

        Raises:
            RefusedError: a server does not load it, or does not tell its configuration.
        """
        self.current = Variant(-1)
        for endpoint in self._endpoints:
            await _load(endpoint, self._model, None, self._headers)
        config = await read_config(self._endpoints[0], self._model, self.base.version)
        if config is None:
            raise RefusedError("the server does not tell its configuration")
        found = configuration.variant_of(config, self.base.version)
        self.config, self.base, self.current = config, found, found
        return found

    async def put_back(self) -> None:
        """Serve the model as it was.

        Raises:
            RefusedError: a server does not take its own configuration back.
        """
        await _put_back(self._endpoints, self._model, self.config, self._headers)
        self.current = self.base


@contextlib.asynccontextmanager
async def controlling(control: Control, record: Record | None) -> AsyncIterator[None]:
    """Put the servers back when the block is left, whatever happens in it.

    Args:
        control: of the model.
        record: for servers that are not ours; kept until they are as they were.
    """
    path, lock_fd = (None, None) if record is None else _write(record)
    try:
        yield
    finally:
        try:
            if record is not None:
                await control.put_back()
            if path is not None:
                path.unlink(missing_ok=True)
        finally:
            if lock_fd is not None:
                os.close(lock_fd)


async def restore(say: Callable[[str], None], access: Access) -> int:
    """Put back every server that a killed sweep has left varied; return how many are still so.

    Args:
        say: told about each.
        access: how they are reached; a record keeps no secrets.
    """
    left = 0
    for path in sorted(_folder().glob("*.json")):
        try:
            lock_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            # Another sweep may have put it back between the listing and the lock.
            if try_lock(lock_fd) and path.exists():
                left += not await _restore_one(path, say, access)
        finally:
            os.close(lock_fd)
    return left


async def _restore_one(path: Path, say: Callable[[str], None], access: Access) -> bool:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        record = Record(tuple(plain["addresses"]), plain["model"], plain["config"])
        config = configuration.from_json(record.config)
    except (OSError, ValueError, LookupError, TypeError, TritonbulkError):
        say(f"{path} says nothing of a server; it is removed")
        path.unlink(missing_ok=True)
        return True
    async with contextlib.AsyncExitStack() as stack:
        endpoints = [await stack.enter_async_context(Endpoint(a, access)) for a in record.addresses]
        where = f"model {record.model!r} at {', '.join(record.addresses)}"
        try:
            await _put_back(endpoints, record.model, config, {})
        except RefusedError as error:
            say(f"{where}, which a killed sweep left varied, could not be put back: {error}")
            return False
    say(f"{where}, which a killed sweep left varied, is as it was")
    path.unlink(missing_ok=True)
    return True


def _write(record: Record) -> tuple[Path, int]:
    """Write a record and return it with its lock; only then may its servers be changed.

    Raises:
        OptionError: another sweep is varying the same model; wait until it has ended.
    """
    key = hashlib.sha256(repr((sorted(record.addresses), record.model)).encode()).hexdigest()[:16]
    path = _folder() / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not try_lock(fd):
        os.close(fd)
        raise OptionError(
            f"another sweep is varying model {record.model!r} at {', '.join(record.addresses)}; "
            "wait until it has ended"
        )
    text = json.dumps(
        {"addresses": record.addresses, "model": record.model, "config": record.config}
    )
    os.truncate(fd, 0)
    os.write(fd, text.encode())
    os.fsync(fd)
    return path, fd


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "tritonbulk" / "varied"


async def _put_back(
    endpoints: Sequence[Endpoint],
    model: str,
    config: configuration.Config,
    headers: Mapping[str, str],
) -> None:
    """Load the model as its repository has it, or as it was, where that was something else."""
    for endpoint in endpoints:
        await _load(endpoint, model, None, headers)
        if await read_config(endpoint, model, "") != config:
            await _load(endpoint, model, configuration.to_json(config), headers)


async def read_config(endpoint: Endpoint, model: str, version: str) -> configuration.Config | None:
    """Return the configuration that a server has of a model; None if it does not tell."""
    question = service_pb2.ModelConfigRequest(name=model, version=version)
    try:
        return (await endpoint.ask("ModelConfig", question)).config
    except AttemptFailedError:
        return None


async def _load(
    endpoint: Endpoint, model: str, config: str | None, headers: Mapping[str, str]
) -> None:
    request = service_pb2.RepositoryModelLoadRequest(model_name=model)
    if config is not None:
        request.parameters["config"].string_param = config
    try:
        await endpoint.ask("RepositoryModelLoad", request, headers, LOAD_S)
    except AttemptFailedError as error:
        text = error.failure.text
        hint = ""
        if "explicit" in text or "polling" in text or "not allow" in text:
            hint = "; start the server with --model-control-mode=explicit"
        if "restricted" in text:
            hint = "; it keeps model control to itself"
        raise RefusedError(f"{endpoint.address} does not load it: {text}{hint}") from error
