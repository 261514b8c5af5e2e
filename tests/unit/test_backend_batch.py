"""Requests joined into runs and cut out of them again, with models that are plain functions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tritonbulk.server

# As tritonserver does for the process that runs the backend.
sys.path.append(str(Path(tritonbulk.server.__file__).parent / "backend"))
batch = importlib.import_module("ort_batch")


def double(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"y": inputs["x"] * 2, "first": inputs["x"][:, 0]}


class Recorder:
    """A model that remembers how many rows it was given, and fails on a negative number."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.sizes.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise ArithmeticError("negative")
        return double(inputs)


def requests_of(*row_counts: int) -> list[dict[str, np.ndarray]]:
    x = np.arange(2 * sum(row_counts), dtype=np.float32).reshape(-1, 2)
    return [{"x": part} for part in np.split(x, np.cumsum(row_counts)[:-1])]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 7))
def test_each_request_gets_the_outputs_of_its_own_rows(counts: list[int], rows_max: int) -> None:
    requests = requests_of(*counts)
    model = Recorder()
    results = batch.run_batch(model, requests, rows_max)
    assert len(results) == len(requests)
    for inputs, outputs in zip(requests, results, strict=True):
        assert outputs["y"].tolist() == (inputs["x"] * 2).tolist()
        assert outputs["first"].tolist() == inputs["x"][:, 0].tolist()
    assert sum(model.sizes) == sum(counts)
    assert max(model.sizes) <= (rows_max or sum(counts))


@pytest.mark.parametrize(
    ("counts", "rows_max", "sizes"),
    [
        ((1, 2, 1), 0, [4]),
        ((1, 2, 1), 3, [3, 1]),
        ((5, 1), 4, [4, 1, 1]),
        ((1, 9, 1), 4, [1, 4, 4, 1, 1]),
        ((4, 4), 4, [4, 4]),
    ],
)
def test_neighbours_are_joined_up_to_the_limit_and_larger_requests_cut(
    counts: tuple[int, ...], rows_max: int, sizes: list[int]
) -> None:
    model = Recorder()
    batch.run_batch(model, requests_of(*counts), rows_max)
    assert model.sizes == sizes


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(0, 5))
def test_a_bad_request_does_not_fail_its_neighbours(bad: list[bool], rows_max: int) -> None:
    requests = requests_of(*[2] * len(bad))
    for inputs, is_bad in zip(requests, bad, strict=True):
        inputs["x"] = inputs["x"] - (1000 if is_bad else 0)
    results = batch.run_batch(Recorder(), requests, rows_max)
    assert [isinstance(result, ArithmeticError) for result in results] == bad


def test_an_output_with_other_rows_is_an_error_and_is_named() -> None:
    def shorten(inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        return {"y": inputs["x"][1:]}

    (result,) = batch.run_batch(shorten, requests_of(3), 0)
    assert isinstance(result, batch.RowCountError)
    assert "output 'y' has shape [2, 2] for a batch of 3 rows" in str(result)


def test_a_scalar_output_in_a_batch_is_an_error() -> None:
    (result,) = batch.run_batch(lambda _: {"y": np.float32(1).reshape(())}, requests_of(1), 0)
    assert isinstance(result, batch.RowCountError)


def test_requests_of_different_width_are_run_one_by_one() -> None:
    requests = [{"x": np.ones((1, 2))}, {"x": np.ones((1, 3))}]
    narrow, wide = batch.run_batch(double, requests, 0)
    assert (narrow["y"].shape, wide["y"].shape) == ((1, 2), (1, 3))
