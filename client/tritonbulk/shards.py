"""Shards: how the segments of one job are shared out among processes. Pure functions of the input.

A shard is whose work a segment is, never whose part: nothing that is written tells who made it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass

from tritonbulk.errors import OptionError

SHARDS_MAX = 100_000
"""Most shards of a job; Kubernetes takes as many completions of an Indexed Job."""

INDEX_VARIABLES = (
    "JOB_COMPLETION_INDEX",  # Kubernetes, Indexed Job
    "AWS_BATCH_JOB_ARRAY_INDEX",
    "CLOUD_RUN_TASK_INDEX",
)
"""Variables in which schedulers tell a task its number, from 0; for ``auto``."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the shards of a job.

    Attributes:
        index: which one, from 0.
        count: how many there are.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True)
class Split:
    """How the segments of a job are shared out; the same for all of its shards.

    Where the number of segments is known, each shard has a run of them, as long as any other's but
    for one segment: what is not its own it need not read. Else they are dealt out in turn, since
    who reads a file whose rows only reading tells passes every one of them anyway.

    Attributes:
        count: number of shards.
        segments: number of segments of the job; None where only reading tells.
    """

    count: int
    segments: int | None

    def owner(self, segment: int) -> int:
        """Return the index of the shard that a segment belongs to; segments count from 0."""
        if self.segments is None:
            return segment % self.count
        return segment * self.count // self.segments


@dataclass(frozen=True, slots=True)
class Others(Container[int]):
    """The segments that are none of a shard's."""

    split: Split
    shard: Shard

    def __contains__(self, segment: object) -> bool:
        assert isinstance(segment, int), "segments are numbers"
        return self.split.owner(segment) != self.shard.index


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """Return the shard that ``i/n`` names, i from 0; ``auto/n`` takes i from the environment.

    Raises:
        OptionError: it has another form, or the environment does not tell; a retry does not help.
    """
    found = re.fullmatch(r"(\d+|auto)/(\d+)", text.strip())
    if found is None:
        raise OptionError(
            f"--shard is {text!r}; give i/n, for example 0/8 for the first of eight, or auto/8 "
            "where the scheduler tells each task its number"
        )
    index, count = found[1], int(found[2])
    if index == "auto":
        known = [name for name in INDEX_VARIABLES if environment.get(name, "").isdecimal()]
        if not known:
            raise OptionError(
                f"--shard {text} needs the number of this task in one of the variables "
                f"{', '.join(INDEX_VARIABLES)}, and none is set; give it, as in --shard 0/{count}"
            )
        index = environment[known[0]]
    if not 1 <= count <= SHARDS_MAX:
        raise OptionError(f"--shard {text} names {count} shards; give 1 to {SHARDS_MAX}")
    if int(index) >= count:
        raise OptionError(
            f"--shard {index}/{count}: shards are counted from 0, so the last one is "
            f"{count - 1}/{count}"
        )
    return Shard(int(index), count)
