"""The other side of `pickle_process`: opens one pickle and answers for it until nobody asks.

python -m tritonbulk_export.sources.pickle_worker sklearn|torch FILE
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from tritonbulk.contract import Contract
from tritonbulk.errors import InputError, TritonbulkError
from tritonbulk_export.names import first_line
from tritonbulk_export.sources.frames import MARGIN, packed, read_frame, unpacked, write_frame
from tritonbulk_export.spec import SourceModel


def main() -> None:
    """Serve the pickle that the command line names."""
    kind, path = sys.argv[1], Path(sys.argv[2])
    asked = sys.stdin.buffer
    # Whatever the pickle's code prints must not end up between frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        if kind == "torch":
            read_frame(asked)
            heads, buffers = packed(_torch_tensors(path))
            write_frame(answers, {"tensors": heads}, *buffers)
            return
        _, (table,) = read_frame(asked)
        source = _sklearn(path, pa.ipc.open_stream(table).read_all())
        write_frame(answers, _described(source), source.graph.SerializeToString())
        while True:
            _answer(source, asked, answers)
    except EOFError:
        return
    except TritonbulkError as error:
        write_frame(answers, {"error": type(error).__name__, "text": str(error)})
    except Exception as error:
        text = f"{path} fails ({type(error).__name__}: {first_line(error)}); mend the model"
        write_frame(answers, {"error": "InputError", "text": text})


def _answer(source: SourceModel, asked: IO[bytes], answers: IO[bytes]) -> None:
    head, buffers = read_frame(asked)
    tensors = {
        name: _bytes(tensor) if tensor.dtype == object else tensor
        for name, tensor in unpacked(head["tensors"], buffers).items()
    }
    given = source.predict(tensors)
    found = dict(given.outputs)
    if given.margin is not None:
        found[MARGIN] = given.margin
    heads, payload = packed(found)
    write_frame(answers, {"tensors": heads}, *payload)


def _bytes(tensor: Any) -> Any:
    """Return texts as they are gathered from files."""
    copy = tensor.copy()
    copy.ravel()[:] = [value.encode() for value in tensor.ravel()]
    return copy


def _described(source: SourceModel) -> Mapping[str, Any]:
    return {
        "contract": Contract("", "", source.inputs, ()).to_json(),
        "takes_float64": source.takes_float64,
        "distributions": source.distributions,
        "labels": source.labels,
        "notes": source.notes,
    }


def _sklearn(path: Path, rows: pa.Table) -> SourceModel:
    from tritonbulk_export.sources.sklearn_file import source_of  # noqa: PLC0415
    from tritonbulk_export.sources.sklearn_loading import unpickled  # noqa: PLC0415

    return source_of(unpickled(path), rows, where=path)


def _torch_tensors(path: Path) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # a pickle can raise anything
        raise InputError(
            f"weights {path} cannot be loaded ({type(error).__name__}: {first_line(error)}); save "
            "them with safetensors.torch.save_file"
        ) from error
    state = found.state_dict() if isinstance(found, torch.nn.Module) else found
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise InputError(f"weights {path} hold no state of a module; save module.state_dict()")
    plain = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for name, tensor in plain.items()
    }


if __name__ == "__main__":
    main()
