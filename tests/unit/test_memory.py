"""Memory does not grow with the file: the whole client over a scripted server, in a process each.

``TRITONBULK_TEST_FILE_MB=2048 pytest -m ci tests/unit/test_memory.py`` does all layouts at 2 GB.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is Linux's"),
]

SMALL_MB = 50
FULL_MB = 2100
LARGE_MB = int(os.environ.get("TRITONBULK_TEST_FILE_MB", "400"))
BLOCK_MB = 10
PEAK_MB_MAX = 400
GROWTH_MB_MAX = 128
"""A 50 MB file does not fill the buffers (four segments, 64 MiB, and what is in flight); a larger
one does, and no more than that. A client that held the file would grow by the 350 MB between."""

SCRIPT = """
import asyncio, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from tritonbulk.contract import InputTensor, OutputTensor, datatype
from tritonbulk.contract import prediction_row_bytes
from tritonbulk.dispatch import segment_rows_auto
from tritonbulk.driver import drive
from tritonbulk.options import ScoreOptions
from tritonbulk.plan import make_plan
from tritonbulk.jobrun import part_writer, scratch_job
from tritonbulk.assembly import make_limits, make_pipeline, naming
from tritonbulk.source import open_source
from tritonbulk.testing import ScriptedTransport
from tritonbulk.transport import ServedModel

path, out, width = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
def first(tensors):
    server.requests.clear()
    return {"y": tensors["x"][:, :1]}
server = ScriptedTransport(first)
options = ScoreOptions(
    inputs=(path,), model="m", out=out, keep=(), input_map={"x": ("f*",)}, in_flight_max=8
)
inputs = (InputTensor("x", datatype("FP32"), (width,)),)
outputs = (OutputTensor("y", datatype("FP32"), (1,)),)
source = open_source(options.inputs)
model = ServedModel("m", "1", 1024, inputs, outputs, None)
plan = make_plan(options, model, source.schema, None, source.name)
rows = segment_rows_auto(source.row_bytes(plan.columns) + prediction_row_bytes(outputs))
async def confirm(_):
    return frozenset()
