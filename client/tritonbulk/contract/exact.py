"""Exact: a column's values → values of the tensor's datatype, unchanged or refused.

The rule is Arrow's safe cast (integers must survive unchanged, fractions are not cut off); finite
floats must stay finite, and only 0 and 1 are truth values. FP16 and BF16, which Arrow casts without
a look or does not have, keep to it as well. What the contract itself puts in, categories' codes and
substitutes, must be exact. All of it holds for every value by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.contract.datatypes import Datatype
from tritonbulk.contract.schema import Column, InputTensor, Substitute
from tritonbulk.errors import InputError


@dataclass(frozen=True, slots=True)
class Feed:
    """A column on its way into a tensor, from a batch of ``rows`` rows."""

    column: Column
    tensor: InputTensor
    rows: int

    def place(self, mask: pa.Array) -> str:
        """Return the row of the first true value, in words; of a list's, its place there too."""
        width = max(len(mask) // max(self.rows, 1), 1)
        row, element = divmod(first(mask), width)
        return f"row {row}" if width == 1 else f"row {row}, element {element}"


def codes_of(array: pa.Array, categories: tuple[str | int, ...], feed: Feed) -> pa.Array:
    """Return each value's position in the categories, as the tensor's datatype.

    Raises:
        InputError: a null or stranger has no substitute, or the datatype cannot tell all positions
            apart (whichever of them occur); a retry does not help.
    """
    value_set = pa.array(categories)
    if pa.types.is_integer(value_set.type):
        array = array.cast(value_set.type)  # a narrow column may not hold every category
    else:
        value_set = value_set.cast(array.type)
    is_null = array.is_null()
    positions = pc.index_in(array, value_set=value_set, skip_nulls=True)
    is_unknown = pc.and_(positions.is_null(), pc.invert(is_null))
    codes = _code_table(categories, feed).take(positions)
    codes = filled(codes, is_null, feed.column.null, array, feed)
    return filled(codes, is_unknown, feed.column.unknown, array, feed)


def _code_table(categories: tuple[str | int, ...], feed: Feed) -> pa.Array:
    wanted = feed.tensor.datatype
    codes = np.arange(len(categories))
    with np.errstate(all="ignore"):
        held = codes.astype(wanted.numpy)
        changed = held.astype(np.int64) != codes
    if changed.any():
        code = int(changed.argmax())
        raise _unfit(f"code {code} for category {categories[code]!r}", feed)
    return pa.array(held.astype(wanted.arrow.to_pandas_dtype()))


def _substitute(substitute: float, of: str, feed: Feed) -> pa.Scalar:
    wanted = feed.tensor.datatype
    with np.errstate(all="ignore"):
        held = np.float64(substitute).astype(wanted.numpy).item()
    if held != substitute and not (np.isnan(held) and np.isnan(substitute)):
        raise _unfit(f"substitute {substitute} for {of}", feed)
    return pa.scalar(held, wanted.arrow)


def _unfit(what: str, feed: Feed) -> InputError:
    return InputError(
        f"column {feed.column.name!r} has the {what}, which does not fit tensor "
        f"{feed.tensor.name!r} ({feed.tensor.datatype.name}) unchanged; export the model with a "
        "wider dtype, or with what fits"
    )


def exact_values(array: pa.Array, feed: Feed) -> pa.Array:
    """Return ``array`` as the tensor's datatype, nulls kept, every other value unchanged.

    Fractions are rounded to nearest even: to BF16 by way of float32, as ml_dtypes does.

    Raises:
        InputError: a finite float would become infinite, or is no truth value; no retry.
        pa.ArrowInvalid: a value cannot be cast, or an integer would change; no retry.
    """
    wanted = feed.tensor.datatype
    if array.type == wanted.arrow and wanted.name != "BF16":
        return array
    if pa.types.is_boolean(wanted.arrow):
        return _truths(array, feed)
    is_fraction = pa.types.is_floating(array.type)
    exact = _cast(array, wanted, is_fraction)
    if wanted.is_float and is_fraction:
        overflow = pc.and_(pc.is_inf(exact), pc.is_finite(array))
        if pc.any(overflow).as_py():
            raise InputError(
                f"column {feed.column.name!r} holds {array[first(overflow)].as_py()!r} at "
                f"{feed.place(overflow)}, which overflows tensor {feed.tensor.name!r} "
                f"({wanted.name}); scale the column"
            )
    return exact


def _cast(array: pa.Array, wanted: Datatype, is_fraction: bool) -> pa.Array:
    # Arrow has no BF16, casts integers to half floats unchecked and truth values not at all.
    if wanted.name == "BF16" or (wanted.name == "FP16" and not is_fraction):
        array = _rounded(array.cast(pa.float32()), wanted, is_fraction)
    return array.cast(wanted.arrow)


def _rounded(array: pa.Array, wanted: Datatype, is_fraction: bool) -> pa.Array:
    """Return float32 values as ``wanted`` holds them: fractions to nearest even.

    Raises:
        pa.ArrowInvalid: an integer would change.
    """
    values = array.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        rounded = values.astype(wanted.numpy).astype(np.float32)
    changed = (rounded != values) & ~np.isnan(values)
    if not is_fraction and changed.any():
        raise pa.ArrowInvalid(f"Integer value {values[changed.argmax()]:.0f} would be rounded")
    return pa.array(rounded, mask=np.asarray(array.is_null()))


def _truths(array: pa.Array, feed: Feed) -> pa.Array:
    numbers = array.cast(pa.float64(), safe=False)
    is_truth = pc.fill_null(pc.or_(pc.equal(numbers, 0.0), pc.equal(numbers, 1.0)), True)
    if not pc.all(is_truth).as_py():
        wrong = pc.invert(is_truth)
        raise InputError(
            f"column {feed.column.name!r} holds {array[first(wrong)].as_py()!r} at "
            f"{feed.place(wrong)}, but tensor {feed.tensor.name!r} is BOOL; only 0, 1, false and "
            "true fit"
        )
    return pc.equal(numbers, 1.0)


def filled(
    exact: pa.Array,
    where: pa.Array,
    substitute: Substitute,
    array: pa.Array,
    feed: Feed,
) -> pa.Array:
    """Return ``exact`` with the substitute where ``where`` is true; ``array`` is the file's.

    Raises:
        InputError: the substitute is to refuse, or does not fit the tensor; no retry.
    """
    if not pc.any(where).as_py():
        return exact
    value = array[first(where)].as_py()
    what = "null" if value is None else f"unknown category {value!r}"
    if substitute == "refuse":
        raise InputError(
            f"column {feed.column.name!r} has a {what} at {feed.place(where)}, which tensor "
            f"{feed.tensor.name!r} does not take; fill the column, or leave such rows out"
        )
    number = float("nan") if substitute == "nan" else substitute
    return pc.if_else(where, _substitute(number, what, feed), exact)


def first(mask: pa.Array) -> int:
    """Return the position of the first true value."""
    return int(pc.index(mask, pa.scalar(value=True)).as_py())
