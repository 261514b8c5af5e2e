"""Golden rows: some sample rows and the answers the published graph gave to them.

They stay with the entry, so that whoever serves it later, elsewhere, can check that it still
answers the same. The rows are the user's own data: an entry is as confidential as its sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tritonbulk.contract import InputTensor, OutputTensor
from tritonbulk_export.spec import Tensor, Tensors

GOLDEN_ROWS = 64
EXPECTED_PREFIX = "expected."
"""Stands before the output tensor's name, since an input column may have the same."""


def golden_rows(sample: pa.Table, inputs: Sequence[InputTensor]) -> pa.Table:
    """Return at most 64 rows, evenly spaced over ``sample``, with the input columns alone."""
    positions = np.unique(np.linspace(0, sample.num_rows - 1, GOLDEN_ROWS).astype(np.int64))
    names = dict.fromkeys(column.name for tensor in inputs for column in tensor.columns)
    return sample.select(list(names)).take(positions).replace_schema_metadata(None).combine_chunks()


def golden_file(rows: pa.Table, outputs: Sequence[OutputTensor], answers: Tensors) -> bytes:
    """Return the Parquet file of ``rows`` and one column ``expected.<output>`` an output.

    The same values give the same bytes with the same release of Arrow.
    """
    for output in outputs:
        column = _column(answers[output.name], output)
        rows = rows.append_column(EXPECTED_PREFIX + output.name, column)
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return bytes(sink.getvalue())


def _column(answer: Tensor, output: OutputTensor) -> pa.Array:
    """Return a plain column for one value a row, else fixed-size lists of the flattened row."""
    # The graph's texts may come as Python strings or as bytes; Arrow's inference would keep bytes.
    values = pa.array(answer.ravel(), type=output.datatype.arrow)
    width = prod(answer.shape[1:])
    return values if width == 1 else pa.FixedSizeListArray.from_arrays(values, width)
