"""No output ever mixes inputs, models, configurations or options.

One thing is changed between the two runs of a job, or by a second run in the midst of the first:
the run that differs is refused by a sentence that names what does, and what stands there is left.
"""

import os
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash import bugs, jobs
from tests.crash.program import FP32, INPUTS, OUTPUTS, run, served
from tritonbulk.contract import Column, Contract, InputTensor, OutputTensor, datatype
from tritonbulk.errors import TritonbulkError
from tritonbulk.options import ScoreOptions
from tritonbulk.source import identity
from tritonbulk.testing import ScriptedTransport

pytestmark = pytest.mark.ci

ROWS = 400


class World:
    """What a job is made of; a mutation changes one thing."""

    def __init__(self, folder):
        self.folder = folder
        self.inputs = [jobs.write_rows(folder / "in" / name, ROWS // 2, begin)
                       for name, begin in (("a.parquet", 0), ("b.parquet", ROWS // 2))]  # fmt: skip
        self.options = {"segment_rows": 50, "batch_rows": 16, "input_map": {"x": ("a",)}}
        self.model = served()

    def copy(self):
        other = World.__new__(World)
        other.__dict__ = {**self.__dict__, "inputs": list(self.inputs)}
        other.options = dict(self.options)
        return other

    def run(self, out, model_function=None):
        options = ScoreOptions(
            inputs=tuple(map(str, self.inputs)), out=out, model=self.model.name, **self.options
        )
        answer = model_function or (lambda tensors: {"y": tensors["x"] * 2})
        return run(options, model=self.model, transport=ScriptedTransport(answer))


def option(**changes):
    return lambda world: world.options.update(changes)


def model(**changes):
    def change(world):
        world.model = replace(world.model, **changes)

    return change


def rewrite(path, data):
    """Change a file's bytes and keep its time."""
    kept = path.stat().st_mtime_ns
    path.write_bytes(data)
    os.utime(path, ns=(kept, kept))


def flip_a_byte(world):
    data = bytearray(world.inputs[0].read_bytes())
    data[10] ^= 1
    rewrite(world.inputs[0], bytes(data))


def touch(world):
    os.utime(world.inputs[0], ns=(1, 1))


def append_a_byte(world):
    with world.inputs[1].open("ab") as file:
        file.write(b"\0")


def more_rows(world):
    jobs.write_rows(world.inputs[0], ROWS // 2 + 1)


def other_rows(world):
    jobs.write_rows(world.inputs[1], ROWS // 2, 7)


def add_a_file(world):
    world.inputs.append(jobs.write_rows(world.folder / "in" / "c.parquet", 9, ROWS))


def drop_a_file(world):
    world.inputs.pop()


def swap_files(world):
    world.inputs.reverse()


def rename_a_file(world):
    world.inputs[1] = world.inputs[1].rename(world.folder / "in" / "c.parquet")


def another_contract(world):
    tensor = InputTensor("x", FP32, (1,), (Column("a", null="nan"),))
    contract = Contract("m", "sha256:1", (tensor,), OUTPUTS)
    world.model = replace(world.model, contract=contract)
    del world.options["input_map"]


FILES = {
    "a byte of an input": (flip_a_byte, r"sha256_ends|damaged|cannot be read"),
    "the time of an input": (touch, "mtime_ns"),
    "the length of an input": (append_a_byte, r"size|cannot be read"),
    "the rows of an input": (more_rows, "rows 200 → 201|size"),
    "the values of an input": (other_rows, "sha256_ends|mtime_ns"),
    "an input more": (add_a_file, "--only-new|inputs"),
    "an input less": (drop_a_file, "inputs"),
    "the order of inputs": (swap_files, "differs in inputs in another order"),
    "the name of an input": (
        rename_a_file,
        r"inputs\[[^]]*c\.parquet\] added; inputs\[[^]]*b\.parquet\] removed",
    ),
}
TOUCHED = {
    name
    for name in FILES
    if name.startswith(("a byte", "the time", "the length", "the rows", "the values", "the name"))
}
"""Changes of files that the first run has before it; it must not go on with what it reads then."""

MODELS = {
    "the model's name": (model(name="n"), "model.name"),
    "the model's version": (model(version="2"), "model.version"),
    "the model's digest": (
        model(contract=Contract("m", "sha256:9", INPUTS, OUTPUTS)), "model.digest"),
    "the model's configuration": (model(config_digest="sha256:9"), "model.config_digest"),
    "a tensor's shape": (
        model(outputs=(OutputTensor("y", FP32, (1, 1)),)), "tensors|output"),
    "a tensor's datatype": (
        model(outputs=(OutputTensor("y", datatype("FP64"), (1,)),)), "tensors|output"),
    "a null policy": (another_contract, "tensors"),
}  # fmt: skip
OPTIONS = {
    "batch rows": (option(batch_rows=8), "batch_rows 16 → 8"),
    "segment rows": (option(segment_rows=25), "segment_rows 50 → 25"),
    "the limit": (option(limit_rows=300), "limit_rows"),
    "the filter": (option(where="id >= 0"), "where null"),
    "the mapping": (option(input_map={"x": ("b",)}), "columns|tensors"),
    "kept columns": (option(keep=("id",)), "output|columns"),
    "names of outputs": (option(rename={"y": "score"}), "output"),
    "the format of parts": (option(out_format="arrow"), "encoding"),
    "the form of vectors": (option(vectors="binary"), "vectors"),
    "what NaN does": (option(nan="fail"), "nan"),
    "how inputs are told apart": (option(strict_inputs=True), "sha256"),
}
MUTATIONS = FILES | MODELS | OPTIONS


@pytest.fixture
def world(folder, monkeypatch):
    monkeypatch.setattr(identity, "ENDS_BYTES", 100)  # as if the files were large
    (folder / "in").mkdir()
    return World(folder)


def visible(out):
    return {path.name: path.read_bytes() for path in Path(out).rglob("*.*")}


class KilledError(BaseException):
    pass


def begin(world, out):
    """Begin the job and die in its midst."""
    rows = 0

    def die(tensors):
        nonlocal rows
        rows += len(tensors["x"])
        if rows > ROWS * 0.6:
            raise KilledError
        return {"y": tensors["x"] * 2}

    with pytest.raises(KilledError):
        world.run(out, die)


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_changed_between_two_runs_is_refused_by_name(name, world, folder, tally):
    mutate, words = MUTATIONS[name]
    out = folder / "out"
    begin(world, out)
    before, changed = visible(out), world.copy()
    mutate(changed)
    with pytest.raises(TritonbulkError, match=words):
        changed.run(out)
    assert visible(out) == before
    tally("P4: a change between two runs")


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_changes_in_the_midst_of_a_run_is_refused(name, world, folder, tally):
    mutate, words = MUTATIONS[name]
    out, clean = folder / "out", folder / "clean"
    world.run(clean)
    rows, refused = 0, []

    def rival():
        changed = world.copy()
        mutate(changed)
        try:
            changed.run(out)
        except TritonbulkError as error:
            refused.append(error)

    def disturbed(tensors):
        nonlocal rows
        if rows <= ROWS // 2 < rows + len(tensors["x"]):
            thread = threading.Thread(target=rival)
            thread.start()
            thread.join()
        rows += len(tensors["x"])
        return {"y": tensors["x"] * 2}

    try:
        world.run(out, disturbed)
    except TritonbulkError as error:
        refused.append(error)
    assert any(re.search(words, str(each)) for each in refused), refused
    for part in out.glob("part-*"):
        assert part.read_bytes() == (clean / part.name).read_bytes()
    if name not in TOUCHED:
        assert len(refused) == 1, "the first run is not disturbed by a second that differs"
        assert jobs.digests(out) == jobs.digests(clean)
    tally("P4: a change in the midst of a run")


def test_jobs_that_are_not_compared_are_found_mixed(world, folder, tally, monkeypatch):
    out, clean = folder / "out", folder / "clean"
    world.run(clean)
    begin(world, out)
    for target, attribute, value in bugs.BUGS["fingerprints are not compared"]:
        monkeypatch.setattr(target, attribute, value)
    changed = world.copy()
    MUTATIONS["the mapping"][0](changed)
    changed.run(out)
    assert jobs.digests(out) != jobs.digests(clean)
    tally("P4: seeded bug found: fingerprints are not compared")


def test_inputs_that_change_unseen_are_found(world, folder, tally, monkeypatch):
    out, clean = folder / "out", folder / "clean"
    world.run(clean)
    for target, attribute, value in bugs.BUGS["inputs are not looked at again"]:
        monkeypatch.setattr(target, attribute, value)
    is_first = True

    def disturbed(tensors):
        nonlocal is_first
        if is_first:
            other_rows(world)
            is_first = False
        return {"y": tensors["x"] * 2}

    world.run(out, disturbed)
    assert jobs.digests(out) != jobs.digests(clean)
    tally("P4: seeded bug found: inputs are not looked at again")
