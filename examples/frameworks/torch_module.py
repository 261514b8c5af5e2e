"""PyTorch: a module that a factory makes, weights in safetensors, two named outputs."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from examples.frameworks.example import NUMBERS, Example, customers, main, matrix, written


class Risk(torch.nn.Module):
    """Five numbers in; the probability of default and the last hidden layer out."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([50.0, 3e4, 2e4, 120.0, 1.0]))
        self.hidden = torch.nn.Sequential(
            torch.nn.Linear(5, 64), torch.nn.BatchNorm1d(64), torch.nn.GELU(),
            torch.nn.Dropout(0.1), torch.nn.Linear(64, 16), torch.nn.GELU(),
        )  # fmt: skip
        self.head = torch.nn.Linear(16, 1)

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``probability`` ``[N, 1]`` and ``embedding`` ``[N, 16]``."""
        embedding = self.hidden(features / self.scale)
        return {"probability": self.head(embedding).sigmoid(), "embedding": embedding}


def make(folder: Path) -> Example:
    """Train on the customers and save the weights."""
    table = customers(with_nulls=False)
    rows = torch.from_numpy(matrix(table))
    target = torch.from_numpy(table["defaulted"].to_numpy().copy()).float().unsqueeze(1)
    torch.manual_seed(0)
    module = Risk()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for start in range(0, len(rows), 500):
        optimizer.zero_grad()
        answer = module(rows[start : start + 500])["probability"]
        torch.nn.functional.binary_cross_entropy(answer, target[start : start + 500]).backward()
        optimizer.step()
    save_file(module.state_dict(), folder / "model.safetensors")
    with torch.inference_mode():
        answers = module.eval()(rows)
    return Example(
        "default_torch",
        ("torch", "examples.frameworks.torch_module:Risk",
         "--weights", str(folder / "model.safetensors"),
         "--input-map", f"features={','.join(NUMBERS)}"),
        written(table, folder, NUMBERS),
        {name: answer.numpy() for name, answer in answers.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main(make)
