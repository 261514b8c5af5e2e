"""P13, of publishing: no name, configuration or link makes export read, write or run elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.crash import strace
from tritonbulk.errors import TritonbulkError
from tritonbulk_export import export_onnx
from tritonbulk_export.chains.joining import export_pipeline
from tritonbulk_export.rollback import rollback
from tritonbulk_export.serving import Serving
from tritonbulk_export.tensorrt.kit import write_kit

pytestmark = [pytest.mark.ci, pytest.mark.timeout(1800)]

NAMES = (
    *(
        "",
        ".",
        "..",
        "../m",
        "../../etc",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\nb",
        "a\0b",
        "~",
        "~root",
    ),
    *(
        ".hidden",
        "-rf",
        "--help",
        "a b",
        "m\t",
        "ü",
        "a:b",
        "*",
        "$(id)",
        "`id`",
        "a;b",
        "a|b",
        '"',
    ),
    *("'", "a" * 129, "a" * 5000, "\u202em", "m\u0000", "%2e%2e", "m/", "m//", "./m", "m/."),
)
OVERRIDES = (
    'default_model_filename = "../../../etc/passwd"',
    'name = "../m"',
    '[parameters]\nEXECUTION_ENV_PATH = "/etc"\nexecution_mode = "9"',
    '[model_operations]\nop_library_filename = ["/nonexistent/evil.so"]',
    '[model_operations]\nop_library_filename = ["../../evil.so"]',
    (
        '[[model_warmup]]\nname = "w"\nbatch_size = 1\n'
        '[model_warmup.inputs.x]\ndata_type = "TYPE_FP32"\ndims = [1]\n'
        'input_data_file = "../../../../etc/passwd"'
    ),
    "[version_policy.specific]\nversions = [20261122012345678901]",
    (
        "[optimization.execution_accelerators]\n"
        'gpu_execution_accelerator = [{ name = "tensorrt", parameters = { evil = "1" } }]'
    ),
    '[[output]]\nname = "y"\nlabel_filename = "../../../etc/passwd"',
    'backend = "../../evil"',
    'runtime = "../../evil"',
    "max_batch_size = 2147483648",
    '[[instance_group]]\ncount = 1\nkind = "KIND_CPU"\ngpus = [0]',
)


@pytest.fixture
def folder(tmp_path):
    """A model that multiplies, rows for it, and a file beside them that nobody may touch."""
    work = tmp_path / "work"
    work.mkdir()
    ports = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["n", 1]) for each in "xy"]
    weights = [numpy_helper.from_array(np.array([2], np.float32), "w")]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], weights
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), work / "m.onnx")
    pq.write_table(pa.table({"x": np.arange(20, dtype=np.float32)}), work / "rows.parquet")
    (tmp_path / "canary").write_text("canary")
    return work


def export(folder, name="m", **options):
    return export_onnx(
        folder / "m.onnx", name=name, sample=folder / "rows.parquet",
        repository=folder / "r", **options,
    )  # fmt: skip


def everything(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def test_hostile_names_are_refused_and_leave_nothing(folder, tally):
    before = everything(folder.parent)
    for name in NAMES:
        for do in (
            lambda: export(folder, name),  # noqa: B023 - called at once
            lambda: rollback(folder / "r", name),  # noqa: B023
            lambda: export_pipeline("p", [name, "m"], repository=folder / "r"),  # noqa: B023
            lambda: export_pipeline(name, ["m", "n"], repository=folder / "r"),  # noqa: B023
            lambda: write_kit(name, folder / "kit", triton="26.07", repository=folder / "r"),  # noqa: B023
        ):
            with pytest.raises(TritonbulkError):
                do()
    assert everything(folder.parent) == before
    tally("P13 hostile names", 5 * len(NAMES))


def test_hostile_overrides_are_refused_and_leave_nothing(folder, tally):
    export(folder)
    before = everything(folder / "r")
    for text in OVERRIDES:
        (folder / "o.toml").write_text(text)
        with pytest.raises(TritonbulkError):
            export(folder, serving=Serving(overrides=folder / "o.toml"))
        with pytest.raises(TritonbulkError):
            export(folder, "fresh", serving=Serving(overrides=folder / "o.toml"))
    assert everything(folder / "r") == before
    tally("P13 hostile configurations", 2 * len(OVERRIDES))


def test_links_in_entries_are_not_written_through(folder, tally):
    done = export(folder)
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    places = [
        *("config.pbtxt", "contract.json", "golden.parquet", "warmup"),
        str(done.version),
    ]
    for place in places:
        path = done.entry / place
        kept = folder / "kept"
        path.rename(kept)
        path.symlink_to(outside if kept.is_dir() else outside / "file")
        before = everything(outside)
        for do in (
            lambda: export(folder, serving=Serving(instances=2)),
            lambda: rollback(folder / "r", "m"),
        ):
            with pytest.raises(TritonbulkError):
                do()
        assert everything(outside) == before
        path.unlink()
        kept.rename(path)
    tally("P13 links", 2 * len(places))


def test_an_export_opens_and_runs_nothing_elsewhere(folder):
    if why := strace.missing():
        pytest.skip(why)
    log = folder.parent / "log"
    temporary = folder / "tmp"
    temporary.mkdir()
    command = [
        sys.executable, "-m", "tritonbulk.cli.main", "export", "onnx", str(folder / "m.onnx"),
        "--name", "m", "--sample", str(folder / "rows.parquet"), "--repository", str(folder / "r"),
    ]  # fmt: skip
    trace = "trace=openat,open,creat,execve,mkdir,rename,unlink,symlink,link,connect"
    subprocess.run(
        ["strace", "-f", "-qq", "-e", trace, "-o", str(log), *command],
        check=True, capture_output=True, cwd=folder, timeout=600,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    lines = log.read_text(errors="replace").splitlines()
    executed = [line for line in lines if "execve(" in line and ") = 0" in line]
    assert len(executed) == 1, executed
    assert not [line for line in lines if "connect(" in line and "AF_INET" in line]
    written = [
        path
        for line in lines
        if not line.rstrip().endswith(")") and "= -1" not in line
        if re.search(r"O_WRONLY|O_RDWR|O_CREAT|mkdir\(|rename\(|unlink\(|symlink\(|link\(", line)
        for path in re.findall(r'"((?:[^"\\]|\\.)*)"', line)[:2]
    ]
    assert any("config.pbtxt" in path for path in written)
    allowed = (str(folder), "/dev/null", "/dev/shm", "/proc/self")
    outside = [
        path for path in written if Path(path).is_absolute() and not path.startswith(allowed)
    ]
    assert outside == []
