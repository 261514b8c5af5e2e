"""Spec: all that a job's output depends on, and nothing else. Pure.

See ``docs/job-format.md`` for every member. What is in a spec cannot change between the runs of one
job; what is not in it (endpoints, window, memory, retries) can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tritonbulk.errors import DamagedError, OutputError
from tritonbulk.job.fingerprint import canonical_json, fingerprint
from tritonbulk.job.statement import part_name

FORMAT_VERSION = 1
"""Version of the format of jobs that this release writes and continues."""


OWN_OF_INCREMENTS = ("inputs", "data_interval", "follows")
"""Members in which an increment differs from the job it is added to."""


@dataclass(frozen=True, slots=True)
class InputIdentity:
    """What tells one state of an input file from any other.

    Attributes:
        name: absolute path, or URI without query and credentials.
        size: bytes.
        rows: how many it has; None where only reading tells.
        etag: of the object; None for files.
        mtime_ns: time of the last change, in ns since 1970; None where ``etag`` or ``sha256``
            tells more.
        sha256_ends: hex digest of the first and last 64 KiB; None likewise.
        sha256: hex digest of the whole, where it was asked for or the file is not larger than its
            ends.
    """

    name: str
    size: int
    rows: int | None = None
    etag: str | None = None
    mtime_ns: int | None = None
    sha256_ends: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What tells one state of a served model from any other.

    Attributes:
        name: the model's name.
        version: the version that requests pin.
        digest: stamped by the exporter; "" if there is none.
        config_digest: of the served configuration; "" where the server does not tell it.
        files_digest: of the files that the embedded server loads; "" with servers at endpoints.
    """

    name: str
    version: str
    digest: str
    config_digest: str
    files_digest: str = ""


@dataclass(frozen=True, slots=True)
class Follows:
    """The finished job that an increment is added to.

    Attributes:
        manifest_sha256: hex digest of its manifest's bytes.
        segment_begin: number of the increment's first segment.
    """

    manifest_sha256: str
    segment_begin: int


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job.

    Attributes:
        inputs: in output order.
        input_format: of all of them.
        columns: name and Arrow type of each column that is read.
        where: canonical text of the filter; None for none.
        limit_rows: only the first so many rows; None for all.
        segment_rows: rows of a segment.
        batch_rows: rows of a request.
        model: which model answers.
        tensors: input and output tensors with the columns that feed them, as JSON.
        output: name and Arrow type of each column of a part.
        encoding: how rows become the bytes of a part.
        vectors: how a prediction of several numbers stands in a row.
        nan: whether a row fails whose prediction is NaN: "keep" or "fail".
        data_interval: begin and end of the period that the rows are about; None if not told.
        follows: of an increment; None for the first job of a prefix.
        format_version: of all this.
    """

    inputs: tuple[InputIdentity, ...]
    input_format: str
    columns: tuple[tuple[str, str], ...]
    where: str | None
    limit_rows: int | None
    segment_rows: int
    batch_rows: int
    model: ModelIdentity
    tensors: Mapping[str, Any]
    output: tuple[tuple[str, str], ...]
    encoding: str
    vectors: str
    nan: str = "keep"
    data_interval: tuple[str, str] | None = None
    follows: Follows | None = None
    format_version: int = FORMAT_VERSION

    def to_plain(self) -> dict[str, Any]:
        """Return the spec as JSON values, of which every one counts."""
        plain: dict[str, Any] = json.loads(canonical_json(asdict(self)))
        return plain

    @property
    def fingerprint(self) -> str:
        """The job's identity."""
        return fingerprint(self.to_plain())

    @property
    def segment_begin(self) -> int:
        """Number of the first segment."""
        return self.follows.segment_begin if self.follows else 0

    def beside_inputs(self) -> dict[str, Any]:
        """Return what an increment must have in common with the job it is added to."""
        return {
            name: value for name, value in self.to_plain().items() if name not in OWN_OF_INCREMENTS
        }


@dataclass(frozen=True, slots=True)
class JobFile:
    """What ``job.json`` holds.

    Attributes:
        spec: as JSON values.
        fingerprint: of them.
        release: the tritonbulk that began the job.
        asked: digest of what was asked for, by which a finished job is known without a server; ""
            where it tells nothing.
    """

    spec: Mapping[str, Any]
    fingerprint: str
    release: str
    asked: str = ""

    @property
    def segment_begin(self) -> int:
        """Number of the first segment."""
        follows = self.spec["follows"]
        return follows["segment_begin"] if follows else 0

    @property
    def out_format(self) -> Any:
        """File format of the parts, with which the encoding's name begins; also their extension."""
        return self.spec["encoding"].partition("-")[0]

    def part_name(self, segment: int) -> str:
        """Return the name of a segment's part."""
        return part_name(segment, self.out_format)

    def to_bytes(self) -> bytes:
        """Return the file's bytes, indented for people."""
        plain = {"format_version": FORMAT_VERSION, **asdict(self)}
        return (json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_job(data: bytes, where: str) -> JobFile:
    """Return what the bytes of a ``job.json`` hold.

    Args:
        data: the bytes.
        where: names the file in errors.

    Raises:
        DamagedError: they are not what was written; a retry does not help.
        OutputError: they are of another format version; a retry does not help.
    """
    advice = "restore it from a copy, or score into another --out"
    try:
        plain = json.loads(data)
    except ValueError as error:
        raise DamagedError(f"{where} is damaged (it is no JSON); {advice}") from error
    try:
        version, release = plain["format_version"], str(plain["release"])
        if version == FORMAT_VERSION:
            if fingerprint(plain["spec"]) == plain["fingerprint"]:
                return JobFile(plain["spec"], plain["fingerprint"], release, str(plain["asked"]))
            raise DamagedError(
                f"{where} is damaged (its fingerprint is not that of its spec); {advice}"
            )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{where} is damaged (it is no job file); {advice}") from error
    raise OutputError(
        f"the job at {where} was begun by tritonbulk {release} in format {version}, and this "
        f"release continues format {FORMAT_VERSION}; finish it with tritonbulk {release}, or give "
        "another --out"
    )
