"""Object stores: one conditional PUT an object, through obstore (S3, GCS, Azure).

The store itself keeps two writers apart; a store that does not is found out by `prepare`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from tritonbulk.errors import OptionError, PlatformError, SinkError
from tritonbulk.job.protocol import OWN_FOLDER, Put
from tritonbulk.job.stores.base import UnsureError

ANSWER_TIMEOUT_S = 60.0
"""How long the store may be silent: before it answers a request, and between bytes of an answer."""

SLOWEST_BYTES_PER_S = 2**20
"""Rate below which a transfer is given up."""

READ_S_MAX = 3600.0
"""Deadline of one answer, however large and however steadily it comes."""

CONNECT_TIMEOUT_S = 5

RETRIES = 2
"""Repetitions within one request; what they do not mend is judged by the protocol."""

_CAUSE_CHARACTERS_MAX = 200

_S3 = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"
_GCS = "GOOGLE_APPLICATION_CREDENTIALS to the path of a key file, or give this machine an account"
_AZURE = "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
_CREDENTIALS = {
    **dict.fromkeys(("s3", "s3a"), _S3),
    "gs": _GCS,
    **dict.fromkeys(("az", "azure", "abfs", "abfss", "adl"), _AZURE),
}
"""Where credentials come from, by the schemes that can be written to."""

_NO_CREDENTIALS = ("token request", "169.254.169.254", "CredentialsNotLoaded")
"""Where a client looks that was given none: what a machine of the store's cloud would answer."""


