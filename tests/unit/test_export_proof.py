"""The proof of the batch: its rows, its sizes, its own tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export_corpus.corpus import ROWS, parsed
from tests.export_corpus.networks import mlp
from tritonbulk.contract import InputTensor, datatype
from tritonbulk.errors import ModelError, ParityError
from tritonbulk_export.proof import batch, prove_batch
from tritonbulk_export.proof.rows import distinct, made_up
from tritonbulk_export.runtime import open_session

OPEN = InputTensor("x", datatype("FP32"), (-1,))


def prove(body, constants="", rows=ROWS, **options):
    model = parsed(body, constants, **options)
    return prove_batch(model, [InputTensor("x", datatype("FP32"), (4,))], {"x": rows})


def test_rows_that_are_equal_count_once_whatever_they_hold():
    nan = np.array([[np.nan, 1.0], [np.nan, 1.0], [0.0, 1.0]], np.float32)
    texts = np.array([[b"a"], [b"a"], [b"a"]], dtype=object)
    assert distinct({"x": nan, "t": texts}).tolist() == [0, 2]


def test_made_up_rows_keep_codes_and_texts_and_are_finite():
    known = {
        "code": np.array([[3], [7]], np.int64),
        "text": np.array([[b"a"], [b"b"]], dtype=object),
        "flag": np.array([[True], [False]]),
        "x": np.array([[np.nan, 5.0], [np.inf, 5.0]], np.float32),
        "wide": np.array([[1e300, 2.0], [1e300, 2.0]]),
    }
    made = made_up(known, 50)
    assert set(made["code"].ravel()) == {3, 7}
    assert set(made["text"].ravel()) == {b"a", b"b"}
    assert {name: tensor.dtype for name, tensor in made.items()} == {
        name: tensor.dtype for name, tensor in known.items()
    }
    assert np.isfinite(made["x"]).all()
    assert len(distinct({"x": made["x"]})) == 50
    assert np.abs(made["x"][:, 1].mean() - 5) < 3


def test_rows_of_the_sample_are_taken_where_there_are_enough():
    many = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    assert prove("y = Relu(x)", rows=many).made_up == 0
    assert prove("y = Relu(x)").made_up == 24
    assert prove("y = Relu(x)", rows=ROWS[:1]).made_up == 63


def test_a_model_that_does_not_take_made_up_rows_is_proved_with_those_there_are():
    body = "i = Cast<to = 7>(x) y = Gather<axis = 0>(table, i)"
    codes = np.tile(np.arange(3, dtype=np.float32)[:, None], (1, 4))
    proof = prove(body, "float[3] table = {5, 6, 7}", rows=codes)
    assert proof.made_up == 0


def test_the_sizes_that_are_asked_for_are_tried_after_the_shapes_are_known():
    seen = []

    def sizes(shapes):
        seen.append(dict(shapes))
        return (5, 200)

    proof = prove_batch(parsed("y = Relu(x)"), [], {"x": ROWS}, sizes)
    assert seen == [{"y": (4,)}]
    assert proof.sizes == (1, 2, 3, 13, 64, 5, 200)


def test_an_output_that_follows_an_open_dimension_is_left_open():
    model = parsed(
        "y = Relu(x) z = ReduceSum<keepdims = 1>(x, a)", "int64[1] a = {1}",
        ends="(float[N,W] x) => (float[N,W] y, float[N,1] z)",
    )  # fmt: skip
    assert prove_batch(model, [OPEN], {"x": ROWS}).shapes == {"y": (-1,), "z": (1,)}


def test_rounding_of_a_deep_network_is_no_leak_and_what_was_seen_is_told():
    rows = np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32) * 30
    proof = prove_batch(mlp(), [], {"x": rows})
    assert 0 <= proof.largest["probabilities"] < 1e-5


@pytest.mark.parametrize(("share", "is_seen"), [(1e-5, True), (1e-9, False)])
def test_a_leak_is_seen_from_some_millionths_of_the_answer_on(share, is_seen):
    body = "m = ReduceMean<keepdims = 1>(x, a) t = Mul(m, s) y = Add(x, t)"
    constants = f"int64[1] a = {{0}}, float s = {{{share}}}"
    if is_seen:
        with pytest.raises(ParityError, match="ReduceMean m mixes rows"):
            prove(body, constants)
    else:
        prove(body, constants)


class Limited:
    """A session that runs up to so many rows."""

    def __init__(self, session, rows):
        self.session, self.rows, self.outputs = session, rows, session.outputs

    def run(self, tensors):
        if len(tensors["x"]) > self.rows:
            raise ModelError("out of memory")
        return self.session.run(tensors)


def test_a_size_that_is_too_large_for_this_machine_is_no_baked_batch(monkeypatch):
    monkeypatch.setattr(
        batch, "open_session", lambda graph, **how: Limited(open_session(graph, **how), 100)
    )
    with pytest.raises(ParityError, match=r"runs with 64 rows and not with 4096.*--max-batch-size"):
        prove_batch(parsed("y = Relu(x)"), [], {"x": ROWS}, lambda _: (4096,))


def test_slow_models_are_tried_with_fewer_rows(monkeypatch):
    monkeypatch.setattr(batch, "SLOW_S", -1.0)
    assert prove("y = Relu(x)").sizes == (1, 2, 3, 13, 16)
