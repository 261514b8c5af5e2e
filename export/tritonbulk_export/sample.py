"""The sample: rows of the kind that the model will meet, read whole."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from tritonbulk.errors import InputError

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "feather",
    ".arrow": "feather",
    ".csv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}


def read_sample(path: Path) -> pa.Table:
    """Return all rows of ``path``: Parquet, Feather, CSV or JSON lines, by the file's ending.

    Raises:
        InputError: the file is missing, unreadable or without rows; a retry does not help.
    """
    found = _FORMATS.get(path.suffix.lower())
    if found is None:
        raise InputError(
            f"sample {path} has an unknown ending; use one of {', '.join(sorted(_FORMATS))}"
        )
    try:
        table = ds.dataset(path, format=found).to_table()
    except (OSError, pa.ArrowInvalid) as error:
        reason = "does not exist" if not path.exists() else str(error).splitlines()[0]
        raise InputError(f"sample {path} cannot be read: {reason}; give a readable file") from error
    if not table.num_rows:
        raise InputError(f"sample {path} has no rows; give some that the model will meet")
    return table.combine_chunks()
