"""Statement: what a part says of itself, and the seal over all of its bytes. Pure.

It stands in the footer as text, so it is found and sealed without knowing the file's
format: whatever is written after it and contains no second statement will do.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass

from tritonbulk.errors import DamagedError

PART_KEY = "tritonbulk.part"
"""Key of the statement in a part's footer."""

_BEGIN = b'{"tritonbulk.part":1,'
_OPEN = "0" * 64
_SEAL = re.compile(rb'"seal":"([0-9a-f]{64})"')
_NAME = re.compile(r"part-(\d{8,})\.(parquet|arrow)")


@dataclass(frozen=True, slots=True)
class PartStatement:
    """What a part says of itself.

    Attributes:
        fingerprint: of its job.
        segment: its number.
        input: position of the input file in the spec.
        row_begin: first row, counted from 0 in that file, before the filter.
        row_end: the row after the last.
        rows: rows of the part.
        rows_failed: of these, those with an error.
        rows_filtered: rows that the filter removed.
    """

    fingerprint: str
    segment: int
    input: int
    row_begin: int
    row_end: int
    rows: int
    rows_failed: int
    rows_filtered: int

    def to_text(self) -> str:
        """Return the text for the footer, not yet sealed."""
        plain = {PART_KEY: 1, **asdict(self), "seal": _OPEN}
        return json.dumps(plain, separators=(",", ":"))


def part_name(segment: int, extension: str) -> str:
    """Return the name of a segment's part."""
    return f"part-{segment:08d}.{extension}"


def part_number(name: str) -> int | None:
    """Return the number of the segment whose part has this name; None if it is no part's."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def seal(data: bytes) -> tuple[bytes, str]:
    """Return the bytes of a file with the statement in it sealed, and their own hex SHA-256.

    Raises:
        ValueError: there is no statement.
    """
    begin, _ = _seal_span(data)
    view = memoryview(data)
    # What stands before the seal is hashed once for both: it is nearly all of the file.
    unsealed = hashlib.sha256(view[:begin])
    sealed = unsealed.copy()
    unsealed.update(view[begin:])
    digits, rest = unsealed.hexdigest().encode(), view[begin + 64 :]
    sealed.update(digits)
    sealed.update(rest)
    return b"".join((view[:begin], digits, rest)), sealed.hexdigest()


def read_part(data: bytes) -> PartStatement:
    """Return what a part says of itself, all of its bytes checked against the seal.

    Raises:
        DamagedError: a byte is not as it was written, or this is no part; a retry does not help.
    """
    try:
        begin, end = _seal_span(data)
        plain = json.loads(data[data.rfind(_BEGIN, 0, begin) : end])
        sealed = plain.pop("seal")
        del plain[PART_KEY]
        statement = PartStatement(**plain)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError("it holds no statement of a part") from error
    view, digest = memoryview(data), hashlib.sha256()
    for piece in (view[:begin], _OPEN.encode(), view[begin + 64 :]):
        digest.update(piece)
    if digest.hexdigest() != sealed:
        raise DamagedError("its bytes do not match its seal")
    return statement


def _seal_span(data: bytes) -> tuple[int, int]:
    """Return where the digits of the seal begin, and the end of the statement."""
    begin = data.rfind(_BEGIN)
    found = _SEAL.search(data, begin) if begin >= 0 else None
    if found is None or data[found.end() : found.end() + 1] != b"}":
        raise ValueError("no statement")
    return found.start(1), found.end() + 1
