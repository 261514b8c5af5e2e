"""Our own parsers raise what they promise and nothing else, whatever they are given."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import IS_FULL
from tests.hostile.parsers import OUTPUTS, PARSERS, SCHEMA, parse
from tritonbulk.contract import Contract, InputTensor, datatype
from tritonbulk.testing import encode_answer

ROOT = Path(__file__).parents[2]
FUZZ_S = int(os.environ.get("TRITONBULK_TEST_FUZZ_S", "3600")) // len(PARSERS)

pytestmark = pytest.mark.ci


def honest():
    """Give bytes that each parser likes, to be spoilt."""
    tensors = {
        "y": np.zeros((3, 2), np.float32),
        "words": np.array([[b"a"], [b"bc"], [b""]], object),
        "free": np.zeros((3, 4), np.int64),
    }
    answer = encode_answer("1", tensors)
    contract = Contract("m", "sha256:1", (InputTensor("x", datatype("FP32"), (1,)),), OUTPUTS)
    texts = b"\1\0\0\0a\2\0\0\0bc\0\0\0\0"
    found = dict.fromkeys(PARSERS, b"")
    found |= {
        "an answer": answer,
        "an answer's fields": answer,
        "a stream's reply": b"\x12" + bytes([len(answer)]) + answer
        if len(answer) < 128
        else answer,
        "texts of an answer": texts,
        "a contract": contract.to_json().encode(),
        "a manifest": json.dumps({"format_version": 1, "parts": [], "rows": 0}).encode(),
        "a job file": json.dumps({"spec": {}, "fingerprint": "sha256:1"}).encode(),
        "a part's statement": b"PAR1" + b"tritonbulk.part" + b"\0" * 90 + b"PAR1",
        "a profile": json.dumps({"model": "m", "cells": [{"rows_per_second": 1}]}).encode(),
        "a filter": b"(a > 1 and b in ('x', 'y')) or `c d` is not null or not a == -2",
        "JSON Lines": b'{"a": 1, "b": "x\\u0041", "c": [1, {"d": null}]}\n' * 3,
        "a limit for others": b"p99=50ms",
        "a server's words": "wörds \x1b[31m".encode(),
    }
    return found


def spoilt(data, dice):
    data = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 5, 30])):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(5):
            case 0:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                data[at:at] = dice.choice(
                    [b"(", b"[", b'"', b"\\", b"\xff", b"\0", b"-", b"9"]
                ) * dice.choice([1, 3, 400])
            case 2:
                del data[at : at + dice.choice([1, 2, 8])]
            case 3:
                data[at:at] = data[: dice.randrange(40)]
            case 4:
                data[at : at + 8] = dice.choice([2**63, 2**64 - 1, 2**31, 0]).to_bytes(8, "little")
    return bytes(data)


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_spoilt_raises_what_is_promised(name, tally, cases):
    dice, good = random.Random(f"parsers/{name}"), honest()[name]
    assert SCHEMA is not None
    for _ in range(cases(400, 20_000)):
        data = spoilt(good, dice)
        try:
            parse(name, data)
        except Exception as error:
            raise AssertionError(f"{name}: {error!r} for {data[:2000]!r}") from error
    tally(f"P12: spoilt, {name}", cases(400, 20_000))


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs atheris: make test-hostile-full"
)
@pytest.mark.skipif(not IS_FULL, reason="takes an hour; make test-hostile-full runs it")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", PARSERS)
def test_fuzzing_finds_nothing(name, tmp_path, tally):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "honest").write_bytes(honest()[name])
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.fuzz", name, str(FUZZ_S),
         str(tmp_path / "corpus"), f"{tmp_path}/"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    tally("P12: seconds of fuzzing", FUZZ_S)


def test_a_parser_that_breaks_its_promise_is_seen(monkeypatch, tally):
    def careless(data):
        return data[3]

    monkeypatch.setitem(PARSERS, "a contract", (careless, (ValueError,)))
    with pytest.raises(IndexError):
        parse("a contract", b"")
    tally("P12: seeded bug found: a careless parser")
