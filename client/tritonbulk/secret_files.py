"""Files of secrets and certificates: read whole, and no further than they may be long."""

from __future__ import annotations

from pathlib import Path

from tritonbulk.errors import OptionError
from tritonbulk.redaction import Secret

SECRET_BYTES_MAX = 16 * 2**10
"""Bytes of a file with a header's value: gRPC takes no more in all headers together."""

PEM_BYTES_MAX = 4 * 2**20
"""Bytes of a file of certificates; all public authorities together take a quarter of a MiB."""


def secret_of_file(option: str, path: str | Path, advice: str = "check the path") -> Secret:
    """Return the secret that is a file's text, its last line end left out.

    Args:
        option: what names the file, for errors.
        path: of the file.
        advice: what to do if it cannot be read.

    Raises:
        OptionError: names the option and the file; a retry does not help.
    """
    try:
        value = read_within(Path(path), SECRET_BYTES_MAX).decode().rstrip("\r\n")
    except FileTooLargeError:
        raise OptionError(
            f"{option}: {path} holds more than {SECRET_BYTES_MAX >> 10} KiB, which is no header; "
            "check the path"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is no text"
        raise OptionError(f"{option}: {path} cannot be read ({cause}); {advice}") from None
    if not value:
        raise OptionError(f"{option}: {path} is empty; write the value into it")
    return Secret(value)


class FileTooLargeError(Exception):
    """A file holds more than it may."""


def read_within(path: Path, bytes_max: int) -> bytes:
    """Return what a file holds, of which no more is read than may be.

    Raises:
        FileTooLargeError: it holds more than ``bytes_max``.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise FileTooLargeError
    return data
