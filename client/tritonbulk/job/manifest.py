"""Manifest: the list of a finished job's parts, with their digests. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tritonbulk.errors import DamagedError, OutputError
from tritonbulk.job.fingerprint import canonical_json
from tritonbulk.job.spec import FORMAT_VERSION, JobFile
from tritonbulk.job.statement import PartStatement

_OPEN = "0" * 64
_ADVICE = (
    "restore it from a copy, or, where no other job follows it, delete it and run the command of "
    "the job again, which writes it anew"
)


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part as it stands in the store.

    Attributes:
        name: of the object.
        statement: what it says of itself.
        size: bytes.
        sha256: hex digest of its bytes, read from the store.
    """

    name: str
    statement: PartStatement
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, statement: PartStatement, data: bytes) -> StoredPart:
        """Return the part whose bytes were read."""
        return cls(name, statement, len(data), hashlib.sha256(data).hexdigest())

    def to_plain(self) -> dict[str, Any]:
        """Return the part's entry in a manifest."""
        plain = asdict(self.statement)
        del plain["fingerprint"]
        return {"name": self.name, **plain, "bytes": self.size, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A finished job.

    Attributes:
        fingerprint: of the job.
        follows: as in the job's spec.
        segment_begin: number of the first segment.
        rows: rows of all parts.
        rows_failed: of these, those with an error.
        rows_filtered: rows that the filter removed.
        release: the tritonbulk that began the job.
        model: as in the job's spec.
        data_interval: as in the job's spec.
        inputs: as in the job's spec.
        parts: entries in the order of segments.
    """

    fingerprint: str
    follows: Mapping[str, Any] | None
    segment_begin: int
    rows: int
    rows_failed: int
    rows_filtered: int
    release: str
    model: Mapping[str, Any]
    data_interval: Sequence[str] | None
    inputs: Sequence[Mapping[str, Any]]
    parts: Sequence[Mapping[str, Any]]

    @property
    def segment_end(self) -> int:
        """Number of the segment after the last."""
        return self.segment_begin + len(self.parts)

    def to_bytes(self) -> bytes:
        """Return the file's bytes, sealed."""
        plain = {"format_version": FORMAT_VERSION, **asdict(self), "seal": _OPEN}
        plain["seal"] = hashlib.sha256(canonical_json(plain)).hexdigest()
        return canonical_json(plain)


def make_manifest(
    job: JobFile, parts: Iterable[StoredPart], rows: Sequence[int] | None = None
) -> Manifest:
    """Return the manifest of a job whose parts are ``parts``, in any order.

    Args:
        job: what it is.
        parts: of it.
        rows: of each input, as far as the job goes; None where its spec tells, or who calls knows
            that the parts reach the ends.

    Raises:
        DamagedError: they do not tile the inputs; a retry does not help.
    """
    ordered = sorted(parts, key=lambda part: part.statement.segment)
    check_tiling(job, [part.statement for part in ordered], rows)
    return Manifest(
        fingerprint=job.fingerprint,
        follows=job.spec["follows"],
        segment_begin=job.segment_begin,
        rows=sum(part.statement.rows for part in ordered),
        rows_failed=sum(part.statement.rows_failed for part in ordered),
        rows_filtered=sum(part.statement.rows_filtered for part in ordered),
        release=job.release,
        model=job.spec["model"],
        data_interval=job.spec["data_interval"],
        inputs=job.spec["inputs"],
        parts=[part.to_plain() for part in ordered],
    )


def check_tiling(
    job: JobFile, statements: Sequence[PartStatement], rows: Sequence[int] | None = None
) -> None:
    """Check that parts in order of segments hold every row of the inputs once, and in order.

    ``rows`` are as in `make_manifest`.

    Raises:
        DamagedError: names the first segment that does not fit; a retry does not help.
    """
    ends = [0] * len(job.spec["inputs"])
    latest = 0
    for expected, each in enumerate(statements, job.segment_begin):
        fits = (
            each.segment == expected
            and latest <= each.input < len(ends)
            and each.row_begin == ends[each.input]
            and each.row_end - each.row_begin == each.rows + each.rows_filtered
            and 0 <= each.rows_failed <= each.rows
        )
        if not fits:
            raise DamagedError(f"segment {expected} is missing, or its rows are not those expected")
        latest, ends[each.input] = each.input, each.row_end
    _check_ends(job, statements, ends, rows)


def _check_ends(
    job: JobFile,
    statements: Sequence[PartStatement],
    ends: Sequence[int],
    rows: Sequence[int] | None,
) -> None:
    """Check that the parts reach the end of every input, as far as its rows are known."""
    if not statements:
        raise DamagedError(f"segment {job.segment_begin} is missing")
    left = job.spec["limit_rows"]
    for at, (each, end) in enumerate(zip(job.spec["inputs"], ends, strict=True)):
        expected = end if each["rows"] is None else each["rows"]
        expected = rows[at] if rows is not None else expected
        expected = expected if left is None else min(expected, left)
        if end != expected:
            raise DamagedError(f"rows {end} to {expected} of {each['name']} have no part")
        left = None if left is None else left - end


def read_manifest(data: bytes, where: str) -> Manifest:
    """Return what the bytes of a manifest hold, checked against their seal.

    Raises:
        DamagedError: a byte is not as it was written; a retry does not help.
        OutputError: another release's format; a retry does not help.
    """
    try:
        plain = json.loads(data)
    except ValueError as error:
        raise DamagedError(f"{where} is damaged (it is no JSON); {_ADVICE}") from error
    try:
        if fault := _fault(plain, data):
            raise DamagedError(f"{where} is damaged ({fault}); {_ADVICE}")
        if plain["format_version"] == FORMAT_VERSION:
            del plain["seal"], plain["format_version"]
            return Manifest(**plain)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{where} is damaged (it is no manifest); {_ADVICE}") from error
    raise OutputError(f"{where} has format {plain['format_version']}; use the release of its job")


def _fault(plain: Mapping[str, Any], data: bytes) -> str | None:
    """Return what is wrong with the bytes of a manifest, None if nothing is."""
    # Equal values can be written in more than one way; one of them is right.
    if data != canonical_json(plain):
        return "it is not in its canonical form"
    unsealed = canonical_json({**plain, "seal": _OPEN})
    if hashlib.sha256(unsealed).hexdigest() != plain["seal"]:
        return "its bytes do not match its seal"
    return None
