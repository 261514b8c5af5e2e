"""Store: the few things that a job asks of the place where its objects stand."""

from __future__ import annotations

from typing import Protocol

from tritonbulk.errors import SinkError
from tritonbulk.job.protocol import Put


class UnsureError(SinkError):
    """A store did not answer, or not usably; a retry may help."""


class Store(Protocol):
    """Named runs of bytes under one prefix; names are relative, with ``/``.

    Every method blocks, within limits of its own, and may be called from several threads.
    """

    @property
    def name(self) -> str:
        """Name of the prefix, for people, without credentials."""

    def prepare(self) -> None:
        """Make the prefix ready, and check that what `create` promises is kept there.

        Raises:
            UnsureError: the store does not answer, or not usably; a retry may help.
            SinkError: it cannot be; a retry helps once the cause is gone.
            OptionError: the store cannot create without replacing; a retry does not help.
        """

    def create(self, name: str, data: bytes) -> Put:
        """Make an object appear whole and durably under a name that must be free.

        Returns:
            Put.UNKNOWN where it may or may not have appeared.

        Raises:
            SinkError: it did not appear; a retry helps once the cause is gone.
        """

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes, None if there is none.

        Raises:
            UnsureError: the store does not answer; a retry may help.
            SinkError: it may not be read; a retry helps once the cause is gone.
        """

    def names(self, folder: str) -> list[str]:
        """Return the names of `sizes`."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of all objects directly in ``folder`` ("" for the prefix), by name.

        Names are sorted.

        Raises:
            UnsureError: the store does not answer; a retry may help.
            SinkError: it may not be listed; a retry helps once the cause is gone.
        """

    def set_aside(self, name: str, aside: str, damaged: bytes) -> None:
        """Keep ``damaged`` as ``aside``, and let the next `create` of ``name`` take its place.

        Nothing but an object of just these bytes gives way: another run may have replaced it.
        ``aside`` may be taken already by the same bytes.

        Raises:
            UnsureError: the store does not answer; a retry may help.
            SinkError: it cannot be; a retry helps once the cause is gone.
        """

    def tidy(self) -> None:
        """Remove what unfinished puts have left behind; called once no part is missing."""
