"""Daft, on this machine: the rows of `score`."""

from __future__ import annotations

import pytest

pytest.importorskip("daft", reason="daft is not installed: make test-engines runs it")

import daft

from tritonbulk.engines.daft import score_dataframe

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]


def test_an_async_batch_function_scores_as_score_does(scorer, files, wanted):
    df = score_dataframe(daft.read_parquet(f"{files}/*.parquet"), scorer, batch_size=2048)
    found = df.to_arrow().sort_by("id")
    assert found.column_names == wanted.column_names
    assert found.cast(wanted.schema).equals(wanted)