class ObjectStore:
    """A prefix of an object store; see `tritonbulk.job.stores.base.Store` for the methods.

    Args:
        uri: ``s3://bucket/prefix`` or what else obstore knows; credentials and endpoint come from
            the environment, as for every tool of the store.
        is_single_writer: look before each put instead of relying on the store, which is safe only
            while no other run writes to the prefix.

    Raises:
        PlatformError: obstore is not installed.
        OptionError: the URI is none that it knows.
    """

    def __init__(self, uri: str, *, is_single_writer: bool = False) -> None:
        if urlsplit(uri).scheme not in _CREDENTIALS:
            raise OptionError(
                f"output {_shown(uri)} is no place that can be written to; give a folder, or a URI "
                "such as s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
            )
        self._credentials = _CREDENTIALS[urlsplit(uri).scheme]
        try:
            import obstore  # noqa: PLC0415  optional
            from obstore.store import from_url  # noqa: PLC0415
        except ImportError:
            raise PlatformError(
                f"output {_shown(uri)} needs the package obstore; pip install 'tritonbulk[s3]'"
            ) from None
        self.name = _shown(uri)
        self._uri = uri
        self._single_writer = is_single_writer
        self._obstore: Any = obstore
        self._from_url: Any = from_url
        self._replaceable: dict[str, Any] = {}
        self._clients: dict[int, Any] = {}
        self._store: Any = self._client(READ_S_MAX, {"read_timeout": _span(ANSWER_TIMEOUT_S)})

    def _client(self, timeout_s: float, more: Mapping[str, timedelta]) -> Any:
        """Return a client that gives up a request after so long."""
        try:
            return self._from_url(
                self._uri,
                client_options={
                    "timeout": _span(timeout_s),
                    "connect_timeout": _span(CONNECT_TIMEOUT_S),
                    "allow_http": is_endpoint_plain(),
                    **more,
                },
                retry_config={"max_retries": RETRIES, "retry_timeout": _span(timeout_s)},
            )
        except (self._obstore.exceptions.BaseError, ValueError) as error:
            raise OptionError(
                f"output {self.name} cannot be opened ({_cause(error)}); check the URI, and set "
                f"{self._credentials}"
            ) from None

    def _writer(self, size_bytes: int) -> Any:
        """Return the client for an object of this size: deadlines belong to a client.

        There is one for each power of two of MiB, so a handful at most.
        """
        power = max(size_bytes - 1, 0) // 2**20
        mebibytes = 2 ** power.bit_length()
        if mebibytes not in self._clients:
            seconds = ANSWER_TIMEOUT_S + mebibytes * 2**20 / SLOWEST_BYTES_PER_S
            self._clients[mebibytes] = self._client(seconds, {})
        return self._clients[mebibytes]

    def prepare(self) -> None:
        """See `Store.prepare`: puts one canary twice, of which the second must be refused."""
        if self._single_writer:
            return
        canary = f"{OWN_FOLDER}/probe-{secrets.token_hex(8)}"
        try:
            first, second = (self.create(canary, data) for data in (b"1", b"2"))
            found = self.read(canary)
            if first is Put.CREATED and (second is Put.CREATED or found == b"2"):
                raise _no_conditions(self.name)
            # A first put that "exists" was repeated after a lost reply, or met a passing conflict.
            if second is not Put.EXISTS or found != b"1":
                raise UnsureError(
                    f"{self.name} does not answer usably; check the store, then run again"
                )
        except self._obstore.exceptions.NotSupportedError:
            raise _no_conditions(self.name) from None
        finally:
            with contextlib.suppress(Exception):
                self._obstore.delete(self._store, canary)

    def clock_ahead_s(self) -> float | None:
        """Return by how many seconds the store's clock is ahead of ours; None if it does not tell.

        Stores tell whole seconds. A canary is put and removed.

        Raises:
            UnsureError: the store does not answer; a retry may help.
            SinkError: it may not be written; a retry helps once the cause is gone.
        """
        canary = f"{OWN_FOLDER}/probe-{secrets.token_hex(8)}"
        with self._errors("writing", canary):
            try:
                self._obstore.put(self._store, canary, b"1", use_multipart=False)
                changed = self._obstore.head(self._store, canary)["last_modified"]
            finally:
                with contextlib.suppress(Exception):
                    self._obstore.delete(self._store, canary)
        return None if changed is None else float(changed.timestamp() - time.time())

    def create(self, name: str, data: bytes) -> Put:
        """See `Store.create`."""
        exceptions = self._obstore.exceptions
        mode = self._replaceable.get(name, "create")
        if self._single_writer:
            try:
                if self._has(name):
                    return Put.EXISTS
            except UnsureError:
                return Put.UNKNOWN
            mode = "overwrite"
        try:
            with self._errors("writing", name):
                client = self._writer(len(data))
                self._obstore.put(client, name, data, mode=mode, use_multipart=False)
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileExistsError):
            self._replaceable.pop(name, None)
            return Put.EXISTS
        except UnsureError:
            return Put.UNKNOWN
        self._replaceable.pop(name, None)
        return Put.CREATED

    def read(self, name: str) -> bytes | None:
        """See `Store.read`."""
        with self._errors("reading", name):
            try:
                return bytes(self._obstore.get(self._store, name).bytes())
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        """See `Store.names`."""
        return list(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Store.sizes`."""
        with self._errors("listing", folder):
            found = self._obstore.list_with_delimiter(self._store, folder or None)["objects"]
            return dict(sorted((each["path"].rpartition("/")[2], each["size"]) for each in found))

    def set_aside(self, name: str, aside: str, damaged: bytes) -> None:
        """See `Store.set_aside`: it is copied, and replaced by a put on condition of its ETag.

        A deletion, which has no condition, could hit what another run has put there meanwhile.
        """
        with self._errors("writing", aside), contextlib.suppress(FileNotFoundError):
            found = self._obstore.get(self._store, name)
            if bytes(found.bytes()) != damaged:
                return
            # By a name made of its bytes, so one that is taken will do.
            if self.create(aside, damaged) is Put.UNKNOWN:
                raise UnsureError(f"{self.name}/{aside} was not written; run again")
            if self._single_writer:
                self._obstore.delete(self._store, name)
            else:
                self._replaceable[name] = {
                    key: found.meta[key] for key in ("e_tag", "version") if found.meta[key]
                }

    def tidy(self) -> None:
        """See `Store.tidy`: an unfinished put leaves nothing."""

    def _has(self, name: str) -> bool:
        with self._errors("reading", name):
            try:
                self._obstore.head(self._store, name)
            except FileNotFoundError:
                return False
            return True

    @contextlib.contextmanager
    def _errors(self, doing: str, name: str) -> Iterator[None]:
        """Tell apart what only the user can mend from what may or may not have happened."""
        exceptions = self._obstore.exceptions
        try:
            yield
        except (
            exceptions.AlreadyExistsError,
            exceptions.PreconditionError,
            exceptions.NotSupportedError,
            FileExistsError,
        ):
            raise
        except (
            exceptions.PermissionDeniedError,
            exceptions.UnauthenticatedError,
            PermissionError,
        ) as error:
            raise SinkError(
                f"{doing} {self.name}/{name} was refused ({_cause(error)}); check credentials and "
                "rights, then run again"
            ) from None
        except (exceptions.BaseError, OSError) as error:
            raise self._failed(doing, name, error) from None

    def _failed(self, doing: str, name: str, error: Exception) -> SinkError:
        said = f"{doing} {self.name}/{name} failed ({_cause(error)}); check"
        if "NoSuchBucket" in str(error):
            return SinkError(
                f"the bucket of {self.name} does not exist; make it, or give another --out"
            )
        if isinstance(error, FileNotFoundError):
            return SinkError(f"{said} that the bucket exists, then run again")
        if any(each in str(error) for each in _NO_CREDENTIALS):
            return UnsureError(
                f"{doing} {self.name}/{name} failed, since no credentials were found "
                f"({_cause(error)}); set {self._credentials}, then run again"
            )
        return UnsureError(f"{said} the store, then run again")


def _span(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _no_conditions(name: str) -> OptionError:
    return OptionError(
        f"the store of {name} replaces objects that it was told to create only, so two runs could "
        "overwrite each other; add --single-writer if no other run writes there"
    )


def is_endpoint_plain() -> bool:
    """Return whether the environment names an endpoint without TLS, which then is meant."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return any(os.environ.get(name, "").startswith("http://") for name in names)


def _shown(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _cause(error: BaseException) -> str:
    """Return the first line of an error's text without the query of addresses in it."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    words = (word.partition("?")[0] for word in line.split())
    return " ".join(words)[:_CAUSE_CHARACTERS_MAX].rstrip(".")
