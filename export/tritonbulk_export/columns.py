"""Which sample columns feed a model that knows its features by name, or only their number."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tritonbulk.errors import ContractError


def feature_columns(names: Sequence[str] | None, count: int, sample: pa.Schema) -> tuple[str, ...]:
    """Return the columns for a model's features: those of the same names, else all if they fit.

    Args:
        names: of the features; None if the model does not know them.
        count: of features.
        sample: schema of the sample.

    Raises:
        ContractError: neither fits; a retry does not help.
    """
    missing = [] if names is None else [name for name in names if name not in sample.names]
    if names is not None and not missing:
        return tuple(names)
    # A name or two that is missing is a wrong file; only names that are all foreign (Column_0, f0)
    # were made up by the framework.
    if count == len(sample.names) and (names is None or len(missing) == count):
        return tuple(sample.names)
    wants = (
        f"{count} features without names"
        if names is None
        else f"feature {missing[0]!r} ({len(missing)} of its {count} features are missing)"
    )
    raise ContractError(
        f"the model wants {wants}, the sample has {len(sample.names)} columns; give a sample with "
        "the model's columns, or with exactly as many"
    )
