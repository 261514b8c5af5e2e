"""The command line of export: what it takes, prints and answers to mistakes."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from tritonbulk.errors import OptionError, ParityError, PlatformError
from tritonbulk_export.cli import command

COMMANDS = sorted(command.commands)

RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(300, 2))


@pytest.fixture
def booster(tmp_path, monkeypatch):
    """Write a model and a sample into a fresh working folder."""
    monkeypatch.chdir(tmp_path)
    data = lightgbm.Dataset(X, X[:, 0], feature_name=["a", "b"])
    model = lightgbm.train({"verbosity": -1, "num_threads": 1}, data, num_boost_round=3)
    model.save_model("model.txt")
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), "rows.parquet")


def run(*arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_export_prints_entry_version_batch_size_with_its_reason_and_parity(booster, tmp_path):
    done = run("lightgbm", "model.txt", "--name", "m", "--sample", "rows.parquet")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "entry           model_repository/m (published)"
    folders = {p.name for p in (tmp_path / "model_repository/m").iterdir() if p.is_dir()}
    (version,) = folders - {"warmup"}
    assert lines[1] == f"version         {version}"
    assert lines[2] == "max_batch_size  4096 (the default for 12 bytes a row)"
    assert lines[3].startswith("parity          variable: 300 rows, largest difference ")


def test_a_second_export_says_that_nothing_changed(booster):
    arguments = ("lightgbm", "model.txt", "--name", "m", "--sample", "rows.parquet")
    run(*arguments)
    assert "already there, nothing changed" in run(*arguments).stdout


def test_json_is_the_last_line(booster):
    done = run("lightgbm", "model.txt", "--name", "m", "--sample", "rows.parquet", "--json")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["published"] is True
    assert told["parity"]["rows"] == 300
    assert told["entry"] == "model_repository/m"


def test_an_input_map_reaches_the_onnx_export(tmp_path, booster):
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), "model.onnx")
    arguments = ("onnx", "model.onnx", "--name", "relu", "--sample", "rows.parquet")
    done = run(*arguments, "--repository", "there", "--input-map", "x=?", "--max-batch-size", "8")
    assert done.exit_code == 0
    assert "max_batch_size  8 (as asked)" in done.stdout
    assert (tmp_path / "there" / "relu" / "config.pbtxt").exists()
    with pytest.raises(OptionError, match="not of the form"):
        run(*arguments, "--input-map", "x")


def test_a_tolerance_that_float32_cannot_keep_publishes_nothing(booster, tmp_path):
    with pytest.raises(ParityError):
        run(
            *("lightgbm", "model.txt", "--name", "m", "--sample", "rows.parquet"),
            *("--atol", "1e-12", "--rtol", "0"),
        )
    assert not (tmp_path / "model_repository").exists()


def test_a_trusted_pickle_is_announced_on_stderr(booster):
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    Path("model.pkl").write_bytes(pickle.dumps(LinearRegression().fit(X, X[:, 0])))
    done = run(
        *("sklearn", "model.pkl", "--trust-pickle", "--name", "m", "--sample", "rows.parquet")
    )
    assert done.exit_code == 0
    assert "can run any code" in done.stderr
    assert hashlib.sha256(Path("model.pkl").read_bytes()).hexdigest() in done.stderr
    assert "a process of its own" in done.stdout


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_shows_an_example(name):
    done = run(*filter(None, [name]), "--help")
    assert done.stdout.partition("Example:  ")[2].startswith("tritonbulk export")


def test_importing_the_package_or_its_command_loads_no_framework():
    code = (
        "import sys, tritonbulk_export, tritonbulk_export.cli;"
        "heavy = {'onnx', 'onnxruntime', 'sklearn', 'skl2onnx', 'lightgbm', 'tritonclient'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_public_names_exist():
    import tritonbulk_export  # noqa: PLC0415

    assert sorted(tritonbulk_export.__all__) == [
        *("Exported", "LoadTarget", "OutputParity", "Parity", "Serving", "TargetOptions"),
        "Tolerance",
        *("export_catboost", "export_jax", "export_keras", "export_lightgbm", "export_onnx"),
        *("export_pipeline", "export_sklearn", "export_torch", "export_transformers"),
        *("export_xgboost", "lint_repository", "rollback"),
    ]
    for name in tritonbulk_export.__all__:
        assert getattr(tritonbulk_export, name).__doc__


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("sklearn", "sklearn_file", "skl2onnx"),
        ("lightgbm", "lightgbm_file", "lightgbm"),
        ("xgboost", "xgboost_file", "xgboost"),
        ("catboost", "catboost_file", "catboost"),
        ("torch", "torch_module", "torch"),
        ("transformers", "transformers_folder", "torch"),
        ("keras", "keras_file", "torch"),
        ("jax", "jax_function", "jax"),
    ],
)
def test_a_missing_framework_is_named_with_its_extra(booster, monkeypatch, name, module, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"tritonbulk_export.sources.{module}", raising=False)
    with pytest.raises(PlatformError, match=rf"{package}.*tritonbulk\[export-{name}\]"):
        run(name, "model.txt", "--name", "m", "--sample", "rows.parquet")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--keep-fp32", "Gemm"), "--keep-fp32 goes with --precision fp16 or bf16, not fp32"),
        (("--half-io", "--precision", "bf16"), "--half-io goes with --precision fp16"),
        (("--calibration-rows", "64"), "goes with --precision int8, not fp32"),
        (("--int8-preset", "trt", "--precision", "int8-dynamic"), "--int8-preset goes with"),
        (("--stage-gpus", "0,1"), "--stages N, which is not given"),
        (("--tune", "0"), "--tune 0 is no budget"),
        (("--tune", "-5"), "--tune -5 is no budget"),
        (("--tune", "nan"), "--tune nan is no budget"),
        (("--waive", "gone.values=so"), "no output 'gone'; it has variable"),
    ],
)
def test_options_without_effect_or_meaning_are_refused_before_publishing(booster, options, words):
    with pytest.raises(OptionError, match=words):
        run("lightgbm", "model.txt", "--name", "m", "--sample", "rows.parquet", *options)
    assert not Path("model_repository").exists()


def test_a_default_that_is_asked_for_changes_what_is_otherwise_set(booster):
    arguments = ("lightgbm", "model.txt", "--name", "m", "--sample", "rows.parquet")
    run(*arguments, "--instances", "3", "--accelerator", "cuda")
    config = Path("model_repository/m/config.pbtxt")
    assert "nothing changed" in run(*arguments).stdout
    assert "count: 3" in config.read_text()
    assert "(published)" in run(*arguments, "--accelerator", "none").stdout
    assert "count: 1" in config.read_text()
    assert "cuda" not in config.read_text()


def test_traps_that_lint_finds_are_warnings_of_the_export(booster):
    arguments = ("lightgbm", "model.txt", "--name", "m", "--sample", "rows.parquet")
    assert "warning " not in run(*arguments).stdout
    told = [each for each in run(*arguments, "--priorities").stdout.splitlines() if "C215" in each]
    assert len(told) == 1
    assert told[0].startswith("warning         m/config.pbtxt dynamic_batching")
    again = run(*arguments, "--priorities", "--max-batch-size", "1").stdout
    assert "C214" in again
    assert "R109" not in again


def test_a_header_file_that_is_not_there_is_named_without_error_numbers(booster):
    arguments = ("lightgbm", "model.txt", "--name", "m", "--sample", "rows.parquet")
    with pytest.raises(OptionError, match=r"gone cannot be read \(No such file") as caught:
        run(*arguments, "--load", "127.0.0.1:1", "--load-header-file", "x=gone")
    assert "Errno" not in str(caught.value)
