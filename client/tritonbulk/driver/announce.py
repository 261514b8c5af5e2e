"""Announcer: says in sentences what people should know of endpoints and outages, and no more.

What lasts less than a second is not worth a line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tritonbulk.events import EndpointChanged

TELL_AFTER_S = 1.0
"""An endpoint that is out for so long is mentioned."""

TELL_EVERY_S = 30.0
"""An outage of everything is mentioned so often."""

_SICK = "is not healthy"
_ADVICE = (
    ": the process that runs the model died there, although the server says that it is ready; "
    "load the model again (RepositoryModelLoad) or restart the server"
)


@dataclass(slots=True)
class _Out:
    since_s: float
    reason: str
    is_told: bool = False


class Announcer:
    """Turns changes of endpoints into sentences.

    Args:
        say: told each sentence.
        max_outage_s: how long the run goes on without a row scored.
        heals: who is sick is mended without anybody's help.
    """

    def __init__(
        self, say: Callable[[str], None], max_outage_s: float, *, heals: bool = False
    ) -> None:
        self._say = say
        self._max_outage_s = max_outage_s
        self._heals = heals
        self._out: dict[str, _Out] = {}
        self._silent_told_s = 0.0

    def changed(self, change: EndpointChanged, now_s: float) -> None:
        """Take note of how an endpoint is treated from now on."""
        known = self._out.get(change.endpoint)
        # What may quote rows is not for a log; it stands in the output, and in the server's log.
        reason = change.reason.partition(":")[0] if change.quotes_data else change.reason
        if change.state == "up":
            if known is not None and known.is_told:
                self._say(f"{change.endpoint} is back after {now_s - known.since_s:.1f} s")
            self._out.pop(change.endpoint, None)
        elif change.state == "gone":
            self._say(f"{change.endpoint} is used no longer ({change.reason})")
            self._out.pop(change.endpoint, None)
        elif known is None:
            self._out[change.endpoint] = _Out(now_s, reason)
        elif change.state == "resting":
            known.reason = reason

    def tick(self, silence_s: float, reason: str, now_s: float) -> None:
        """Say what has lasted long enough.

        Args:
            silence_s: seconds since the last row was scored, 0 while all is well.
            reason: the last failure, in words.
            now_s: the time.
        """
        for endpoint, out in self._out.items():
            if not out.is_told and now_s - out.since_s >= TELL_AFTER_S:
                out.is_told = True
                needs_help = _SICK in out.reason and not self._heals
                advice = _ADVICE if needs_help else ""
                self._say(f"{endpoint} gets no requests for now ({out.reason}){advice}")
        if silence_s < TELL_EVERY_S:
            self._silent_told_s = 0.0
        elif silence_s - self._silent_told_s >= TELL_EVERY_S:
            self._silent_told_s = silence_s
            left_s = self._max_outage_s - silence_s
            until = f"giving up in {left_s:.0f} s" if left_s < float("inf") else "waiting for ever"
            self._say(f"no row was scored for {silence_s:.0f} s ({reason}); {until}")
