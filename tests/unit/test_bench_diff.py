"""``bench-diff`` as a pull request sees it, and what perf_analyzer is given."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from click.testing import CliRunner

from tests.unit.test_bench_compare import sweep
from tritonbulk.bench.cross_check import points_of, rows_as_plain
from tritonbulk.bench.figures import FORMAT
from tritonbulk.bench.result import Sweep
from tritonbulk.bench.search import Space
from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bench.trial import Trial, trial_to_plain
from tritonbulk.bench.verdict import judge
from tritonbulk.cli.bench_diff import diff_command
from tritonbulk.contract import Column, InputTensor, OutputTensor, datatype
from tritonbulk.errors import InputError, OptionError
from tritonbulk.plan import Plan


def saved(tmp_path, name, trials):
    path = tmp_path / name
    figures = {"format": FORMAT, "trials": [trial_to_plain(trial) for trial in trials]}
    path.write_text(json.dumps(figures))
    return str(path)


def run(*arguments):
    return CliRunner().invoke(diff_command, arguments, standalone_mode=False)


def test_a_slowdown_has_an_exit_code_and_a_table(tmp_path):
    first = saved(tmp_path, "main.json", sweep(1, spread=0.01, drift=0))
    second = saved(tmp_path, "branch.json", sweep(2, 0.8, spread=0.01, drift=0))
    slower, faster = run(first, second), run(second, first)
    assert (slower.return_value, faster.return_value) == (1, 0)
    assert slower.output.startswith("### Bench: **branch.json is slower**")
    assert "| 64 | 1 |" in slower.output
    assert slower.output.count("▼ slower") == 4
    assert "▲ faster" in faster.output


def test_the_same_is_no_change(tmp_path):
    first = saved(tmp_path, "a.json", sweep(1))
    done = run(first, first, "--json")
    assert done.return_value == 0
    assert "no change" in done.output
    assert json.loads(done.output.splitlines()[-1])["overall"]["ratio"]["value"] == 1.0


def test_what_cannot_be_compared_is_refused(tmp_path):
    first, empty = saved(tmp_path, "a.json", sweep(1)), saved(tmp_path, "b.json", [])
    assert isinstance(run(first, empty).exception, InputError)
    assert isinstance(run(first, str(tmp_path / "missing.json")).exception, InputError)
    (tmp_path / "c.json").write_text('{"format": "something else"}')
    assert isinstance(run(first, str(tmp_path / "c.json")).exception, InputError)
    assert isinstance(run(first, first, "--threshold", "2").exception, OptionError)


def test_perf_analyzer_gets_rows_that_json_can_hold():
    kinds = [("x", "FP32", (2,), ("a", "b")), ("t", "BYTES", (1,), ("c",))]
    inputs = tuple(
        InputTensor(name, datatype(kind), shape, tuple(Column(each) for each in columns))
        for name, kind, shape, columns in kinds
    )
    outputs = (OutputTensor("y", datatype("FP32"), (1,)),)
    plan = Plan(inputs, outputs, ("y",), (), 1)
    rows = pa.RecordBatch.from_pydict({
        "a": pa.array([1.0, float("nan")], pa.float32()),
        "b": pa.array([2.0, 3.0], pa.float32()),
        "c": ["é", "z"],
    })  # fmt: skip
    plain = json.loads(json.dumps(rows_as_plain(plan, rows), allow_nan=False))
    assert plain == [
        {"x": {"content": [1.0, 2.0], "shape": [2]}, "t": {"content": ["é"], "shape": [1]}},
        {"x": {"content": [0.0, 3.0], "shape": [2]}, "t": {"content": ["z"], "shape": [1]}},
    ]


def test_the_points_to_check_are_the_verdict_and_the_fastest_as_configured():
    base = Variant(1, 0, 4096, "1")
    more = replace(base, instances=2)
    rates = [(64, base, 1.0), (256, base, 3.0), (1024, base, 2.0), (4096, more, 9.0)]
    trials = tuple(
        Trial(Setting(rows, 4, variant), 0, "", rows=9, rows_per_second=rate, in_flight_little=4)
        for rows, variant, rate in rates
    )
    found = Sweep("m", ("x",), 9, Space((), (), base), {}, trials=trials)
    assert points_of(found) == []
    found = replace(found, verdict=judge(trials, base))
    assert [(p.batch_rows, p.variant) for p in points_of(found)] == [
        (4096, more), (256, base), (1024, base),
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["bench-diff", "bench-restore"])
def test_the_commands_are_found(command):
    from tritonbulk.cli.main import command as root  # noqa: PLC0415

    assert root.get_command(None, command) is not None
