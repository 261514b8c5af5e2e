"""P12: hostile data never crash, hang or escape; each ends as rows or as one sentence."""

import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from tests.hostile.corpus import honest_files, hostile_files
from tritonbulk.errors import InputError
from tritonbulk.source import open_source, untrusted
from tritonbulk.source.untrusted import Untrusted

pytestmark = [pytest.mark.ci, pytest.mark.timeout(10800)]

ROOT = Path(__file__).parents[2]
SENTENCE_CHARACTERS_MAX = 2_000
PEAK_BYTES_MAX = 2 * 2**30
SEED = 20261


def outcomes(folder, *flags):
    """Run the program over the files of a folder until each has an outcome."""
    found, begin = {}, 0
    files = sorted(folder.glob("case-*"))
    while begin < len(files):
        done = subprocess.run(
            [sys.executable, "-m", "tests.hostile.program", str(folder), *flags,
             "--from", str(begin)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        at = begin
        for line in map(json.loads, done.stdout.splitlines()):
            if "at" in line:
                at = line["at"]
            elif found.get(at, {}).get("outcome") != "escaped":
                found[at] = line
        if at not in found:
            found[at] = {"outcome": "crashed", "text": f"{done.returncode} {done.stderr[-500:]}"}
        begin = at + 1
    return found


def lay_out(cases, folder):
    kinds = []
    for number, case in enumerate(cases):
        (folder / f"case-{number:06}.{case.extension}").write_bytes(case.data)
        kinds.append(case.kind)
    return kinds


def bad_ones(found, kinds):
    return [
        (number, kinds[number], each)
        for number, each in sorted(found.items())
        if each["outcome"] in ("crashed", "escaped", "unexpected")
        or not each["text"].replace("\n", " ").isprintable()
        or len(each["text"]) > SENTENCE_CHARACTERS_MAX
    ]


def test_hostile_files_end_as_rows_or_one_sentence(tmp_path, tally, cases):
    count = cases(300, 10_000)
    kinds = lay_out(hostile_files(count, SEED), tmp_path)
    found = outcomes(tmp_path, "--untrusted")
    assert len(found) == count
    assert not bad_ones(found, kinds)
    for kind in kinds:
        tally(f"P12: {kind}")
    counts = Counter(each["outcome"] for each in found.values())
    assert all(each["sandboxes"] for each in found.values())
    assert max(each["peak"] for each in found.values()) < PEAK_BYTES_MAX
    assert counts["InputError"] > count / 3, counts
    assert counts["scored"] > 0, counts


def test_hostile_files_without_the_sandbox_harm_no_more_than_their_run(tmp_path, tally, cases):
    bombs = "bomb"
    hostile = [
        each for each in hostile_files(cases(150, 3_000), SEED + 1) if bombs not in each.kind
    ]
    kinds = lay_out(hostile, tmp_path)
    found = outcomes(tmp_path)
    assert not bad_ones(found, kinds)
    tally("P12: without --untrusted", len(found))


def test_honest_files_are_scored(tmp_path):
    lay_out(honest_files(), tmp_path)
    found = outcomes(tmp_path, "--untrusted")
    assert [each["outcome"] for each in found.values()] == ["scored"] * len(found), found


def test_what_would_harm_is_seen(tmp_path, tally, monkeypatch):
    """The program's eyes: a reader that crashes, writes, connects, starts or raises is told."""
    for name, code in {
        "crashed": "import os; os.abort()",
        "escaped": f"open({str(tmp_path / 'elsewhere')!r}, 'w')",
        "escaped by a process": "import subprocess; subprocess.run(['true'])",
        "escaped by a socket": "import socket; socket.socket().connect_ex(('127.0.0.1', 9))",
        "unexpected": "1 / 0",
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        lay_out(list(honest_files())[:1], folder)
        path = tmp_path / "bug" / "sitecustomize.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "import tritonbulk.source.parquet as p\n"
            f"def read(*_, **__):\n    {code}\n    yield from ()\n"
            "p.read = read\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(path.parent))
        found = outcomes(folder)
        assert found[0]["outcome"] == name.split()[0], (name, found)
        tally(f"P12: seeded harm seen: {name}")


def read_all(path):
    list(open_source([str(path)], is_untrusted=True).read(64, ["x"]))


def test_a_reader_that_is_taken_over_harms_nobody(tmp_path, tally):
    """The sandbox is replaced by programs that answer anything; each is one sentence."""
    (tmp_path / "a.parquet").write_bytes(next(honest_files()).data)
    offsets = pa.Array.from_buffers(
        pa.string(),
        2,
        [None, pa.py_buffer(b"\0\0\0\0\xff\xff\xff\x7f\x02\0\0\0"), pa.py_buffer(b"ab")],
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.schema([("x", pa.string())])) as writer:
        writer.write_batch(pa.record_batch({"x": offsets}))
    schema = untrusted.schema_text(pa.schema([("x", pa.string())]))
    good = json.dumps({"schema": schema, "rows": 2, "value_bytes": {}}).encode()

    def frame(kind, content, size=None):
        return kind + (len(content) if size is None else size).to_bytes(8, "little") + content

    answers = {
        "nothing": b"",
        "half a head": b"D\0",
        "a length of exabytes": frame(b"D", b"", 2**62),
        "a length that does not come": frame(b"D", b"abc", 100),
        "no JSON": frame(b"D", b"\xff\xfe"),
        "JSON of another shape": frame(b"D", b"[1]"),
        "a schema of noise": frame(b"D", b'{"schema": "AAAA", "rows": 1, "value_bytes": {}}'),
        "another kind": frame(b"Z", b""),
        "escapes": frame(b"R", b"\x1b[2J\n" + b"x" * 10_000),
        "offsets": frame(b"D", good) + frame(b"B", sink.getvalue()) + frame(b"E", b""),
        "rows of noise": frame(b"D", good) + frame(b"B", b"\0" * 64),
        "a kind in between": frame(b"D", good) + frame(b"D", good),
    }  # fmt: skip
    for name, answer in answers.items():
        (tmp_path / "answer").write_bytes(answer)
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\ncat {tmp_path / 'answer'}\n")
        program.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(untrusted.sys, "executable", str(program))
            with pytest.raises(InputError) as caught:
                read_all(tmp_path / "a.parquet")
        text = str(caught.value)
        assert text.isprintable(), name
        assert len(text) < SENTENCE_CHARACTERS_MAX, name
        tally("P12: answers of a reader that was taken over")


def test_the_process_that_reads_is_limited(tmp_path, monkeypatch, tally):
    monkeypatch.setenv("CANARY", "canary-in-the-environment")
    data = next(honest_files()).data
    (tmp_path / "a.parquet").write_bytes(data)
    source = open_source([str(tmp_path / "a.parquet")], is_untrusted=True)
    assert isinstance(source.untrusted, Untrusted)
    (child,) = source.untrusted._idle
    proc = Path(f"/proc/{child._process.pid}")
    lines = (proc / "limits").read_text().splitlines()
    limits = {line[:25].strip(): line[25:].split() for line in lines}
    assert limits["Max file size"][0] == "0"
    assert limits["Max core file size"][0] == "0"
    assert int(limits["Max address space"][0]) < 4 * 2**30
    assert int(limits["Max cpu time"][0]) < 120
    assert b"canary" not in (proc / "environ").read_bytes()
    assert "NoNewPrivs:\t1" in (proc / "status").read_text()
    pid = child._process.pid
    del source, child
    assert not Path(f"/proc/{pid}").exists(), "it ends with what it reads for"
    tally("P12: limits of the process that reads")
