"""Widths: how many values a row of a column has, as far as its type tells."""

from __future__ import annotations

import pyarrow as pa

from tritonbulk.contract.schema import InputTensor
from tritonbulk.errors import InputError


def row_width(found: pa.DataType) -> int | None:
    """Return how many values a row of a column has, None where only the rows tell."""
    width = 1
    while is_list(found) or pa.types.is_dictionary(found):
        if is_list(found):
            if not pa.types.is_fixed_size_list(found):
                return None
            width *= found.list_size
        found = found.value_type
    return width


def check_open_widths(tensor: InputTensor, schema: pa.Schema) -> None:
    """Check that no rows, but types and shape alone, tell where each column's values stand.

    Else rows would shift between columns that stand side by side. So of these one at most may hold
    lists without a fixed size, and none where the tensor's own width is free.

    Raises:
        InputError: more do; a retry does not help.
    """
    kinds = {field.name: field.type for field in schema}
    names = [c.name for c in tensor.columns if c.name in kinds and row_width(kinds[c.name]) is None]
    most = 0 if -1 in tensor.shape else 1
    if len(tensor.columns) > 1 and len(names) > most:
        noun, verb = ("columns", "hold") if len(names) > 1 else ("column", "holds")
        raise InputError(
            f"{noun} {', '.join(map(repr, names))} {verb} lists of any length beside other columns "
            f"of tensor {tensor.name!r} (shape {list(tensor.shape)}), which takes "
            f"{'one such column' if most else 'none'}; store them as lists of fixed size"
        )


def element_type(found: pa.DataType) -> pa.DataType:
    """Return the type of a column's values; of a list, that of its elements."""
    while is_list(found) or pa.types.is_dictionary(found):
        found = found.value_type
    return found


def is_list(found: pa.DataType) -> bool:
    """Return whether a row of this type holds a list of values."""
    types = pa.types
    return bool(
        types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found)
    )
