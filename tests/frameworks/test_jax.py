"""JAX and Flax: linen, nnx and plain functions."""

from __future__ import annotations

import pytest

pytest.importorskip("jax", reason="jax is not installed: make test-export-frameworks runs it")
pytest.importorskip("flax", reason="flax is not installed: make test-export-frameworks runs it")

import jax
import numpy as np
from flax import linen, nnx
from safetensors.numpy import save_file

from tritonbulk.contract import Contract
from tritonbulk.errors import InputError, ModelError, ParityError
from tritonbulk_export import export_jax

pytestmark = pytest.mark.filterwarnings("ignore")
FEATURES = ["x=f*"]


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        hidden = linen.relu(linen.Dense(16)(x))
        hidden = linen.BatchNorm(use_running_average=not train)(hidden)
        return linen.softmax(linen.Dense(3)(linen.LayerNorm()(hidden)))


class Nnx(nnx.Module):
    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.first = nnx.Linear(8, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x):
        return {
            "score": self.second(self.drop(self.norm(jax.nn.gelu(self.first(x))))),
            "sum": x.sum(-1),
        }


def contract(done):
    return Contract.from_json((done.entry / "contract.json").read_text())


def save_linen(path):
    variables = Linen().init(jax.random.key(0), np.zeros((2, 8), np.float32))
    flat = jax.tree_util.tree_flatten_with_path(variables)[0]
    save_file({".".join(k.key for k in keys): np.asarray(leaf) for keys, leaf in flat}, path)


def test_a_linen_module_takes_its_variables_by_path(target):
    save_linen("linen.safetensors")
    done = export_jax(Linen(), weights="linen.safetensors", input_map=FEATURES, **target)
    assert [(t.name, t.shape) for t in contract(done).outputs] == [("output", (3,))]
    assert contract(done).source == "jax"


def test_an_nnx_module_is_filled_whole_or_not_at_all(target):
    state = nnx.to_flat_state(nnx.state(Nnx(3), (nnx.Param, nnx.BatchStat)))
    save_file(
        {".".join(map(str, p)): np.asarray(v.get_value()) for p, v in state}, "nnx.safetensors"
    )
    module = Nnx()
    done = export_jax(module, weights="nnx.safetensors", input_map=FEATURES, **target)
    assert [t.name for t in contract(done).outputs] == ["score", "sum"]
    assert np.allclose(module.first.kernel.get_value(), Nnx(3).first.kernel.get_value())
    save_linen("linen.safetensors")
    with pytest.raises(InputError, match="do not fit"):
        export_jax(Nnx(), weights="linen.safetensors", input_map=FEATURES, **target)


def test_a_plain_function_takes_weights_first_and_whole_numbers_as_int32(target):
    random = np.random.default_rng(0)
    tensors = {"w": random.normal(size=(8, 4)), "table.e": random.normal(size=(50, 4))}
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, "w.safetensors")

    def score(weights, x, ids):
        return jax.numpy.tanh(x @ weights["w"]) + weights["table"]["e"][ids].sum(1)

    done = export_jax(
        score, weights="w.safetensors", input_map=FEATURES, outputs=["score"], **target
    )
    assert {t.name: t.datatype.name for t in contract(done).inputs} == {"x": "FP32", "ids": "INT32"}
    assert [t.name for t in contract(done).outputs] == ["score"]


def test_a_fixed_batch_and_rows_that_see_each_other_are_refused(target):
    with pytest.raises(ModelError, match="any size"):
        export_jax(lambda x: x.reshape(5, -1), input_map=FEATURES, **target)
    with pytest.raises(ParityError, match="rows beside it"):
        export_jax(lambda x: x - x.mean(0), input_map=FEATURES, **target)
