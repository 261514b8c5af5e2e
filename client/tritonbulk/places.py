"""Places: what a run may write beside its output, and where. Refused before the first row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tritonbulk.errors import OptionError

SINGLE_FILE_FORMATS = (".csv", ".jsonl", ".parquet")
"""Extensions that a single file may have."""


def check_single_file(path: Path, out: Path | str, inputs: Sequence[str] = ()) -> None:
    """Refuse a single file that cannot be, or that would be read as something else.

    Raises:
        OptionError: says why; a retry does not help.
    """
    # A path of "s3://…" has one slash left.
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise OptionError(f"--single-file {path} is a URI, and it is one local file; give a path")
    if path.suffix not in SINGLE_FILE_FORMATS:
        raise OptionError(
            f"--single-file {path} has none of the extensions {', '.join(SINGLE_FILE_FORMATS)}, "
            "which tell its format"
        )
    if any(Path(each).resolve() == path.resolve() for each in inputs):
        raise OptionError(f"--single-file {path} is an input; give another name")
    if _is_below(path, out):
        raise OptionError(
            f"--single-file {path} lies in --out {out}, whose readers would see every row twice; "
            "give another place"
        )


def check_report(path: Path, out: Path | str) -> None:
    """Refuse a report that has no folder, or would stand among parts.

    Raises:
        OptionError: says why; a retry does not help.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OptionError(f"--report {path} is no file in a folder that exists")
    if _is_below(path, out):
        raise OptionError(
            f"--report {path} lies in --out {out}, where parts alone stand; give another place, or "
            "leave it out: a report is kept in _tritonbulk/runs/ in any case"
        )


def _is_below(file: Path, out: Path | str) -> bool:
    is_local = "://" not in str(out)
    return is_local and file.resolve().is_relative_to(Path(out).resolve())
