"""Setting: what a trial sets on the client and on the server. Values."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = 0
"""Instances, or a batch limit, that the server does not tell."""


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """How the server is set.

    Attributes:
        instances: of the model; `UNKNOWN` if the server does not tell.
        queue_delay_us: how long a request may wait for others to make a batch with; -1 without
            dynamic batching.
        max_batch_size: rows that one batch may have; `UNKNOWN` for no limit.
        version: of the model, such as one of another precision.
    """

    instances: int = UNKNOWN
    queue_delay_us: int = -1
    max_batch_size: int = UNKNOWN
    version: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """One cell of a sweep.

    Attributes:
        batch_rows: rows a request.
        in_flight: requests in flight.
        variant: how the server is set.
    """

    batch_rows: int
    in_flight: int
    variant: Variant = Variant()

    @property
    def rows_in_flight(self) -> int:
        """Rows that are under way at one time: what the setting costs in memory and in waiting."""
        return self.batch_rows * self.in_flight

    def describe(self) -> str:
        """Return the client's half in words."""
        return f"{self.batch_rows:,} rows × {self.in_flight} in flight"


def describe_variant(variant: Variant, base: Variant, *, is_short: bool = False) -> str:
    """Return in words what a variant changes of the configured one; "" for nothing."""
    changes = []
    if variant.instances != base.instances:
        instances = "inst." if is_short else "instances" if variant.instances > 1 else "instance"
        changes.append(f"{variant.instances} {instances}")
    if variant.queue_delay_us != base.queue_delay_us:
        changes.append(f"{'' if is_short else 'queue delay '}{variant.queue_delay_us:,} µs")
    if variant.max_batch_size != base.max_batch_size:
        changes.append(f"{'≤ ' if is_short else 'max_batch_size '}{variant.max_batch_size:,}")
    if variant.version != base.version:
        changes.append(f"version {variant.version}")
    return ", ".join(changes)
