"""Access: how servers are reached (TLS, headers). A value; files are read when a run connects.

Nothing of it is part of a job's identity: certificates and tokens may change between its runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tritonbulk.errors import OptionError
from tritonbulk.redaction import Secret

_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_SECRET_NAME = re.compile(r"authorization|cookie|token|secret|password|passwd|api-?key|credential")
_RESTRICTED = "triton-grpc-protocol-"
"""Front of the headers by which Triton guards parts of its protocol; their values are secrets."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the servers at ``endpoints`` are reached.

    Attributes:
        tls: speak TLS; any other ``tls_`` field says so as well.
        tls_ca: PEM file with the certificates that the server's must descend from; None takes
            those of gRPC.
        tls_cert: PEM file with our certificate chain, for mutual TLS.
        tls_key: PEM file with its private key, unencrypted.
        tls_server_name: name that the server's certificate must have; None takes the endpoint's.
        headers: sent with every call, by names in lower case. Values that are secret are `Secret`;
            one under a name such as ``authorization`` becomes one.
    """

    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_server_name: str | None = None
    headers: Mapping[str, str | Secret] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be sent, and make secret values `Secret`.

        Raises:
            OptionError: names the header or option, never a value; a retry does not help.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            raise OptionError("--tls-cert and --tls-key belong together; give both")
        for name in ("tls_ca", "tls_cert", "tls_key"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(path))
        headers = {}
        for name, value in self.headers.items():
            check_header_name(name)
            headers[name] = Secret(value) if isinstance(value, str) and is_secret(name) else value
            if not _VALUE.fullmatch(value.reveal() if isinstance(value, Secret) else value):
                raise OptionError(
                    f"the value of header {name!r} has characters that no header can hold (line "
                    "ends, letters beyond ASCII); check where it comes from"
                )
        object.__setattr__(self, "headers", headers)

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        files = (self.tls_ca, self.tls_cert, self.tls_server_name)
        return self.tls or any(each is not None for each in files)

    @property
    def has_secrets(self) -> bool:
        """Whether any header is secret."""
        return any(isinstance(value, Secret) for value in self.headers.values())

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the headers as gRPC takes them, secrets revealed: for sending only."""
        return tuple(
            (name, value.reveal() if isinstance(value, Secret) else value)
            for name, value in self.headers.items()
        )


def is_secret(name: str) -> bool:
    """Return whether a header is secret by its name, whoever gives it."""
    return name.startswith(_RESTRICTED) or bool(_SECRET_NAME.search(name))


def check_header_name(name: str) -> None:
    """Refuse a name that is no header's.

    Raises:
        OptionError: names it; a retry does not help.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"{name!r} is no name of a header; use lower-case letters, digits, '-', '_' and '.'"
        )
    if name.startswith("grpc-") or name.endswith("-bin"):
        raise OptionError(f"header {name!r} is gRPC's own, or of bytes; it cannot be given")


PLAIN = Access()
"""No TLS, no headers."""
