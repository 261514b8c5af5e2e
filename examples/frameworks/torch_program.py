"""PyTorch: a program that torch.export made, in one .pt2 file."""

from __future__ import annotations

from pathlib import Path

import torch

from examples.frameworks.example import NUMBERS, Example, customers, main, matrix, written
from examples.frameworks.torch_module import Risk


def make(folder: Path) -> Example:
    """Save an untrained module as a program whose batch may have any size."""
    table = customers(with_nulls=False)
    rows = torch.from_numpy(matrix(table))
    torch.manual_seed(1)
    module = Risk().eval()
    batch = {"features": {0: torch.export.Dim.DYNAMIC}}
    torch.export.save(
        torch.export.export(module, (rows[:4],), dynamic_shapes=batch), folder / "model.pt2"
    )
    with torch.inference_mode():
        answers = module(rows)
    return Example(
        "default_program",
        ("torch", str(folder / "model.pt2"), "--input-map", f"features={','.join(NUMBERS)}",
         "--outputs", "probability"),
        written(table, folder, NUMBERS),
        {"probability": answers["probability"].numpy()},
    )  # fmt: skip


if __name__ == "__main__":
    main(make)
