"""The form of the contract: frozen values, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tritonbulk.contract.datatypes import Datatype, datatype
from tritonbulk.errors import ContractError

CONTRACT_FORMAT = 1
"""Version of the contract's JSON; another one is refused."""

CONTRACT_PARAMETER = "tritonbulk_contract"
"""Key in the ``parameters`` of ``config.pbtxt`` that holds the compact JSON."""

Substitute = float | Literal["refuse", "nan"]
"""What is written where the file has no usable value: a number, NaN, or nothing (refuse)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One file column that feeds a tensor.

    Attributes:
        name: the column's name in the file.
        categories: None for a column that is fed as it is; else the values in code order: a value
            is fed as its position in this tuple.
        null: what a null becomes.
        unknown: what a value outside ``categories`` becomes; without meaning if they are None.
        dtype: Arrow's name for the type that the column had when the contract was made (of a list,
            its elements' type); None if it is not known.
    """

    name: str
    categories: tuple[str | int, ...] | None = None
    null: Substitute = "refuse"
    unknown: Substitute = "refuse"
    dtype: str | None = None

    def __post_init__(self) -> None:
        """Refuse substitutes that are neither a number nor a known word.

        Raises:
            ContractError: one is; a retry does not help.
        """
        for substitute in (self.null, self.unknown):
            is_number = isinstance(substitute, (int, float)) and not isinstance(substitute, bool)
            if not is_number and substitute not in ("refuse", "nan"):
                raise ContractError(
                    f"column {self.name!r} has the null policy {substitute!r}, which is neither "
                    "'refuse' nor 'nan' nor a number; export the model again"
                )


@dataclass(frozen=True, slots=True)
class InputTensor:
    """One input tensor and the columns that feed it.

    Attributes:
        name: the tensor's name.
        datatype: its element type.
        shape: dimensions of one row, without the batch dimension; ``()`` is one scalar a row,
            -1 a dimension of any size.
        columns: in tensor order; together they fill the row, a list column with all its elements.
            Empty means that no mapping is known.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output tensor; fields as in `InputTensor`."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contract:
    """What a model entry promises.

    Attributes:
        model: the entry's name.
        digest: ``sha256:`` and the hex digest of the model file, or "" if unknown.
        inputs: input tensors, in the order of the model.
        outputs: output tensors, in the order of the model.
        source: the framework that the model came from.
        tools: versions of the tools that made the entry.
        parity: figures of the comparison with the source model.
    """

    model: str
    digest: str
    inputs: tuple[InputTensor, ...]
    outputs: tuple[OutputTensor, ...]
    source: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the contract as JSON: compact, or indented for people."""
        separators = (",", ":") if indent is None else None
        return json.dumps(_to_plain(self), indent=indent, separators=separators, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Contract:
        """Return the contract that ``text`` describes.

        Raises:
            ContractError: it is no contract, or one of another format; a retry does not help.
        """
        try:
            plain = json.loads(text)
            found = plain["format"]
            if found == CONTRACT_FORMAT:
                return _from_plain(plain)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ContractError(
                f"this is not a contract ({type(error).__name__}: {error}); export the model again"
            ) from error
        raise ContractError(
            f"the contract has format {found}, this tritonbulk reads {CONTRACT_FORMAT}; "
            "use the release that wrote it, or export the model again"
        )


def _to_plain(contract: Contract) -> dict[str, Any]:
    return {
        "format": CONTRACT_FORMAT,
        "model": contract.model,
        "digest": contract.digest,
        "source": contract.source,
        **tensors_to_plain(contract.inputs, contract.outputs),
        "tools": dict(contract.tools),
        "parity": dict(contract.parity),
    }


def tensors_to_plain(
    inputs: Sequence[InputTensor], outputs: Sequence[OutputTensor]
) -> dict[str, Any]:
    """Return tensors and the columns that feed them as JSON values."""
    return {
        "inputs": [
            {
                "name": t.name,
                "datatype": t.datatype.name,
                "shape": list(t.shape),
                "columns": [_column_to_plain(c) for c in t.columns],
            }
            for t in inputs
        ],
        "outputs": [
            {"name": t.name, "datatype": t.datatype.name, "shape": list(t.shape)} for t in outputs
        ],
    }


def _column_to_plain(column: Column) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": column.name}
    if column.dtype is not None:
        plain["dtype"] = column.dtype
    if column.null != "refuse":
        plain["null"] = column.null
    if column.categories is not None:
        plain["categories"] = list(column.categories)
        plain["unknown"] = column.unknown
    return plain


def _from_plain(plain: Mapping[str, Any]) -> Contract:
    return Contract(
        model=plain["model"],
        digest=plain["digest"],
        source=plain["source"],
        inputs=tuple(
            InputTensor(
                t["name"],
                datatype(t["datatype"]),
                tuple(t["shape"]),
                tuple(_column_from_plain(c) for c in t["columns"]),
            )
            for t in plain["inputs"]
        ),
        outputs=tuple(
            OutputTensor(t["name"], datatype(t["datatype"]), tuple(t["shape"]))
            for t in plain["outputs"]
        ),
        tools=plain["tools"],
        parity=plain["parity"],
    )


def _column_from_plain(plain: Mapping[str, Any]) -> Column:
    categories = plain.get("categories")
    return Column(
        name=plain["name"],
        categories=None if categories is None else tuple(categories),
        null=plain.get("null", "refuse"),
        unknown=plain.get("unknown", "refuse"),
        dtype=plain.get("dtype"),
    )
