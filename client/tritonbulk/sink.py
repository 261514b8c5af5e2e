"""Sink: a segment's rows and predictions → the bytes of a part. Deterministic; commits nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tritonbulk.codec import Predictions, prediction_field
from tritonbulk.codec.predictions import ERROR_COLUMN, STATUS_COLUMN
from tritonbulk.contract import OutputTensor
from tritonbulk.errors import OptionError

PARQUET_ENCODING = "parquet-1"
"""How rows become bytes here; another number where the same rows would be read differently."""


def write_part(
    file: BinaryIO, kept: pa.RecordBatch, predictions: Predictions, footer: Mapping[str, str]
) -> None:
    """Write a part: the same rows and footer always give the same bytes.

    Args:
        file: to write to.
        kept: the input columns that stand before the predictions; may have none.
        predictions: complete.
        footer: key-value metadata.
    """
    columns = [*zip(kept.schema, kept.columns, strict=True), *predictions.to_columns()]
    schema = pa.schema([field for field, _ in columns])
    table = pa.Table.from_arrays([array for _, array in columns], schema=schema)
    with pq.ParquetWriter(
        file,
        schema,
        compression="snappy",
        # Predictions hardly ever repeat: a dictionary costs five times the writing for nothing.
        use_dictionary=list(kept.schema.names) or False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table, row_group_size=max(table.num_rows, 1))
        writer.add_key_value_metadata(dict(footer))


def output_schema(
    keep: Sequence[pa.Field], outputs: Sequence[OutputTensor], names: Sequence[str]
) -> pa.Schema:
    """Return the schema of every part.

    Raises:
        OptionError: two columns would have one name; a retry does not help.
    """
    fields = [*keep, *map(prediction_field, outputs, names)]
    fields += [pa.field(STATUS_COLUMN, pa.int32()), pa.field(ERROR_COLUMN, pa.string())]
    taken: set[str] = set()
    for field in fields:
        if field.name in taken:
            raise OptionError(
                f"the output would have two columns named {field.name!r}; rename a prediction with "
                f"--rename tensor=column, or leave the input column out with --keep"
            )
        taken.add(field.name)
    return pa.schema(fields)
