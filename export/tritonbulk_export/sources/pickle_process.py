"""A pickle is opened in a process of its own: it can run any code, but not inside export.

That process gets a short environment (no credentials in it) and hands over what export needs: the
graph, the inputs, and answers to rows; or, of a file with weights, the tensors. It is the same user
all the same: ``--trust-pickle`` is for files that one made oneself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa

from tritonbulk.contract import Contract
from tritonbulk.errors import (
    ContractError,
    InputError,
    ModelError,
    PlatformError,
    TritonbulkError,
)
from tritonbulk_export.sources.frames import MARGIN, packed, read_frame, unpacked, write_frame
from tritonbulk_export.spec import Answers, SourceModel, Tensor, Tensors

_WORKER = "tritonbulk_export.sources.pickle_worker"
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH",
                   "VIRTUAL_ENV", "OMP_NUM_THREADS")  # fmt: skip
_ERRORS: Mapping[str, type[TritonbulkError]] = {
    kind.__name__: kind for kind in (ContractError, InputError, ModelError, PlatformError)
}


class PickleProcess:
    """The process, and what is asked of it. It ends with this object."""

    def __init__(self, kind: str, path: Path) -> None:
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        self._path = path
        self._process = subprocess.Popen(
            [sys.executable, "-m", _WORKER, kind, str(path.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | {"ORT_DISABLE_TELEMETRY": "1"},
        )
        weakref.finalize(self, _end, self._process)

    def ask(
        self, head: Mapping[str, Any], buffers: Sequence[bytes]
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Return what the process answers.

        Raises:
            TritonbulkError: what the worker raised.
            InputError: the process ended, or does not say what it should; no retry.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write_frame(self._process.stdin, head, *buffers)
            answer, payload = read_frame(self._process.stdout)
        except (OSError, EOFError, ValueError) as error:
            raise InputError(
                f"the process that opened the pickle {self._path} ended without an answer; load it "
                "where it was saved and save it in a safe format"
            ) from error
        if "error" in answer:
            known = _ERRORS.get(str(answer["error"]), InputError)
            raise known(str(answer["text"]))
        return answer, payload


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        # What was not read by a process that is gone cannot be flushed.
        with suppress(OSError):
            if stream is not None:
                stream.close()


def pickled_model(kind: str, path: Path, rows: pa.Table) -> SourceModel:
    """Return the model in a pickle; its process answers for it as long as it is in use.

    Args:
        kind: ``sklearn``.
        path: the pickle.
        rows: of the sample.

    Raises:
        TritonbulkError: what the framework's own loader raises.
    """
    process = PickleProcess(kind, path)
    head, payload = process.ask({}, [_table(rows)])
    try:
        inputs = Contract.from_json(head["contract"]).inputs
        graph = onnx.load_from_string(payload[0])
    except Exception as error:  # protobuf's decoder errors have no common base
        raise ModelError(f"the process that opened {path} made no graph; try again") from error

    def predict(tensors: Tensors) -> Answers:
        heads, buffers = packed(tensors)
        answer, found = process.ask({"tensors": heads}, buffers)
        outputs = unpacked(answer["tensors"], found)
        margin: Any = outputs.pop(MARGIN, None)
        return Answers(outputs, margin)

    return SourceModel(
        framework=kind,
        graph=graph,
        inputs=inputs,
        predict=predict,
        takes_float64=bool(head["takes_float64"]),
        distributions=tuple(head["distributions"]),
        labels={name: tuple(names) for name, names in head["labels"].items()},
        notes=(*head["notes"], "the pickle was opened in a process of its own"),
    )


def pickled_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file that ``torch.save`` wrote, by name.

    Raises:
        InputError: it holds something else, or cannot be opened; a retry does not help.
    """
    head, payload = PickleProcess("torch", path).ask({}, [])
    return unpacked(head["tensors"], payload)


def _table(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())
