"""Risks: what the user should know of the servers before rows and secrets go there. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tritonbulk.access import Access
from tritonbulk.scorer_options import is_loopback

SECURITY_FLOOR = (2, 71, 0)
"""First tritonserver without the vulnerabilities known at the time of writing (container 26.07)."""

EMBEDDED_VERSION = (2, 51, 0)
"""Of the embedded server. On this machine's loopback address it is what ``serve`` started."""


def risks(
    access: Access, addresses: Sequence[str], servers: Sequence[tuple[str, str] | None]
) -> list[str]:
    """Return a sentence for each thing to know, at most one of each kind.

    Args:
        access: how the servers are reached.
        addresses: of each.
        servers: name and version of each; None where a server does not tell.
    """
    found = []
    old = [
        f"{address} ({version})"
        for address, (name, version) in _told(addresses, servers)
        if name == "triton" and _is_below_floor(address, version)
    ]
    if old:
        floor = ".".join(map(str, SECURITY_FLOOR))
        found.append(
            f"warning: tritonserver at {_several(old)} is below {floor} (container 26.07) and has "
            "known vulnerabilities; update it, or let nobody but you reach it"
        )
    open_ones = [address for address in addresses if not is_loopback(address)]
    if access.has_secrets and not access.uses_tls and open_ones:
        found.append(
            f"warning: secret headers go to {_several(open_ones)} unencrypted; give --tls or "
            "--tls-ca"
        )
    return found


def _told(
    addresses: Sequence[str], servers: Sequence[tuple[str, str] | None]
) -> list[tuple[str, tuple[str, str]]]:
    pairs = zip(addresses, servers, strict=True)
    return [(address, server) for address, server in pairs if server is not None]


def _is_below_floor(address: str, version: str) -> bool:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        return False
    numbers = tuple(map(int, found.groups()))
    return numbers < SECURITY_FLOOR and not (is_loopback(address) and numbers == EMBEDDED_VERSION)


def _several(names: Sequence[str]) -> str:
    others = len(names) - 1
    return names[0] + (f" and {others} more" if others else "")
