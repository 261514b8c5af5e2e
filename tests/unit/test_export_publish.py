"""Publication: whole or not at all, once for the same content, whatever is killed in between."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tritonbulk.contract import (
    CONTRACT_PARAMETER,
    Column,
    Contract,
    InputTensor,
    OutputTensor,
    datatype,
)
from tritonbulk.errors import ModelError, OptionError, OutputError, SinkError
from tritonbulk_export import publish as publish_module
from tritonbulk_export.config import from_text
from tritonbulk_export.content import Content
from tritonbulk_export.entry_files import SNAPSHOT_FILES
from tritonbulk_export.publish import check_name, publish
from tritonbulk_export.rollback import retract, rollback
from tritonbulk_export.serving import BatchSize, Serving
from tritonbulk_export.storage import repository_lock

NOW = datetime(2026, 11, 23, 7, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def onnx_file(marker):
    """Return the bytes of a model file that carries ``marker``."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in "xy"]
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    graph = helper.make_graph(nodes, marker.decode(), ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def content(marker=b"one", rows=64, *, asked=False, name="m", columns=("a",), **more):
    model = onnx_file(marker)
    tensors = InputTensor(
        "x", datatype("FP32"), (len(columns),), tuple(Column(column) for column in columns)
    )
    contract = Contract(
        model=name,
        digest="sha256:" + hashlib.sha256(model).hexdigest(),
        inputs=(tensors,),
        outputs=(OutputTensor("y", datatype("FP32"), (1,)),),
        tools={"onnx": "1"},
    )
    batch = BatchSize(rows, "so", is_asked=asked)
    return Content(contract, {"model.onnx": model}, b"golden of " + marker, batch, **more)


def check_loadable(entry):
    """Check that Triton could load ``entry``, and return the served model's marker."""
    config = from_text((entry / "config.pbtxt").read_text())
    (version,) = config.version_policy.specific.versions
    model = (entry / str(version) / "model.onnx").read_bytes()
    contract = Contract.from_json(config.parameters[CONTRACT_PARAMETER].string_value)
    assert contract.digest == "sha256:" + hashlib.sha256(model).hexdigest()
    return onnx.load_from_string(model).graph.name.encode()


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_new_entry_is_complete_and_nothing_lies_beside_it(tmp_path):
    published = publish(content(), tmp_path / "r", NOW)
    names = sorted(str(path) for path in files(tmp_path / "r"))
    version = str(published.version)
    assert version.startswith("202611230701")
    assert len(version) == 18
    assert names == sorted(
        f"m/{n}"
        for n in (
            *SNAPSHOT_FILES,
            f"{version}/model.onnx",
            *(f"{version}/{f}" for f in SNAPSHOT_FILES),
        )
    )
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert check_loadable(tmp_path / "r" / "m") == b"one"


def test_the_same_content_changes_nothing(tmp_path):
    first = publish(content(), tmp_path, NOW)
    before = files(tmp_path)
    other_tools = content()
    other_tools = replace(other_tools, contract=replace(other_tools.contract, tools={"onnx": "2"}))
    second = publish(other_tools, tmp_path, LATER)
    assert (second.version, second.changed) == (first.version, False)
    assert files(tmp_path) == before


def test_content_under_an_older_version_changes_nothing(tmp_path):
    first = publish(content(b"one"), tmp_path, NOW)
    publish(content(b"two"), tmp_path, LATER)
    before = files(tmp_path)
    again = publish(content(b"one"), tmp_path, LATER)
    assert (again.version, again.changed) == (first.version, False)
    assert not again.is_served
    assert files(tmp_path) == before


def test_new_content_becomes_a_new_version_beside_the_old_one(tmp_path):
    first = publish(content(b"one"), tmp_path, NOW)
    second = publish(content(b"two"), tmp_path, LATER)
    assert second.version > first.version
    assert check_loadable(tmp_path / "m") == b"two"
    assert (tmp_path / "m" / str(first.version) / "model.onnx").read_bytes() == onnx_file(b"one")
    assert (tmp_path / "m" / "golden.parquet").read_bytes() == b"golden of two"


def test_other_columns_are_other_content_though_the_model_is_the_same(tmp_path):
    first = publish(content(columns=("a",)), tmp_path, NOW)
    second = publish(content(columns=("b",)), tmp_path, NOW)
    assert second.version > first.version


def test_a_batch_size_that_was_asked_for_changes_the_configuration_only(tmp_path):
    first = publish(content(rows=64), tmp_path, NOW)
    config = tmp_path / "m" / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 1", "count: 7"))
    second = publish(content(rows=32, asked=True), tmp_path, LATER)
    assert (second.version, second.max_batch_size, second.changed) == (first.version, 32, True)
    assert "count: 7" in config.read_text()
    assert "max_batch_size: 32" in config.read_text()


def test_a_default_batch_size_does_not_undo_a_tuned_one(tmp_path):
    publish(content(rows=32, asked=True), tmp_path, NOW)
    again = publish(content(rows=64), tmp_path, LATER)
    assert (again.max_batch_size, again.changed) == (32, False)


# One process that forks for each step: it has no threads, and dies like a killed one, with no
# `finally` and no exit handlers.
PUBLISH_AND_DIE = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_export_publish as t

def publish_and_die(repository, at):
    calls = 0
    def counted(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == at:
                os._exit(9)
            return function(*arguments, **options)
        return call
    for name in ("fsync", "rename", "replace", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    t.publish(t.content(b"new"), repository, t.LATER)
    os._exit(0)

for at in range(1, 100):
    repository = Path(sys.argv[2], str(at), "r")
    if sys.argv[3] == "old":
        t.publish(t.content(b"old"), repository, t.NOW)
    child = os.fork()
    if not child:
        publish_and_die(repository, at)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        break
    assert code == 9
print(at)
"""


@pytest.mark.parametrize("before", ["nothing", "old"])
def test_a_kill_at_any_step_leaves_the_old_entry_or_the_new_one(tmp_path, before):
    arguments = [str(Path(__file__).parent), str(tmp_path), before]
    done = subprocess.run(
        [sys.executable, "-c", PUBLISH_AND_DIE, *arguments],
        check=True,
        capture_output=True,
        timeout=60,
    )
    steps = int(done.stdout)
    assert steps > 8
    for at in range(1, steps):
        repository = tmp_path / str(at) / "r"
        entry = repository / "m"
        if before == "old":
            assert check_loadable(entry) in {b"old", b"new"}
        elif entry.exists():
            assert check_loadable(entry) == b"new"
        publish(content(b"new"), repository, LATER)
        assert check_loadable(entry) == b"new"
        assert (entry / "golden.parquet").read_bytes() == b"golden of new"
        assert len([path for path in entry.iterdir() if path.is_dir()]) == 1 + (before == "old")
        assert [path.name for path in repository.parent.iterdir()] == ["r"]
        assert {path.name for path in repository.iterdir()} == {"m"}


def test_a_full_disk_is_one_sentence_and_harms_nothing(tmp_path, monkeypatch):
    publish(content(b"one"), tmp_path / "r", NOW)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    before = files(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SinkError, match="No space left on device"):
        publish(content(b"two"), tmp_path / "r", LATER)
    assert files(tmp_path) == before


def test_publishers_at_the_same_time_leave_one_loadable_entry(tmp_path):
    errors = []

    def run(model):
        try:
            publish(content(model), tmp_path / "r", NOW)
        except Exception as error:
            errors.append(error)

    models = [b"%d" % (n % 3) for n in range(12)]
    threads = [threading.Thread(target=run, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    entry = tmp_path / "r" / "m"
    served = check_loadable(entry)
    assert (entry / "golden.parquet").read_bytes() == b"golden of " + served
    assert len([path for path in entry.iterdir() if path.is_dir()]) == 3


def test_a_repository_that_is_held_for_too_long_is_an_error(tmp_path):
    with (
        repository_lock(tmp_path),
        pytest.raises(SinkError, match="another export"),
        repository_lock(tmp_path, wait_s=0.1),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_was_unlinked_meanwhile_is_no_lock(tmp_path, monkeypatch):
    flock = fcntl.flock
    unlinked = []

    def flock_late(descriptor, operation):
        if not unlinked:  # the last holder goes between our open and our lock
            unlinked.extend(tmp_path.iterdir())
            unlinked[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with (
        repository_lock(tmp_path),
        pytest.raises(SinkError),
        repository_lock(tmp_path, wait_s=0.1),
    ):
        pass
    assert len(unlinked) == 1


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a/b", "a b", "ü", "..", "x" * 129, "a\n"])
def test_names_that_are_no_plain_file_names_are_refused(tmp_path, name):
    with pytest.raises(OptionError, match="cannot name a model"):
        check_name(name)


def test_staging_inside_the_repository_is_refused(tmp_path):
    with pytest.raises(OutputError, match="inside the repository"):
        publish(content(), tmp_path / "r", NOW, staging=tmp_path / "r" / "staging")


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir(), reason="needs a second file system that is always there"
)
def test_staging_on_another_file_system_is_refused(tmp_path):
    if tmp_path.stat().st_dev == Path("/dev/shm").stat().st_dev:
        pytest.skip("the temporary folder is on that file system")
    with pytest.raises(OutputError, match="not on the file system"):
        publish(content(), tmp_path / "r", NOW, staging=Path("/dev/shm"))


def test_staging_on_another_mount_of_the_same_device_is_refused(tmp_path, monkeypatch):
    def rename(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OutputError, match=r"another mount.*--staging"):
        publish(content(), tmp_path / "r", NOW, staging=tmp_path / "elsewhere")
    assert not (tmp_path / "r" / "m").exists()


def test_staging_elsewhere_on_the_file_system_works(tmp_path):
    publish(content(), tmp_path / "r", NOW, staging=tmp_path / "elsewhere")
    assert check_loadable(tmp_path / "r" / "m") == b"one"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_links_in_an_entry_are_neither_followed_nor_overwritten(tmp_path):
    repository, outside = tmp_path / "r", tmp_path / "outside"
    publish(content(), repository, NOW)
    outside.mkdir()
    entry = repository / "m"
    for name in ("config.pbtxt", "golden.parquet", "warmup"):
        kept = entry.with_name("kept")
        if (entry / name).exists():
            (entry / name).rename(kept)
        (entry / name).symlink_to(outside)
        with pytest.raises(OutputError, match=rf"{name} is a symbolic link"):
            publish(content(b"two"), repository, LATER)
        (entry / name).unlink()
        if kept.exists():
            kept.rename(entry / name)
    entry.rename(outside / "m")
    entry.symlink_to(outside / "m")
    before = files(outside)
    with pytest.raises(OutputError, match="symbolic link"):
        publish(content(b"two"), repository, LATER)
    assert files(outside) == before


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".tritonbulk.lock").symlink_to(tmp_path / "made")
    with pytest.raises(SinkError):
        publish(content(), tmp_path / "r", NOW)
    assert not (tmp_path / "made").exists()


def test_what_triton_would_refuse_is_not_published(tmp_path):
    for overrides in (
        {"dynamic_batching": {"preferred_batch_size": [65]}},
        {"instance_group": [{"kind": "KIND_CPU", "gpus": [0]}]},
        {"parameters": {"execution_mode": "9"}},
    ):
        with pytest.raises(ModelError, match="nothing was published"):
            publish(content(overrides=overrides), tmp_path / "r", NOW)
        assert not (tmp_path / "r" / "m").exists()
    publish(content(), tmp_path / "r", NOW)
    before = files(tmp_path)
    with pytest.raises(ModelError, match="C203"):
        publish(
            content(overrides=overrides | {"max_batch_size": 2} | _PREFERRED), tmp_path / "r", NOW
        )
    assert files(tmp_path) == before


_PREFERRED = {"parameters": {}, "dynamic_batching": {"preferred_batch_size": [3]}}


def test_serving_that_is_asked_for_changes_the_configuration_of_the_same_version(tmp_path):
    first = publish(content(), tmp_path / "r", NOW)
    again = publish(content(serving=Serving(instances=3)), tmp_path / "r", LATER)
    assert (again.version, again.changed) == (first.version, True)
    text = (tmp_path / "r" / "m" / "config.pbtxt").read_text()
    assert "count: 3" in text
    assert "# instance_group: 3" in text
    snapshot = tmp_path / "r" / "m" / str(first.version) / "config.pbtxt"
    assert "count: 1" in snapshot.read_text()


def test_warm_up_and_labels_come_with_the_version(tmp_path):
    more = {"tensors": {"x": np.array([[1.5], [2.5]], np.float32)}, "labels": {"y": ("no",)}}
    done = publish(content(**more), tmp_path / "r", NOW)
    entry = tmp_path / "r" / "m"
    config = from_text((entry / "config.pbtxt").read_text())
    assert [sample.batch_size for sample in config.model_warmup] == [1, 64]
    (name,) = {sample.inputs["x"].input_data_file for sample in config.model_warmup}
    assert (entry / "warmup" / name).read_bytes() == np.float32(1.5).tobytes()
    assert (entry / config.output[0].label_filename).read_text() == "no\n"
    again = publish(content(rows=32, asked=True, **more), tmp_path / "r", LATER)
    config = from_text((entry / "config.pbtxt").read_text())
    assert (again.version, config.max_batch_size) == (done.version, 32)
    assert [sample.batch_size for sample in config.model_warmup] == [1, 32]
    assert "# max_batch_size: 32: so\n" in (entry / "config.pbtxt").read_text()


def test_rollback_serves_the_version_before_and_the_way_forward_is_open(tmp_path):
    first = publish(content(b"one"), tmp_path / "r", NOW)
    second = publish(content(b"two"), tmp_path / "r", LATER)
    done = rollback(tmp_path / "r", "m")
    assert (done.version, done.before) == (first.version, second.version)
    assert check_loadable(tmp_path / "r" / "m") == b"one"
    assert (tmp_path / "r" / "m" / "golden.parquet").read_bytes() == b"golden of one"
    with pytest.raises(OutputError, match="no version below"):
        rollback(tmp_path / "r", "m")
    assert rollback(tmp_path / "r", "m", second.version).version == second.version
    assert check_loadable(tmp_path / "r" / "m") == b"two"
    with pytest.raises(OutputError, match="no version 7"):
        rollback(tmp_path / "r", "m", 7)


def test_rollback_refuses_a_version_whose_model_was_changed(tmp_path):
    first = publish(content(b"one"), tmp_path / "r", NOW)
    publish(content(b"two"), tmp_path / "r", LATER)
    (tmp_path / "r" / "m" / str(first.version) / "model.onnx").write_bytes(onnx_file(b"three"))
    with pytest.raises(OutputError, match="no version below"):
        rollback(tmp_path / "r", "m")


@pytest.mark.parametrize("before", [False, True])
def test_what_is_taken_back_was_never_there(tmp_path, before):
    if before:
        publish(content(b"one"), tmp_path / "r", NOW)
    was = files(tmp_path / "r") if before else {}
    tensors = {"x": np.array([[1.5]], np.float32)}
    done = publish(content(b"two", tensors=tensors), tmp_path / "r", LATER)
    retract(tmp_path / "r", "m", done)
    assert files(tmp_path / "r") == was


def test_an_entry_that_is_not_ours_is_not_overwritten(tmp_path):
    entry = tmp_path / "m"
    entry.mkdir()
    (entry / "config.pbtxt").write_text('name: "m"\nbackend: "python"\n')
    with pytest.raises(OutputError, match="not made by tritonbulk export"):
        publish(content(), tmp_path, NOW)
    (entry / "config.pbtxt").write_text("nonsense")
    with pytest.raises(OutputError, match="cannot be read"):
        publish(content(), tmp_path, NOW)


def test_two_contents_of_which_the_six_digits_agree_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(publish_module, "digest_digits", lambda digest: 7)
    monkeypatch.setattr("tritonbulk_export.versions.digest_digits", lambda digest: 7)
    first = publish(content(columns=("a",)), tmp_path, NOW)
    second = publish(content(columns=("b",)), tmp_path, LATER)
    assert second.changed
    assert second.version != first.version
