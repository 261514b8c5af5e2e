"""The configuration of a scorer: frozen, picklable, made whole by the process that uses it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tritonbulk.errors import ModelError, OptionError
from tritonbulk.redaction import Secret
from tritonbulk.scorer_options import ScorerOptions
from tritonbulk.secret_files import secret_of_file
from tritonbulk.transport import ServedModel

ANY_HOST = "*"
"""Stands for every host that is not named."""


@dataclass(frozen=True, slots=True)
class Pin:
    """The model that every process must find.

    Attributes:
        version: of the model.
        config_digest: see `tritonbulk.transport.served_model.config_digest`.
    """

    version: str
    config_digest: str


@dataclass(frozen=True, slots=True)
class ScorerConfig:
    """What a scorer does, wherever it is sent.

    Attributes:
        options: how rows are scored; no secret is among them.
        hosts: name of a host → endpoints that processes there use; empty: those of ``options``.
        header_env: header → environment variable that has its secret value, where it is used.
        header_file: header → file that has its secret value, where it is used.
        pin: the model that must be found; None takes what is served.
    """

    options: ScorerOptions
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    header_env: Mapping[str, str] = field(default_factory=dict)
    header_file: Mapping[str, str] = field(default_factory=dict)
    pin: Pin | None = None

    def here(self) -> ScorerOptions:
        """Return the options as they hold in this process: its endpoints, secrets read.

        Raises:
            OptionError: no endpoint is for this host, or a secret is missing here; no retry.
        """
        options = self.options
        if self.hosts:
            options = replace(options, endpoints=self._endpoints_here())
        secrets = {name: _of_variable(name, at) for name, at in self.header_env.items()}
        secrets |= {name: _of_file(name, at) for name, at in self.header_file.items()}
        if secrets:
            access = replace(options.access, headers={**options.access.headers, **secrets})
            options = replace(options, access=access)
        return options

    def anywhere(self) -> ScorerOptions:
        """Return the same for whoever only asks about the model: any host's endpoints will do."""
        if not self.hosts:
            return self.here()
        every = tuple(dict.fromkeys(each for found in self.hosts.values() for each in found))
        return replace(self, options=replace(self.options, endpoints=every), hosts={}).here()

    def check(self, model: ServedModel) -> None:
        """Refuse a model that is not the pinned one.

        Raises:
            ModelError: a retry does not help.
        """
        if self.pin not in (None, pin_of(model)):
            raise ModelError(
                f"model {model.name!r} is not what it was when the work was planned (version "
                f"{model.version} in another form, or another version); plan it anew"
            )

    def _endpoints_here(self) -> tuple[str, ...]:
        names = (socket.gethostname(), socket.getfqdn(), *_addresses(), ANY_HOST)
        for name in names:
            if name in self.hosts:
                return self.hosts[name]
        raise OptionError(
            f"no endpoint is given for this host ({', '.join(dict.fromkeys(names[:-1]))}); the "
            f"hosts are {', '.join(self.hosts)}; name it, or give {ANY_HOST!r} for all others"
        )


def pin_of(model: ServedModel) -> Pin:
    """Return what tells a model from others."""
    return Pin(model.version, model.config_digest)


def _addresses() -> list[str]:
    """Return this host's IP addresses, by which engines may know it."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        return []
    return [str(address[4][0]) for address in found]


def _of_variable(name: str, variable: str) -> Secret:
    value = os.environ.get(variable, "")
    if not value:
        raise OptionError(
            f"header_env {name!r}: variable {variable} is not set in this process; give it to the "
            "engine's workers"
        )
    return Secret(value)


def _of_file(name: str, path: str) -> Secret:
    advice = "put it on every host of the engine's workers"
    return secret_of_file(f"header_file {name!r}", path, advice)
