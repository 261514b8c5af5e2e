"""Lint by itself: every code has words, places are named, and nothing is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.live.lint_corpus import CASES, FULL, bf16_model, entry, model
from tritonbulk.errors import InputError
from tritonbulk_export.lint import RULES, errors_of, lint_repository
from tritonbulk_export.lint.command import command
from tritonbulk_export.lint.reading import version_number

DOCS = Path(__file__).parents[2] / "docs" / "export" / "lint.md"
PIECES = (
    *("", " ", "{", "}", "-1", "0", "99999999999", '"', "dims: -7 ", "reshape { shape: [ -1 ] } "),
    *("dynamic_batching { } ", 'platform: "ensemble" ', "ensemble_scheduling { step { } } "),
    *("model_warmup { } ", "sequence_batching { oldest { } } ", "version_policy { all { } } "),
    *('name: "\\303\\251" ', "batch_input { } ", "is_shape_tensor: true ", "max_batch_size: -9 "),
)
"""What hostile or careless hands put into a configuration."""


def codes(root, **options):
    return {finding.code for finding in lint_repository(root, **options)}


def test_every_code_says_what_goes_wrong_and_what_to_do():
    for code, rule in RULES.items():
        assert code == rule.code
        assert rule.level in ("error", "warning")
        assert rule.meaning
        assert rule.fix
        assert not rule.meaning.endswith(".")


def test_every_code_is_in_the_documents_with_its_words():
    text = DOCS.read_text(encoding="utf-8")
    for rule in RULES.values():
        assert f"| {rule.code} | {rule.level} | {rule.meaning} | {rule.fix} |" in text


def test_codes_that_the_corpus_finds(tmp_path):
    seen = set()
    for number, write in enumerate(CASES.values()):
        root = tmp_path / str(number)
        root.mkdir()
        write(root)
        seen |= codes(root, has_gpu=False)
    unseen = set(RULES) - seen
    # What no server can be asked: the end of the server itself, other hosts, other packages.
    others = {"R105", "R109", "R110", "C210", "C216", "C219", "C221", "C222", "C223", "C224"}
    others |= {"O514", "O515", "O516", "O517", "T312", "E412", "E406", "R111", "C214"}
    others |= {"C218"}
    assert unseen <= others


@pytest.mark.parametrize(("computed", "is_found"), [("h", True), ("b", False)])
def test_bf16_is_an_error_where_it_is_computed_without_a_gpu(tmp_path, computed, is_found):
    entry(tmp_path / "m", FULL, bf16_model(computed))
    assert ("O518" in codes(tmp_path, has_gpu=False)) is is_found
    assert "O518" not in codes(tmp_path)


def test_a_version_of_20_digits_ends_the_server_and_is_an_error(tmp_path):
    entry(tmp_path / "m", FULL, version="20261122012345678901")
    assert "R105" in codes(tmp_path)


@pytest.mark.parametrize(
    ("name", "number"),
    [("1", 1), ("2.tmp", 2), ("3-old", 3), ("01", None), (".tmp-99", None), ("x", None), ("0", 0)],
)
def test_version_numbers_are_read_as_triton_reads_them(name, number):
    assert version_number(name) == number


def test_links_out_of_the_repository_and_left_over_files_are_pointed_out(tmp_path):
    folder = entry(tmp_path / "r" / "m", FULL)
    (tmp_path / "outside").write_text("x")
    (folder / "notes").symlink_to(tmp_path / "outside")
    (folder / ".config.pbtxt.swp").write_text("x")
    assert {"R109", "R110"} <= codes(tmp_path / "r")


def test_traps_that_load_are_warnings(tmp_path):
    text = FULL + (
        "dynamic_batching { preferred_batch_size: 4 priority_levels: 2 default_priority_level: 1 "
        "default_queue_policy { allow_timeout_override: true } } response_cache { enable: true }"
    )
    entry(tmp_path / "m", text)
    found = lint_repository(tmp_path)
    assert not errors_of(found)
    assert {"C215", "C216", "C217", "C219"} <= {each.code for each in found}


def test_priorities_alone_turn_off_prefetching_too(tmp_path):
    entry(
        tmp_path / "m", FULL + "dynamic_batching { priority_levels: 1 default_priority_level: 1 }"
    )
    assert "C215" in codes(tmp_path)


def test_decoupled_models_are_errors_and_agents_are_pointed_out(tmp_path):
    entry(tmp_path / "m", FULL + "model_transaction_policy { decoupled: true }")
    entry(tmp_path / "n", FULL + 'model_repository_agents { agents { name: "checksum" } }')
    assert [codes(tmp_path, models=[name]) for name in "mn"] == [{"C223"}, {"C224"}]


def test_half_a_profile_is_pointed_out(tmp_path):
    profile = 'parameters { key: "trt_profile_min_shapes" value: "x:1x4" }'
    gpu = f'gpu_execution_accelerator {{ name: "tensorrt" {profile} }}'
    text = FULL + f"optimization {{ execution_accelerators {{ {gpu} }} }}"
    entry(tmp_path / "m", text.replace("count: 1", "count: 1 kind: KIND_CPU"))
    assert {"O515", "O516"} <= codes(tmp_path)


def test_ensembles_that_contain_each_other_are_a_circle(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(
            'platform: "ensemble" max_batch_size: 8 '
            'input { name: "x" data_type: TYPE_FP32 dims: 4 }'
            'output { name: "y" data_type: TYPE_FP32 dims: 4 }'
            f'ensemble_scheduling {{ step {{ model_name: "{other}" model_version: -1 '
            'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }'
        )
    assert "E412" in codes(tmp_path)


def test_nothing_is_written(tmp_path):
    entry(tmp_path / "m", FULL)
    before = sorted((str(path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    lint_repository(tmp_path)
    assert sorted((str(path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["\x00", 'name: "\\xff"', "a {" * 5000, "x" * 100_000, "é: 1"])
def test_hostile_configurations_are_findings(tmp_path, text):
    entry(tmp_path / "m", None)
    (tmp_path / "m" / "config.pbtxt").write_text(text)
    assert codes(tmp_path) == {"R102"}


def test_a_name_with_dots_cannot_make_lint_look_outside(tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    entry(tmp_path / "r" / "m", FULL + 'default_model_filename: "../../../secret"')
    assert "R112" in codes(tmp_path / "r")


def test_a_fifo_does_not_hang_lint(tmp_path):
    folder = entry(tmp_path / "m", FULL)
    (folder / "1" / "model.onnx").unlink()
    os.mkfifo(folder / "1" / "model.onnx")
    assert {"O501", "R112"} & codes(tmp_path)


def test_links_in_a_circle_and_a_configuration_that_is_no_file_do_not_stop_lint(tmp_path):
    folder = entry(tmp_path / "m", FULL)
    (folder / "circle").symlink_to(folder / "circle")
    assert "R109" in codes(tmp_path)
    (folder / "config.pbtxt").unlink()
    os.mkfifo(folder / "config.pbtxt")
    assert codes(tmp_path) == {"R102"}


def test_an_older_release_knows_fewer_operators(tmp_path):
    entry(tmp_path / "m", FULL, model(opset=24))
    assert codes(tmp_path) == set()
    assert {f.code for f in lint_repository(tmp_path, triton="25.06")} == {"O502"}


@given(st.lists(st.tuples(st.integers(0, len(FULL)), st.sampled_from(PIECES)), max_size=4))
@settings(max_examples=60, deadline=None)
def test_no_configuration_makes_lint_fail(edits):
    text = FULL
    for place, piece in edits:
        text = text[:place] + piece + text[place + len(piece) :]
    with TemporaryDirectory() as folder:
        entry(Path(folder, "m"), text)
        lint_repository(folder, has_gpu=False)


def test_no_repository_is_wrong_use(tmp_path):
    with pytest.raises(InputError, match="no model entry"):
        lint_repository(tmp_path)
    with pytest.raises(InputError, match="can be read"):
        lint_repository(tmp_path / "gone")


def test_the_command_has_exit_codes_and_json(tmp_path):
    entry(tmp_path / "m", FULL + "dynamic_batching { preferred_batch_size: 9 }")
    done = CliRunner().invoke(command, [str(tmp_path), "--json"])
    assert done.exit_code == 4
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["code"] for line in lines} == {"C203", "C217"}
    assert lines[0]["place"] == "m/config.pbtxt dynamic_batching"
    entry(tmp_path / "n", FULL)
    assert CliRunner().invoke(command, [str(tmp_path), "--model", "n"]).exit_code == 0
    with pytest.raises(InputError, match="no entry 'gone'; it has m, n"):
        lint_repository(tmp_path, models=["gone"])
