"""Names that stand for several servers: ``dns:///name:port`` is every address of that name."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass

_DNS = re.compile(r"dns:(?:///?)?(?P<host>.+):(?P<port>\d+)$")


@dataclass(frozen=True, slots=True)
class Target:
    """One server to connect to.

    Attributes:
        address: ``host:port``, or another gRPC target.
        origin: the endpoint as it was given.
        authority: the name under which its certificate is checked; "" for the address's own.
    """

    address: str
    origin: str
    authority: str = ""


def is_name(endpoint: str) -> bool:
    """Return whether an endpoint stands for every address of a name."""
    return _DNS.match(endpoint) is not None


async def resolve(endpoint: str) -> tuple[Target, ...]:
    """Return the servers that an endpoint stands for now, in order of their addresses.

    One that is no name stands for itself. A name that cannot be resolved stands for none: it may
    be later.
    """
    found = _DNS.match(endpoint)
    if found is None:
        return (Target(endpoint, endpoint),)
    host, port = found["host"].strip("[]"), found["port"]
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM
        )
    except OSError:
        return ()
    addresses = sorted({(family, str(place[0])) for family, _, _, _, place in entries})
    return tuple(
        Target(f"[{ip}]:{port}" if family == socket.AF_INET6 else f"{ip}:{port}", endpoint, host)
        for family, ip in addresses
    )
