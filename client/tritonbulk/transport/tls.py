"""TLS: what a channel needs, and a look of our own at a server that gRPC cannot reach.

gRPC says "Socket closed" of a missing client certificate and of a server that wants TLS alike. One
handshake by Python's own ssl tells them apart before the first row is sent.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc

from tritonbulk.access import Access
from tritonbulk.errors import AuthError, OptionError
from tritonbulk.secret_files import PEM_BYTES_MAX, FileTooLargeError, read_within
from tritonbulk.text import said

LOOK_TIMEOUT_S = 5.0
"""Deadline of one look at a server."""

_ALERT_S = 1.0
"""How long a server may take, after its handshake, to refuse our certificate (TLS 1.3)."""

# Sent by whoever speaks HTTP/2 first (RFC 9113, 3.4), with an empty SETTINGS frame.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"

_LOST = re.compile(
    r"handshake|socket closed|failed to connect|connection|recvmsg|broken pipe|end of tcp",
    re.IGNORECASE,
)


def channel_credentials(access: Access) -> grpc.ChannelCredentials | None:
    """Return what gRPC takes for a channel over TLS; None where none is asked for.

    Raises:
        OptionError: a file is missing or is not what its option says; a retry does not help.
    """
    if not access.uses_tls:
        return None
    _context(access)  # says what is wrong with the files; gRPC would not
    pems = [
        None if path is None else read_within(path, PEM_BYTES_MAX)
        for path in (access.tls_ca, access.tls_key, access.tls_cert)
    ]
    return grpc.ssl_channel_credentials(*pems)


def may_be_tls(words: str) -> bool:
    """Return whether a failed call's words leave it open that TLS is to blame."""
    return bool(_LOST.search(words)) and "refused" not in words


def check_tls(address: str, access: Access) -> None:
    """Look whether TLS stands between us and a server. Blocks for up to `LOOK_TIMEOUT_S`.

    Returns if nothing speaks for it, or if the server cannot be reached at all.

    Raises:
        AuthError: it does, and what to do; a retry does not help.
    """
    place = _host_and_port(address)
    if place is None:
        return
    try:
        if access.uses_tls:
            _look(address, place, access)
        elif _speaks_tls(place):
            raise AuthError(
                f"{address} speaks TLS and we do not; give --tls-ca with the certificate "
                "authority's PEM file (or --tls, if its certificate is from a public one)"
            )
    except OSError:
        return  # not reachable now; whoever waits for the server goes on waiting


def _look(address: str, place: tuple[str, int], access: Access) -> None:
    context = _context(access)
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(place, LOOK_TIMEOUT_S) as plain:
        try:
            name = access.tls_server_name or place[0]
            with context.wrap_socket(plain, server_hostname=name) as secure:
                secure.sendall(_GREETING)
                secure.settimeout(_ALERT_S)
                # With TLS 1.3 our certificate is judged after our handshake; gRPC's servers then
                # close without an alert, where others would greet.
                if not secure.recv(1):
                    raise AuthError(_of_our_certificate(address, access, "connection closed"))
        except ssl.SSLCertVerificationError as error:
            raise AuthError(_of_their_certificate(address, name, error)) from None
        except ssl.SSLError as error:
            raise AuthError(_of_the_handshake(address, access, said(str(error)))) from None


def _of_their_certificate(address: str, name: str, error: ssl.SSLCertVerificationError) -> str:
    why = said(error.verify_message).rstrip(".")
    if "expired" in why or "not yet valid" in why:
        advice = "its owner has to renew it (or a clock is wrong)"
    elif "match" in why.lower():
        advice = f"name the server as its certificate does, or give --tls-server-name (not {name})"
    else:
        advice = "give --tls-ca with the PEM file of the certificate authority that signed it"
    return f"the certificate of {address} is refused ({why}); {advice}"


def _of_the_handshake(address: str, access: Access, why: str) -> str:
    if "ALERT" not in why.upper():
        return (
            f"{address} does not speak TLS ({why}); leave the --tls options out, or give the port "
            "that does"
        )
    return _of_our_certificate(address, access, why)


def _of_our_certificate(address: str, access: Access, why: str) -> str:
    if access.tls_cert is None:
        return f"{address} wants a client certificate ({why}); give --tls-cert and --tls-key"
    return (
        f"{address} refuses our certificate ({why}); check that {access.tls_cert} has not expired "
        "and is from the authority that the server trusts"
    )


def _speaks_tls(place: tuple[str, int]) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: only whether it speaks TLS is asked
    with socket.create_connection(place, LOOK_TIMEOUT_S) as plain:
        try:
            with context.wrap_socket(plain):
                return True
        except ssl.SSLError as error:
            return "ALERT" in str(error).upper()


def _context(access: Access) -> ssl.SSLContext:
    with _reading(access.tls_ca, "--tls-ca", "certificates in PEM"):
        ca = None if access.tls_ca is None else str(access.tls_ca)
        context = ssl.create_default_context(cafile=ca)
    if access.tls_cert is None or access.tls_key is None:
        return context
    if _is_encrypted(access.tls_key):
        raise OptionError(
            f"--tls-key {access.tls_key} is encrypted; give one without a passphrase, readable by "
            "you alone"
        )
    with _reading(access.tls_cert, "--tls-cert", f"the certificate of {access.tls_key} in PEM"):
        context.load_cert_chain(access.tls_cert, access.tls_key)
    return context


def _is_encrypted(key: Path) -> bool:
    with _reading(key, "--tls-key", "a private key in PEM"):
        return b"ENCRYPTED" in read_within(key, PEM_BYTES_MAX)


@contextlib.contextmanager
def _reading(path: Path | None, option: str, what: str) -> Iterator[None]:
    try:
        if path is not None:
            read_within(path, PEM_BYTES_MAX)  # OpenSSL knows no bound
        yield
    except FileTooLargeError:
        raise OptionError(
            f"{option} {path} holds more than {PEM_BYTES_MAX >> 20} MiB; give another file"
        ) from None
    except ssl.SSLError:
        raise OptionError(f"{option} {path} is not {what}; give another file") from None
    except OSError as error:
        cause = error.strerror or "unknown"
        raise OptionError(f"{option} {path} cannot be read ({cause}); check the path") from None


def _host_and_port(address: str) -> tuple[str, int] | None:
    """Return the host and port that a gRPC target names; None where it names another thing."""
    bare = re.sub(r"^(dns:(//[^/]*/)?|ipv4:|ipv6:)", "", address)
    host, _, port = bare.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else None
