"""The plan of a run: which contract holds, which columns feed it, what is written. Pure.

The order: ``--input-map``; the contract in the server's model configuration; the one in an
explicit repository; columns named like the tensors. Two contracts that disagree are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from tritonbulk.contract import (
    Contract,
    InputTensor,
    OutputTensor,
    bind_inputs,
    check_columns,
    row_bytes,
)
from tritonbulk.dispatch import batch_rows_auto
from tritonbulk.errors import ContractError, OptionError
from tritonbulk.options import ScoreOptions
from tritonbulk.part import check_writable, output_schema, unfit_for_csv
from tritonbulk.scorer_options import ScorerOptions
from tritonbulk.source import matching
from tritonbulk.transport import ServedModel


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will read, send and write; decided before the first row.

    Attributes:
        inputs: input tensors with the shape they have on the wire and the columns that feed them.
        outputs: output tensors to ask for.
        names: the outputs' column names.
        keep: input columns to keep.
        batch_rows: rows a request.
    """

    inputs: tuple[InputTensor, ...]
    outputs: tuple[OutputTensor, ...]
    names: tuple[str, ...]
    keep: tuple[str, ...]
    batch_rows: int

    @property
    def request_bytes(self) -> int:
        """Bytes of the tensors of a full request and its answer."""
        return self.batch_rows * row_bytes((*self.inputs, *self.outputs))

    @property
    def fed(self) -> tuple[str, ...]:
        """Columns that feed a tensor."""
        return tuple(column.name for tensor in self.inputs for column in tensor.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns to read: those that are kept or feed a tensor, each once."""
        return tuple(dict.fromkeys((*self.keep, *self.fed)))


def make_plan(
    options: ScorerOptions,
    model: ServedModel,
    schema: pa.Schema,
    in_repository: Contract | None,
    where: str,
) -> Plan:
    """Return the plan for scoring rows of ``schema`` with ``model``.

    Args:
        options: of the run.
        model: as the server describes it.
        schema: of the input.
        in_repository: contract of an explicitly given repository, if there is one.
        where: names the input in errors.

    Raises:
        UsageError: something does not fit; says what to do. A retry does not help.
    """
    inputs = bind_inputs(_known_inputs(options, model, in_repository), options.input_map, schema)
    check_columns(inputs, schema, where)
    keep = tuple(schema.names)
    if options.keep is not None:
        keep = matching(options.keep, schema.names, "--keep")
    names = _prediction_names(model.outputs, options.rename)
    kept = [schema.field(name) for name in keep]
    schema_out = output_schema(
        kept,
        model.outputs,
        names,
        options.vectors,
        has_status=options.status_columns,
    )
    if isinstance(options, ScoreOptions):  # rows that go to files, which cannot hold everything
        check_writable(schema_out, options.out_format)
        _check_single_file(options, schema_out)
    return Plan(
        inputs=inputs,
        outputs=model.outputs,
        names=names,
        keep=keep,
        batch_rows=_batch_rows(options, model),
    )


def _check_single_file(options: ScoreOptions, schema_out: pa.Schema) -> None:
    if options.single_file is None or options.single_file.suffix != ".csv":
        return
    if unfit := unfit_for_csv(schema_out):
        raise OptionError(
            f"column {unfit!r} holds lists or bytes, which CSV cannot; give --single-file a .jsonl "
            "or .parquet name, or leave the column out with --keep"
        )


def _known_inputs(
    options: ScorerOptions, model: ServedModel, in_repository: Contract | None
) -> tuple[InputTensor, ...]:
    """Return the served input tensors with the columns that the contract gives them, if any does.

    Where ``--input-map`` names every tensor, contracts that disagree do not matter.
    """
    try:
        return _with_columns(model.inputs, _agreed(model.contract, in_repository))
    except ContractError:
        if options.input_map.keys() >= {tensor.name for tensor in model.inputs}:
            return model.inputs
        raise


def _agreed(served: Contract | None, in_repository: Contract | None) -> Contract | None:
    if served is None or in_repository is None:
        return served or in_repository
    if (served.digest, served.inputs) != (in_repository.digest, in_repository.inputs):
        raise ContractError(
            f"the server's contract for model {served.model!r} ({served.digest[:19]}) and the one "
            f"in --repository ({in_repository.digest[:19]}) differ; serve that repository, or "
            "leave --repository out"
        )
    return served


def _with_columns(
    served: Sequence[InputTensor], contract: Contract | None
) -> tuple[InputTensor, ...]:
    """Return the served tensors with the columns that the contract gives them."""
    if contract is None:
        return tuple(served)
    promised = {tensor.name: tensor for tensor in contract.inputs}
    bound = []
    for tensor in served:
        match = promised.get(tensor.name)
        if match is None or (match.datatype, _width(match)) != (tensor.datatype, _width(tensor)):
            raise ContractError(
                f"the contract of model {contract.model!r} does not describe input "
                f"{tensor.name!r} ({tensor.datatype.name} {list(tensor.shape)}) as the server does;"
                " export the model again"
            )
        bound.append(replace(tensor, columns=match.columns))
    return tuple(bound)


def _width(tensor: InputTensor) -> tuple[int, ...]:
    # A scalar a row is [] in the model and [1] on the wire: the batcher wants a dimension.
    return () if tensor.shape == (1,) else tensor.shape


def _prediction_names(
    outputs: Sequence[OutputTensor], rename: Mapping[str, str]
) -> tuple[str, ...]:
    known = [output.name for output in outputs]
    for name in rename:
        if name not in known:
            raise OptionError(
                f"--rename names output {name!r}, but the model's outputs are {', '.join(known)}"
            )
    return tuple(rename.get(name, name) for name in known)


def _batch_rows(options: ScorerOptions, model: ServedModel) -> int:
    asked = options.batch_rows_pinned
    if asked is None:
        return batch_rows_auto(model.inputs, model.outputs, model.max_batch_size)
    if model.max_batch_size and asked > model.max_batch_size:
        origin = "" if options.batch_rows else " (pinned by --profile)"
        raise OptionError(
            f"--batch-rows {asked}{origin} is more than the max_batch_size "
            f"{model.max_batch_size} of model {model.name!r}; give at most that, or "
            "raise it in the model's config.pbtxt"
        )
    return asked
