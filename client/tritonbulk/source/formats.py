"""Formats: which module reads which format."""

from __future__ import annotations

from collections.abc import Mapping

from tritonbulk.options import Format
from tritonbulk.source import delimited, ipc, jsonl, parquet
from tritonbulk.source.reader import Reader

READERS: Mapping[Format, Reader] = {
    "parquet": parquet,
    "csv": delimited,
    "jsonl": jsonl,
    "arrow": ipc,
}
"""The reader of each format; its module is the object."""
