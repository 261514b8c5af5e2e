"""Partitions: folders named ``key=value`` (Hive's convention) become columns. Pure.

A key whose values are all whole numbers is an int64 column, any other a string column;
``__HIVE_DEFAULT_PARTITION__`` is null.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

import pyarrow as pa

from tritonbulk.errors import InputError

Keys = tuple[tuple[str, str | None], ...]

_NULL = "__HIVE_DEFAULT_PARTITION__"
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def keys_of(folders: Sequence[str]) -> Keys:
    """Return keys and values of the folders between a data set and one of its files."""
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    return tuple(
        (unquote(key), None if value == _NULL else unquote(value)) for key, _, value in pairs if key
    )


def key_schema(files: Sequence[tuple[str, Keys]]) -> pa.Schema:
    """Return the columns that partition keys make.

    Args:
        files: name and keys of every file.

    Raises:
        InputError: two files have different keys, or one has a key twice; no retry.
    """
    first, keys = files[0]
    names = [key for key, _ in keys]
    if len(set(names)) < len(names):
        raise InputError(f"the folders of {first} give one partition key twice; rename one")
    for name, others in files:
        if [key for key, _ in others] != names:
            raise InputError(
                f"{name} stands under partition keys {_listed(others)}, but {first} under "
                f"{_listed(keys)}; score them in separate runs"
            )
    return pa.schema(
        (name, _kind([others[position][1] for _, others in files]))
        for position, name in enumerate(names)
    )


def _kind(values: Sequence[str | None]) -> pa.DataType:
    whole = all(value is None or _WHOLE_NUMBER.fullmatch(value) for value in values)
    return pa.int64() if whole else pa.string()


def key_value(value: str | None, kind: pa.DataType) -> pa.Scalar:
    """Return a key's value as a scalar of its column's type."""
    return pa.scalar(int(value) if value is not None and pa.types.is_int64(kind) else value, kind)


def _listed(keys: Keys) -> str:
    return ", ".join(key for key, _ in keys) or "none"
