"""Owed: what is missing of a job, and whose it is to make. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tritonbulk.job.spec import JobFile
from tritonbulk.shards import Shard, Split

SHOWN_MAX = 8
"""Shards, and runs of segments of each, that a sentence names."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What is known of a job that shards may work on.

    Attributes:
        rows: of each input, as far as the job goes; None where nobody has come to the end yet.
        segments: how many there are; None likewise.
        splits: how it was shared out, once for each number of shards; empty if it was not.
    """

    rows: tuple[int, ...] | None
    segments: int | None
    splits: tuple[Split, ...]


@dataclass(frozen=True, slots=True)
class Owed:
    """What a shard has not made yet; shown by ``status --json`` and ``commit --json``.

    Attributes:
        shard: whose segments they are; None of a job that was not split.
        segments: numbers of those without a part, as in the names of parts.
        segments_all: how many it has, done or not; None where only reading the inputs tells.
    """

    shard: Shard | None
    segments: tuple[int, ...]
    segments_all: int | None


def what_is_owed(file: JobFile, sharing: Sharing, stand: Collection[int]) -> tuple[Owed, ...]:
    """Return what is missing of an unfinished job, by the shards that have to make it.

    Where nobody has come to the end of the inputs, each shard may have more to do, so all are
    named. Where a job was split in several ways, it is the shards of the finest split.

    Args:
        file: what the job is.
        sharing: what is known of its shards.
        stand: numbers of the segments whose parts stand there.

    Returns:
        Nothing if, and only if, no part is missing.
    """
    begin = file.segment_begin
    end = sharing.segments or max((each - begin + 1 for each in stand), default=0)
    missing = [each for each in range(begin, begin + end) if each not in stand]
    if sharing.segments is not None and not missing:
        return ()
    if not sharing.splits:
        return (Owed(None, tuple(missing), sharing.segments),)
    split = sharing.splits[-1]
    own: list[list[int]] = [[] for _ in range(split.count)]
    counts = [0] * split.count
    for segment in range(end):
        counts[split.owner(segment)] += 1
    for segment in missing:
        own[split.owner(segment - begin)].append(segment)
    is_known = sharing.segments is not None
    return tuple(
        Owed(Shard(index, split.count), tuple(segments), count if is_known else None)
        for index, (segments, count) in enumerate(zip(own, counts, strict=True))
        if segments or not is_known
    )


def in_words(owed: Sequence[Owed]) -> str:
    """Return who owes what: ``shard 3/8: segments 17 to 19 and 21``."""
    named = [_one_in_words(each) for each in owed[:SHOWN_MAX]]
    more = len(owed) - len(named)
    return "; ".join((*named, f"and {more} more shards") if more > 0 else named)


def _one_in_words(owed: Owed) -> str:
    whose = "" if owed.shard is None else f"shard {owed.shard}: "
    if not owed.segments:
        return f"{whose}has not come to the end of the inputs"
    runs = list(_runs(owed.segments))
    texts = [str(a) if a == b else f"{a} to {b}" for a, b in runs[:SHOWN_MAX]]
    if len(runs) > SHOWN_MAX:
        texts.append("more")
    listed = " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
    return f"{whose}segment{'s' if len(owed.segments) > 1 else ''} {listed}"


def _runs(segments: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of consecutive numbers."""
    begin = segments[0]
    for each, following in pairwise(segments):
        if following != each + 1:
            yield begin, each
            begin = following
    yield begin, segments[-1]
