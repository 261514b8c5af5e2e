"""Small files of every format, for the tests of sources."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from pyarrow import ipc

from tritonbulk.source import open_source

TABLE = pa.table(
    {"id": np.arange(25), "v": np.arange(25) / 4, "s": [f"näme {i}" for i in range(25)]}
)


def write(table, path):
    """Write a table in the format that the path's extensions name."""
    name = path.name
    if ".parquet" in name:
        pq.write_table(table, path, row_group_size=7)
        return str(path)
    with pa.output_stream(path, compression="detect") as out:
        if ".csv" in name:
            pacsv.write_csv(table, out)
        elif ".jsonl" in name:
            out.write("".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode())
        else:
            new = ipc.new_stream if ".arrows" in name else ipc.new_file
            with new(out, table.schema) as writer:
                writer.write_table(table, max_chunksize=6)
    return str(path)


def ids(source, segment_rows=10, limit=None):
    return [
        v for _, rows in source.read(segment_rows, ["id"], limit) for v in rows["id"].to_pylist()
    ]


def read_all(path):
    source = open_source([str(path)])
    return list(source.read(10, source.schema.names))


NAMES = ["a.parquet", "a.csv", "a.jsonl", "a.arrow", "a.arrows", "a.feather"]
NAMES += [f"a.{base}.{end}" for base in ("csv", "jsonl", "arrows") for end in ("gz", "zst", "bz2")]
NAMES += ["a.csv.lz4"]
