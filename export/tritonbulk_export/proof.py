"""Proof of the batch: a row's answer does not depend on the rows beside it.

The batch can be baked into a graph, or rows can leak into each other (a softmax over the batch,
say). Neither shows in a single prediction, and Triton's dynamic batching puts together whatever
requests happen to wait, so both would be wrong answers at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tritonbulk.errors import ModelError, ParityError
from tritonbulk_export.parity import distance, effective
from tritonbulk_export.runtime import Session
from tritonbulk_export.spec import Tensor, Tensors, Tolerance

BATCH_SIZES = (1, 2, 3, 13)
"""Sizes at which each row must give what it gives in `WHOLE_ROWS` rows at once."""
WHOLE_ROWS = 64


def prove_batch(
    session: Session, tensors: Tensors, tolerance: Tolerance
) -> Mapping[str, tuple[int, ...]]:
    """Return the row shape of each output; -1 where a size differs between batch sizes.

    Args:
        session: of the repaired graph.
        tensors: some rows; fewer than 64 are cycled.
        tolerance: between the answers to one row in two batches.

    Raises:
        ModelError: the graph does not run at some size, or an output does not have one entry a
            row; a retry does not help.
        ParityError: a row's answer depends on the other rows; a retry does not help.
    """
    rows = len(next(iter(tensors.values())))
    whole = _rows(tensors, np.arange(WHOLE_ROWS) % rows)
    expected = _run_at(session, whole, WHOLE_ROWS)
    shapes = {name: [answer.shape[1:]] for name, answer in expected.items()}
    for size in BATCH_SIZES:
        parts = [
            _run_at(session, _rows(whole, slice(start, start + size)), size)
            for start in range(0, WHOLE_ROWS - size + 1, size)
        ]
        for name in expected:
            for part in parts:
                shapes[name].append(part[name].shape[1:])
            _check_same_rows(name, [part[name] for part in parts], expected[name], size, tolerance)
    return {name: _common_shape(name, found) for name, found in shapes.items()}


def _run_at(session: Session, tensors: Tensors, rows: int) -> Tensors:
    try:
        answers = session.run(tensors)
    except ModelError as error:
        raise ModelError(
            f"the graph does not run with {rows} rows ({error}); if its batch size was fixed at "
            "export, export it again with a dynamic batch dimension"
        ) from error
    for name, answer in answers.items():
        if answer.ndim == 0 or answer.shape[0] != rows:
            raise ModelError(
                f"output {name!r} has shape {list(answer.shape)} for {rows} rows; every output "
                "must have one entry a row, so export the model with a dynamic batch dimension"
            )
    return answers


def _check_same_rows(
    name: str, parts: Sequence[Tensor], whole: Tensor, size: int, tolerance: Tolerance
) -> None:
    if any(part.shape[1:] != whole.shape[1:] for part in parts):
        return
    joined = np.concatenate(parts)
    expected = whole[: len(joined)]
    if expected.dtype.kind == "f":
        limit = effective(tolerance, expected.dtype)
        wrong = distance(joined, expected) > limit.atol + limit.rtol * np.abs(expected)
    else:
        wrong = joined != expected
    if wrong.any():
        raise ParityError(
            f"output {name!r} of row {int(np.argwhere(wrong)[0][0])} changes with the rows beside "
            f"it ({size} rows a batch against {WHOLE_ROWS}), so batching would give wrong answers; "
            "remove what mixes rows (batch statistics, a softmax over axis 0) and export again"
        )


def _common_shape(name: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    if len({len(shape) for shape in shapes}) > 1:
        raise ModelError(
            f"output {name!r} changes its rank with the batch; export it with one rank"
        )
    return tuple(sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*shapes, strict=True))


def _rows(tensors: Tensors, rows: npt.NDArray[np.intp] | slice) -> Tensors:
    return {name: tensor[rows] for name, tensor in tensors.items()}
