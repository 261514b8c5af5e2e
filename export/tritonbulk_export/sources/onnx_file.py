"""Raw ONNX: any file that ONNX Runtime loads.

The source model is the file itself, as it is, before repair: so parity shows that repair and
lowering changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa

from tritonbulk.contract import InputTensor, bind_inputs
from tritonbulk.errors import ModelError
from tritonbulk_export.graph import read_model, renamed, repair, without_zipmap
from tritonbulk_export.names import plain_names, renaming_notes
from tritonbulk_export.runtime import Port, Session, open_session
from tritonbulk_export.spec import Answers, SourceModel, Tensors
from tritonbulk_export.survival import check_survival


def load_onnx(
    path: Path, sample: pa.Schema, input_map: Mapping[str, tuple[str, ...]]
) -> SourceModel:
    """Return the model in ``path``, with anonymous tensor names ("23", "Identity:0") made plain.

    Args:
        path: the file; external data is read from beside it.
        sample: schema of the sample, against which patterns in ``input_map`` are resolved.
        input_map: tensor name, as in the file or made plain, to columns or patterns.

    Raises:
        InputError: the file is missing or no ONNX model, or a column is missing; no retry.
        ContractError: the mapping does not fit the model; no retry.
        ModelError: ONNX Runtime does not load the model; no retry.
    """
    model = read_model(path)
    names = plain_names(model.graph)
    model = renamed(model, names)
    mended = repair(model).graph
    check_survival(mended)
    reference = _Reference(_as_it_is(model, mended))
    ports = open_session(mended).inputs
    # A column may still be named like the tensor was before it got a plain name.
    mapping: dict[str, tuple[str, ...]] = {
        new: (old,) for old, new in names.items() if old in sample.names
    }
    mapping |= {names.get(tensor, tensor): columns for tensor, columns in input_map.items()}
    return SourceModel(
        framework="onnx",
        graph=model,
        inputs=bind_inputs([_tensor(port) for port in ports], mapping, sample),
        predict=reference,
        takes_float64=False,
        distributions=(),
        notes=renaming_notes(names),
    )


def _tensor(port: Port) -> InputTensor:
    return InputTensor(
        port.name,
        port.datatype,
        tuple(size if isinstance(size, int) else -1 for size in port.shape[1:]),
    )


def _as_it_is(model: onnx.ModelProto, mended: onnx.ModelProto) -> Session:
    """Return the file's own graph, maps as tensors; where it is too new to run here, the mended."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    without_zipmap(copy)
    # Shapes that are declared inside are no part of what the model means, and may be wrong.
    copy.graph.ClearField("value_info")
    try:
        return open_session(copy)
    except ModelError:
        return open_session(mended)


class _Reference:
    """The file's own answers; a batch size that is fixed in the file is kept to."""

    def __init__(self, session: Session) -> None:
        self._session = session
        sizes = {port.shape[0] for port in self._session.inputs if port.shape}
        fixed = {size for size in sizes if isinstance(size, int)}
        if len(fixed) > 1:
            raise ModelError(
                f"the inputs have different fixed batch sizes {sorted(fixed)}; export the model "
                "with a dynamic batch dimension"
            )
        self._batch_rows = fixed.pop() if fixed else None

    def __call__(self, tensors: Tensors) -> Answers:
        rows = len(next(iter(tensors.values())))
        size = self._batch_rows or rows
        parts = []
        for start in range(0, rows, size):
            # The last batch is filled up with its own first row.
            positions = np.arange(start, start + size)
            positions[positions >= rows] = start
            parts.append(self._session.run({name: t[positions] for name, t in tensors.items()}))
        return Answers(
            {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}
        )
