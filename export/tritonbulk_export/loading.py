"""A published version on a running server: loaded, and asked for its golden rows.

The server is in explicit model control and reads the repository that was published to. Golden rows
carry the answers that the published graph gave here, so a server that answers otherwise serves
another model, another graph, or one it computes wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tritonbulk.contract import Contract, OutputTensor
from tritonbulk.errors import AuthError, InputError, ModelError, OutageError, ParityError
from tritonbulk.secret_files import PEM_BYTES_MAX, FileTooLargeError, read_within
from tritonbulk_export.entry_files import CONTRACT_FILE, GOLDEN_FILE
from tritonbulk_export.golden import EXPECTED_PREFIX
from tritonbulk_export.parity import gathered
from tritonbulk_export.serving import LoadTarget
from tritonbulk_export.spec import Tensor, Tolerance
from tritonbulk_export.wire import decoded, expected_values, wire_bytes

LOAD_S = 600.0
"""Loading may build engines."""

INFER_S = 120.0
CANARY_TOLERANCE = Tolerance(1e-3, 1e-3)
"""Another processor, or another ONNX Runtime, answers this alike; a wrong model is further off."""

_MESSAGE_BYTES_MAX = 2**31 - 1


def load(target: LoadTarget, model: str) -> None:
    """Tell the server to load ``model`` as its files are now.

    Raises:
        ModelError: it does not load it; carries Triton's words. No retry.
        AuthError: it wants another header. No retry.
        OutageError: it cannot be reached; a retry may help.
    """
    with _stub(target) as stub:
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        _call(target, stub.RepositoryModelLoad, request, LOAD_S, f"load {model}")


def served_versions(target: LoadTarget, model: str) -> tuple[int, ...]:
    """Return the versions of ``model`` that the server has ready, in order; raises as `load`."""
    with _stub(target) as stub:
        request = service_pb2.RepositoryIndexRequest(ready=True)
        index = _call(target, stub.RepositoryIndex, request, INFER_S, "list its models")
    return tuple(
        sorted(int(m.version) for m in index.models if m.name == model and m.version.isdigit())
    )


def load_version(target: LoadTarget, model: str, version: int) -> None:
    """Tell the server to load ``model``, and check that this brings ``version``.

    Raises:
        ModelError: it does not, as when the server reads another repository. No retry.
        AuthError, OutageError: see `load`.
    """
    load(target, model)
    served = served_versions(target, model)
    if version not in served:
        raise ModelError(
            f"{target.endpoint} does not read this repository: after loading {model!r} it serves "
            f"{', '.join(map(str, served)) or 'no version'} of it, not {version}; give the "
            "--repository that the server was started with"
        )


def unload(target: LoadTarget, model: str) -> None:
    """Tell the server to unload ``model``; raises as `load`."""
    with _stub(target) as stub:
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        _call(target, stub.RepositoryModelUnload, request, LOAD_S, f"unload {model}")


def check_golden(target: LoadTarget, entry: Path, version: int, rows_max: int) -> int:
    """Score the golden rows of an entry on the server and return how many there were.

    Args:
        target: the server.
        entry: its folder.
        version: that must answer.
        rows_max: rows a request may have.

    Raises:
        ParityError: an answer is not the one that was stored. No retry.
        ModelError: the server does not answer for that version. No retry.
        AuthError, OutageError: see `load`.
    """
    folder = entry / str(version)
    folder = folder if (folder / GOLDEN_FILE).is_file() else entry
    try:
        contract = Contract.from_json((folder / CONTRACT_FILE).read_text(encoding="utf-8"))
        golden = pq.read_table(folder / GOLDEN_FILE)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"golden rows of {entry} cannot be read ({error}); export again"
        ) from error
    with _stub(target) as stub:
        for batch in golden.to_batches(max_chunksize=min(rows_max, 64)):
            answers = _infer(target, stub, contract, version, batch)
            for output in contract.outputs:
                expected = expected_values(batch.column(EXPECTED_PREFIX + output.name), output)
                _compare(answers[output.name], expected, output, f"{target.endpoint}: {entry.name}")
    return int(golden.num_rows)


def _infer(
    target: LoadTarget, stub: Any, contract: Contract, version: int, batch: pa.RecordBatch
) -> dict[str, Tensor]:
    request = service_pb2.ModelInferRequest(model_name=contract.model, model_version=str(version))
    tensors = gathered(batch, contract.inputs)
    for tensor in contract.inputs:
        values = tensors[tensor.name]
        # One scalar a row is [1] on the wire.
        shape = values.shape if tensor.shape else (len(values), 1)
        request.inputs.add(name=tensor.name, datatype=tensor.datatype.name, shape=shape)
        request.raw_input_contents.append(wire_bytes(values))
    request.outputs.extend(
        service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=output.name)
        for output in contract.outputs
    )
    answer = _call(target, stub.ModelInfer, request, INFER_S, f"score golden rows of {version}")
    raw = dict(zip((o.name for o in answer.outputs), answer.raw_output_contents, strict=True))
    return {output.name: decoded(raw[output.name], output) for output in contract.outputs}


def _compare(found: Tensor, expected: Tensor, output: OutputTensor, where: str) -> None:
    if len(found) != len(expected):
        raise ParityError(
            f"{where} answers {len(found)} values of {output.name!r} where {len(expected)} were "
            "stored with its golden rows"
        )
    if not output.datatype.is_float:
        wrong = int(np.count_nonzero(found != expected))
    else:
        near = np.isclose(
            found.astype(np.float64),
            expected.astype(np.float64),
            atol=CANARY_TOLERANCE.atol,
            rtol=CANARY_TOLERANCE.rtol,
            equal_nan=True,
        )
        wrong = int(np.count_nonzero(~near))
    if wrong:
        raise ParityError(
            f"{where} answers {wrong} of {len(expected)} values of {output.name!r} otherwise than "
            "was stored with its golden rows: it serves another model, or computes it wrongly"
        )


@contextmanager
def _stub(target: LoadTarget) -> Iterator[Any]:
    limits = [
        ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
        ("grpc.enable_retries", 0),
    ]
    if target.ca is None:
        channel = grpc.insecure_channel(target.endpoint, limits)
    else:
        try:
            authority = read_within(target.ca, PEM_BYTES_MAX)
        except FileTooLargeError:
            raise InputError(
                f"--load-ca {target.ca} holds more than {PEM_BYTES_MAX >> 20} MiB"
            ) from None
        except OSError as error:
            raise InputError(f"--load-ca {target.ca} cannot be read: {error.strerror}") from error
        channel = grpc.secure_channel(
            target.endpoint, grpc.ssl_channel_credentials(authority), limits
        )
    with channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def _call(target: LoadTarget, method: Any, request: Any, timeout_s: float, what: str) -> Any:
    try:
        return method(request, timeout=timeout_s, metadata=tuple(target.headers.items()))
    except grpc.RpcError as error:
        words = " ".join((error.details() or error.code().name).split())[:500]
        if "protocol is restricted" in words:
            raise AuthError(
                f"{target.endpoint} refuses to {what}: {words}; give --load-header-file"
            ) from error
        if "explicit model load / unload is not allowed" in words:
            raise ModelError(
                f"{target.endpoint} refuses to {what}: {words}; start it with explicit control"
            ) from error
        if "failed to poll from model repository" in words:
            raise ModelError(
                f"{target.endpoint} finds no such model to {what}: {words}; give the --repository "
                "that the server was started with"
            ) from error
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise OutageError(f"{target.endpoint} could not {what}: {words}") from error
        raise ModelError(f"{target.endpoint} refuses to {what}: {words}") from error