write = part_writer(scratch_job(out), plan.keep)
segments = source.read(rows, plan.columns)
pipeline = make_pipeline(naming(source), segments, model, plan, write, confirm)
done = asyncio.run(
    drive(
        pipeline, make_limits(options, source.rows, plan.request_bytes), [server],
        lambda *_: None, lambda: None,
    )
)
# Not ru_maxrss: it also counts the process that started this one.
status = Path("/proc/self/status").read_text()
peak_kb = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
print(f'{{"rows": {done.rows_ok}, "peak_mb": {peak_kb / 1024}}}')
"""


def columns(width):
    """A block of rows with `width` plain columns, `BLOCK_MB` in memory."""
    rows = BLOCK_MB * 2**20 // (4 * width)
    values = np.random.default_rng(7).random((width, rows), dtype=np.float32)
    return pa.table({f"f{index}": column for index, column in enumerate(values)})


def lists(width):
    """The same in one column of fixed-size lists."""
    values = np.random.default_rng(7).random(BLOCK_MB * 2**18 // width * width, dtype=np.float32)
    return pa.table({"f": pa.FixedSizeListArray.from_arrays(pa.array(values), width)})


def parquet(path, block, blocks, row_group_size):
    """Append blocks to one writer; row groups of any size, however large."""
    if row_group_size is None:
        pq.write_table(pa.concat_tables([block] * blocks), path, row_group_size=2**31, **PLAIN)
        return
    with pq.ParquetWriter(path, block.schema, **PLAIN) as writer:
        for _ in range(blocks):
            writer.write_table(block, row_group_size=row_group_size)


PLAIN = {"use_dictionary": False, "compression": "none"}


def one_huge_row_group(path, blocks):
    parquet(path, columns(64), blocks, None)
    return 64


def usual_row_groups(path, blocks):
    parquet(path, columns(64), blocks, 40_960)
    return 64


def tiny_row_groups(path, blocks):
    parquet(path, columns(4), blocks, 4_096)
    return 4


def wide_lists(path, blocks):
    parquet(path, lists(100_000), blocks, None)
    return 100_000


def many_columns(path, blocks):
    # A page of every column is in memory at once, so its size is the writer's to choose.
    parquet(path, columns(500), blocks, 5_120)
    return 500


def csv_lines(path, blocks):
    block = pa.table({f"f{i}": np.arange(80_000, dtype=np.float32) / 7 for i in range(8)})
    with path.open("wb") as file:
        for index in range(blocks):
            pacsv.write_csv(block, file, pacsv.WriteOptions(include_header=index == 0))
    return 8


def json_lines(path, blocks):
    line = json.dumps({f"f{index}": index / 7 for index in range(8)}) + "\n"
    with path.open("w") as file:
        for _ in range(blocks):
            file.write(line * (BLOCK_MB * 2**20 // len(line)))
    return 8


def arrow_file(path, blocks):
    block = columns(64)
    with ipc.new_file(path, block.schema) as writer:
        for _ in range(blocks):
            writer.write_table(block)
    return 64


# What Arrow holds of a Parquet footer for each column of each row group: 1.7 to 4.1 kB, measured.
FOOTER_KB = 5
LAYOUTS = [
    (usual_row_groups, "parquet"),
    (one_huge_row_group, "parquet"),
    (wide_lists, "parquet"),
    (json_lines, "jsonl"),
    # See FOOTER_KB.
    (tiny_row_groups, "parquet"),
    (many_columns, "parquet"),
    # The small file ends before Arrow has read its 32 blocks ahead.
    (csv_lines, "csv"),
    # What Arrow holds is the same (62 and 78 MB); its allocator keeps more of what was freed.
    (arrow_file, "arrow"),
]


@contextlib.contextmanager
def control_group(memory_mb):
    """Yield a control group whose processes are killed beyond so much memory; None without any."""
    root = Path("/sys/fs/cgroup/memory")  # version 1
    limit = "memory.limit_in_bytes"
    if not root.exists():
        root, limit = Path("/sys/fs/cgroup"), "memory.max"
    group = root / f"tritonbulk-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(memory_mb * 2**20))
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        group.rmdir()


def run(path, width, folder, group=None):
    join = f"echo $$ > {group}/cgroup.procs && " if group else ""
    return subprocess.run(
        ["sh", "-c", join + 'exec "$@"', "sh", sys.executable, "-c", SCRIPT, path, folder,
         str(width)],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip


def peak_mb(path, width, folder, group=None):
    done = run(path, width, folder, group)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["rows"] > 0
    return figures["peak_mb"]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("lay_out", "extension"), LAYOUTS)
def test_memory_does_not_grow_with_the_file(lay_out, extension, tmp_path):
    peaks, footer_mb = [], 0.0
    for size_mb in (SMALL_MB, LARGE_MB):
        path = tmp_path / f"{size_mb}.{extension}"
        width = lay_out(path, size_mb // BLOCK_MB)
        if lay_out in (tiny_row_groups, many_columns):
            footer = pq.read_metadata(path)
            footer_mb = footer.num_row_groups * footer.num_columns * FOOTER_KB / 1024
        assert path.stat().st_size >= 0.5 * size_mb * 2**20
        peaks.append(peak_mb(path, width, tmp_path / f"out-{size_mb}"))
        path.unlink()
    print(f"{lay_out.__name__}: {peaks[0]:.0f} MB at {SMALL_MB} MB, {peaks[1]:.0f} at {LARGE_MB}")
    assert peaks[1] <= PEAK_MB_MAX + footer_mb
    assert peaks[1] <= peaks[0] + GROWTH_MB_MAX + footer_mb


@pytest.mark.timeout(300)
def test_two_gigabytes_are_scored_within_400_megabytes_of_memory(tmp_path):
    if shutil.disk_usage(tmp_path).free < 4 * 2**30:
        pytest.skip("needs 4 GiB of free disk")
    peaks = []
    with control_group(PEAK_MB_MAX) as group:
        for size_mb in (SMALL_MB, FULL_MB):
            path = tmp_path / f"{size_mb}.parquet"
            width = usual_row_groups(path, size_mb // BLOCK_MB)
            peaks.append(peak_mb(path, width, tmp_path / f"out-{size_mb}", group))
        assert path.stat().st_size >= 2 * 2**30
        path.unlink()
    enforced = "enforced by a control group" if group else "watched, not enforced: no control group"
    print(f"{peaks[0]:.0f} MB at {SMALL_MB} MB, {peaks[1]:.0f} at {FULL_MB}; limit {enforced}")
    assert peaks[1] <= PEAK_MB_MAX
    assert peaks[1] <= peaks[0] + GROWTH_MB_MAX


def test_the_limit_of_memory_holds(tmp_path):
    path = tmp_path / "a.parquet"
    width = usual_row_groups(path, 1)
    with control_group(60) as group:
        if group is None:
            pytest.skip("control groups cannot be made here")
        assert run(path, width, tmp_path / "out", group).returncode == -signal.SIGKILL
