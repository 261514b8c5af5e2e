"""From a source model to a published entry: repair, prove, compare, describe, publish.

In this order: nothing is written before everything is proved.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version as distribution_version
from typing import Any

import pyarrow as pa

from tritonbulk.contract import (
    Contract,
    InputTensor,
    OutputTensor,
    check_columns,
    element_type,
    row_bytes,
)
from tritonbulk.errors import OptionError
from tritonbulk_export.config import default_max_batch_size
from tritonbulk_export.golden import golden_file, golden_rows
from tritonbulk_export.graph import repaired, serialized, with_output_shapes
from tritonbulk_export.parity import compare, gathered, proved_nulls
from tritonbulk_export.proof import prove_batch
from tritonbulk_export.publish import Content, check_name, publish
from tritonbulk_export.runtime import open_session
from tritonbulk_export.spec import Exported, Parity, SourceModel, Target


def export(source: SourceModel, sample: pa.Table, target: Target) -> Exported:
    """Publish ``source`` as an entry and return what was done.

    Raises:
        TritonbulkError: see the public functions in `tritonbulk_export`.
    """
    check_name(target.name)
    check_columns(source.inputs, sample.schema, where=f"sample {target.sample}")
    graph = repaired(source.graph)
    session = open_session(graph)
    golden = golden_rows(sample, source.inputs)
    golden_tensors = gathered(golden.to_batches()[0], source.inputs)
    shapes = prove_batch(session, golden_tensors, target.tolerance)
    graph = with_output_shapes(graph, shapes)
    # Everything from here on is about the bytes that will be published.
    session = open_session(graph)
    model = serialized(graph)
    inputs = proved_nulls(source, session, golden_tensors, target.tolerance)
    source = replace(source, inputs=inputs)
    parity = compare(source, session, sample, target.tolerance)
    outputs = tuple(
        OutputTensor(port.name, port.datatype, shapes[port.name]) for port in session.outputs
    )
    contract = Contract(
        model=target.name,
        digest="sha256:" + hashlib.sha256(model).hexdigest(),
        inputs=_with_dtypes(source.inputs, sample.schema),
        outputs=outputs,
        source=source.framework,
        tools=_tools(source.distributions),
        parity=_stored(parity),
    )
    rows, reason = _batch_size(target, (*source.inputs, *outputs))
    published = publish(
        Content(
            contract=contract,
            model=model,
            golden=golden_file(golden, outputs, session.run(golden_tensors)),
            max_batch_size=rows,
            is_batch_size_asked=target.max_batch_size is not None,
        ),
        target.repository,
        now=datetime.now(UTC),
        staging=target.staging,
    )
    if published.max_batch_size != rows:
        reason = "as the entry has it"
    return Exported(
        entry=target.repository / target.name,
        version=published.version,
        digest=contract.digest,
        max_batch_size=published.max_batch_size,
        max_batch_size_reason=reason,
        parity=parity,
        published=published.changed,
        is_served=published.is_served,
        notes=source.notes,
    )


def _with_dtypes(inputs: Sequence[InputTensor], schema: pa.Schema) -> tuple[InputTensor, ...]:
    """Return the inputs with the types that their columns have in the sample."""
    return tuple(
        replace(
            tensor,
            columns=tuple(
                replace(column, dtype=str(element_type(schema.field(column.name).type)))
                for column in tensor.columns
            ),
        )
        for tensor in inputs
    )


def _batch_size(target: Target, tensors: Sequence[InputTensor | OutputTensor]) -> tuple[int, str]:
    if target.max_batch_size is None:
        return (
            default_max_batch_size(tensors),
            f"the default for {row_bytes(tensors)} bytes a row",
        )
    if target.max_batch_size < 1:
        raise OptionError(
            f"--max-batch-size {target.max_batch_size} is below 1; give at least 1 row"
        )
    return target.max_batch_size, "as asked"


def _tools(distributions: Sequence[str]) -> Mapping[str, str]:
    names = sorted({"tritonbulk", "onnx", *distributions})
    return {name: distribution_version(name) for name in names}


def _stored(parity: Parity) -> Mapping[str, Any]:
    """Return the figures as the contract keeps them: bounds, rounded up to one digit.

    The last bits of a float32 sum depend on the processor; a bound of one digit does not, so that
    the same export elsewhere writes the same contract.
    """
    return {
        "rows": parity.rows,
        "outputs": {
            name: {
                "max_abs": _rounded_up(figures.max_abs),
                "max_rel": _rounded_up(figures.max_rel),
                "flips": figures.flips,
            }
            for name, figures in parity.outputs.items()
        },
    }


def _rounded_up(value: float) -> float:
    if value == 0.0:
        return 0.0
    scale = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / scale) * scale:.1g}")
