"""Inputs of models that do not say what they take: a name, and what the sample has for it.

PyTorch modules and JAX functions know their parameters by name alone; the sample's columns, and
what the user says besides, make tensors of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.contract import (
    Datatype,
    InputTensor,
    bind_inputs,
    datatype,
    element_type,
    gather,
    parse_input_map,
)
from tritonbulk.errors import ContractError, InputError, OptionError
from tritonbulk_export.spec import Tensors

EXAMPLE_ROWS = 5
"""Rows that a model is traced with: more than one, and seldom the size of anything else."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user says about a model's tensors.

    Attributes:
        columns: input name → columns or patterns.
        shapes: input name → dimensions of one row; -1 is one of any size, ``()`` a scalar.
        datatypes: input name → datatype.
        outputs: names of the outputs, in order; of a model that names its own, those to keep.
    """

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    datatypes: Mapping[str, Datatype] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        input_map: Sequence[str] = (),
        input_shape: Sequence[str] = (),
        input_dtype: Sequence[str] = (),
        outputs: Sequence[str] = (),
    ) -> Wishes:
        """Return the wishes that entries of the form ``tensor=…`` describe.

        Raises:
            OptionError: one has another form; a retry does not help.
        """
        return cls(
            parse_input_map(input_map),
            dict(_entry("--input-shape", entry, _shape) for entry in input_shape),
            dict(_entry("--input-dtype", entry, _datatype) for entry in input_dtype),
            tuple(outputs),
        )


def _entry(option: str, entry: str, parse: Callable[[str], _Value]) -> tuple[str, _Value]:
    name, equals, value = entry.partition("=")
    try:
        if equals and name.strip():
            return name.strip(), parse(value.strip())
    except (ValueError, TypeError, ContractError):
        pass
    example = "x=3,32,32" if option == "--input-shape" else "x=int64"
    raise OptionError(f"{option} {entry!r} has no meaning; write for example {example}")


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(",")) if text else ()
    if any(size < 1 and size != -1 for size in sizes):
        raise ValueError(text)
    return sizes


def _datatype(text: str) -> Datatype:
    """Return the datatype that Triton (``FP32``) or NumPy (``float32``) calls so."""
    plain = text.replace("float", "FP") if text.startswith("float") else text
    return datatype(plain.upper())


def wished_names(parameters: Sequence[tuple[str, bool]], wishes: Wishes) -> tuple[str, ...]:
    """Return the inputs of a model: parameters without a default, and those that are mapped.

    Args:
        parameters: name, and whether it has a default, in order.
        wishes: of the user.

    Raises:
        ContractError: a wish names no parameter, or nothing is left; a retry does not help.
    """
    known = [name for name, _ in parameters]
    for name in (*wishes.columns, *wishes.shapes, *wishes.datatypes):
        if name not in known:
            raise ContractError(
                f"the model has no input {name!r}; its inputs are {', '.join(known) or 'none'}"
            )
    names = tuple(n for n, has_default in parameters if not has_default or n in wishes.columns)
    if not names:
        raise ContractError(
            "the model takes no input that must be given; name one with --input-map name=columns"
        )
    return names


def input_tensors(names: Sequence[str], wishes: Wishes, rows: pa.Table) -> tuple[InputTensor, ...]:
    """Return the model's inputs with the columns that feed them, shapes and datatypes found.

    A tensor takes as many values a row as its columns have. Integers give INT64, truth values BOOL,
    text BYTES, everything else FP32.

    Raises:
        ContractError: no column is known for an input; a retry does not help.
        InputError: a column is missing, or its lists have several lengths; no retry.
    """
    bound = bind_inputs(
        [InputTensor(name, datatype("FP32"), ()) for name in names], wishes.columns, rows.schema
    )
    tensors = []
    for tensor in bound:
        columns = [column.name for column in tensor.columns]
        shape = wishes.shapes.get(tensor.name)
        if shape is None:
            shape = (sum(_width(rows, name) for name in columns),)
        kind = wishes.datatypes.get(tensor.name) or _fitting(rows.schema, columns)
        tensors.append(InputTensor(tensor.name, kind, shape, tensor.columns))
    return tuple(tensors)


def _width(rows: pa.Table, name: str) -> int:
    """Return how many values a row of a column has."""
    kind, width = rows.schema.field(name).type, 1
    while pa.types.is_fixed_size_list(kind):
        width, kind = width * kind.list_size, kind.value_type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return width
    lengths = pc.unique(pc.list_value_length(rows.column(name))).drop_null().to_pylist()
    if width != 1 or len(lengths) != 1:
        raise InputError(
            f"column {name!r} holds lists of several lengths; pad them to one, or give "
            "--input-shape tensor=-1 for a model that takes any"
        )
    return int(lengths[0])


def _fitting(schema: pa.Schema, columns: Sequence[str]) -> Datatype:
    kinds = [element_type(schema.field(name).type) for name in columns]
    if all(pa.types.is_integer(kind) for kind in kinds):
        return datatype("INT64")
    if all(pa.types.is_boolean(kind) for kind in kinds):
        return datatype("BOOL")
    if all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in kinds):
        return datatype("BYTES")
    return datatype("FP32")


def example_tensors(rows: pa.Table, inputs: Sequence[InputTensor]) -> Tensors:
    """Return `EXAMPLE_ROWS` rows of the sample, cycled if it has fewer, as tensors."""
    taken = rows.take(np.arange(EXAMPLE_ROWS) % rows.num_rows).combine_chunks()
    return {tensor.name: gather(taken.to_batches()[0], tensor) for tensor in inputs}
