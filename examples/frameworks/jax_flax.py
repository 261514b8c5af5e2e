"""JAX: a Flax linen module with batch statistics, weights in safetensors."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from flax import linen
from safetensors.numpy import save_file

from examples.frameworks.example import NUMBERS, Example, customers, main, matrix, written


class Risk(linen.Module):
    """Five numbers in, the probability of default out."""

    @linen.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Return probabilities ``[N, 1]``."""
        scaled = features / np.array([50.0, 3e4, 2e4, 120.0, 1.0], np.float32)
        hidden = linen.gelu(linen.Dense(32)(scaled))
        hidden = linen.BatchNorm(use_running_average=not train)(hidden)
        return linen.sigmoid(linen.Dense(1)(hidden))


def make(folder: Path) -> Example:
    """Train on the customers by plain gradient descent and save the variables."""
    table = customers(with_nulls=False)
    rows, target = matrix(table), table["defaulted"].to_numpy()[:, np.newaxis]
    module = Risk()
    variables = module.init(jax.random.key(0), rows[:2])

    @jax.jit
    def step(variables: dict, batch: jax.Array, wanted: jax.Array) -> dict:  # type: ignore[type-arg]
        def loss(parameters: dict) -> tuple[jax.Array, dict]:  # type: ignore[type-arg]
            answer, changed = module.apply(
                {**variables, "params": parameters}, batch, train=True, mutable=["batch_stats"]
            )
            return ((answer - wanted) ** 2).mean(), changed

        gradient, changed = jax.grad(loss, has_aux=True)(variables["params"])
        moved = jax.tree.map(lambda old, slope: old - 0.5 * slope, variables["params"], gradient)
        return {"params": moved, **changed}

    for start in range(0, len(rows), 500):
        variables = step(variables, rows[start : start + 500], target[start : start + 500])
    flat = jax.tree_util.tree_flatten_with_path(variables)[0]
    tensors = {".".join(key.key for key in path): np.asarray(leaf) for path, leaf in flat}
    save_file(tensors, folder / "model.safetensors")
    return Example(
        "default_jax",
        ("jax", "examples.frameworks.jax_flax:Risk", "--weights", str(folder / "model.safetensors"),
         "--input-map", f"features={','.join(NUMBERS)}", "--outputs", "probability"),
        written(table, folder, NUMBERS),
        {"probability": np.asarray(module.apply(variables, rows))},
    )  # fmt: skip


if __name__ == "__main__":
    main(make)
