"""A kit: all that a GPU node needs to build plans of one version of an entry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from google.protobuf.message import DecodeError

from tritonbulk.contract import CONTRACT_PARAMETER, Contract, InputTensor, OutputTensor
from tritonbulk.errors import InputError, ModelError, OutputError, SinkError
from tritonbulk_export.config import MODEL_FILE
from tritonbulk_export.entry_files import GOLDEN_FILE, read_config, served_version
from tritonbulk_export.golden import EXPECTED_PREFIX
from tritonbulk_export.graph import read_model
from tritonbulk_export.graph.walk import graphs, title
from tritonbulk_export.parity import gathered
from tritonbulk_export.publish import check_name
from tritonbulk_export.spec import DEFAULT_REPOSITORY, Tensors
from tritonbulk_export.storage import files_digest, read_files
from tritonbulk_export.targets import release
from tritonbulk_export.tensorrt.commands import (
    Build,
    Portability,
    Profile,
    build_command,
    gate_command,
    golden_files,
    stale_command,
)
from tritonbulk_export.wire import expected_values, wire_bytes

KIT_FORMAT = 1
KIT_FILE = "kit.json"
SCRIPT = "build_plan.py"

_FOREIGN_DOMAINS = frozenset({"ai.onnx.ml"})
_FOREIGN_OPERATORS = frozenset(
    {"DynamicQuantizeLinear", "StringNormalizer", "TfIdfVectorizer", "StringConcat", "StringSplit"}
)


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit that was written.

    Attributes:
        folder: of the kit.
        version: of the entry.
        tensorrt_major: that it is for.
        triton: release whose container is to build it.
    """

    folder: Path
    version: int
    tensorrt_major: int
    triton: str


def write_kit(
    name: str,
    out: Path | str,
    *,
    triton: str,
    repository: Path | str = DEFAULT_REPOSITORY,
    profiles: Sequence[tuple[int, int, int]] = (),
    open_sizes: Mapping[str, tuple[int, int, int]] | None = None,
    portability: Portability = "none",
    atol: float = 1e-2,
    rtol: float = 1e-2,
) -> Kit:
    """Write what a GPU node needs to build TensorRT plans of an entry that export published.

    Args:
        name: of the entry.
        out: folder of the kit; must not exist.
        triton: release that builds and serves the plans, such as ``26.07``.
        repository: where the entry is.
        profiles: least, usual and most rows, one or several; empty: 1, half and all of
            ``max_batch_size``.
        open_sizes: by input, least, usual and largest size of its open dimensions.
        portability: see `commands.Build`.
        atol: absolute difference from the golden answers that is allowed.
        rtol: relative one.

    Raises:
        OptionError: the release is unknown, or a number has no meaning. No retry.
        OutputError: ``out`` exists, or export did not write the entry. No retry.
        ModelError: TensorRT has no operators for it. No retry.
        InputError: the golden rows cannot be read. No retry.
        SinkError: writing failed; a retry may help.
    """
    check_name(name)
    target, folder, entry = release(triton), Path(out), Path(repository) / name
    if not entry.is_dir():
        raise OutputError(f"{repository} has no entry {name!r}; export it first")
    config, _ = read_config(entry)
    contract = Contract.from_json(config.parameters[CONTRACT_PARAMETER].string_value)
    version = served_version(config)
    files = read_files(entry / str(version), MODEL_FILE)
    if not files:
        raise ModelError(f"{entry} holds no ONNX model; make the kit of an entry that does")
    first = min(files, key=len)
    _check_operators(entry / str(version) / first, contract)
    most = config.max_batch_size
    chosen = [Profile(*each) for each in profiles] or [Profile(1, max(most // 2, 1), most)]
    build = Build(
        target.tensorrt_major, tuple(chosen), open_sizes or {}, portability=portability,
        atol=atol, rtol=rtol,
    )  # fmt: skip
    golden = _golden(entry, contract, chosen[0].most)
    description = {
        "format": KIT_FORMAT,
        "model": name,
        "version": version,
        "digest": files_digest(files),
        "triton": target.tag,
        "tensorrt_major": build.major,
        "onnx": f"model/{first}",
        "files": sorted(f"model/{each}" for each in files),
        "max_batch_size": max(profile.most for profile in chosen),
        "profiles": len(chosen),
        "build": build_command(build, contract.inputs),
        "gate": gate_command(
            build, contract.inputs, contract.outputs, {n: t.shape for n, t in golden.items()}
        ),
        "stale": stale_command(build),
        "outputs": [
            {"name": tensor.name, "datatype": tensor.datatype.name, "file": file}
            for tensor, file in golden_files("output", contract.outputs)
        ],
        "atol": build.atol,
        "rtol": build.rtol,
        "wrong_share": build.wrong_share,
        "contract": json.loads(contract.to_json()),
    }
    _write(folder, files, description, golden, contract)
    return Kit(folder, version, build.major, target.tag)


def _check_operators(path: Path, contract: Contract) -> None:
    """Refuse what TensorRT's parser does not know; the ONNX entry goes on serving it."""
    tensors: tuple[InputTensor | OutputTensor, ...] = (*contract.inputs, *contract.outputs)
    strings = [tensor.name for tensor in tensors if tensor.datatype.name == "BYTES"]
    if strings:
        raise ModelError(
            f"tensor {strings[0]!r} is text, which TensorRT lacks; serve the ONNX entry"
        )
    try:
        model = read_model(path)
    except DecodeError as error:
        raise ModelError(f"{path} is no ONNX model: {error}") from error
    for graph in graphs(model.graph):
        for node in graph.node:
            if node.domain in _FOREIGN_DOMAINS or node.op_type in _FOREIGN_OPERATORS:
                raise ModelError(
                    f"{title(node)} has no counterpart in TensorRT; serve the ONNX entry"
                )


def _golden(entry: Path, contract: Contract, rows_max: int) -> Tensors:
    """Return golden inputs and expected outputs by name, with at most ``rows_max`` rows."""
    try:
        table = pq.read_table(entry / GOLDEN_FILE).slice(0, rows_max).combine_chunks()
    except (OSError, ValueError) as error:
        raise InputError(f"golden rows of {entry} cannot be read ({error})") from error
    if not table.num_rows:
        raise InputError(f"{entry} has no golden rows to judge a plan by; export it again")
    (batch,) = table.to_batches()
    tensors = dict(gathered(batch, contract.inputs))
    for output in contract.outputs:
        tensors[output.name] = expected_values(batch.column(EXPECTED_PREFIX + output.name), output)
    return tensors


def _write(
    folder: Path,
    files: Mapping[str, bytes],
    description: Mapping[str, Any],
    golden: Tensors,
    contract: Contract,
) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise OutputError(f"{folder} exists; give --out a new folder") from error
    except OSError as error:
        raise SinkError(f"{folder} cannot be made: {error.strerror}") from error
    try:
        for name, data in files.items():
            path = folder / "model" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (folder / "golden").mkdir()
        for tensor, file in (
            *golden_files("input", contract.inputs),
            *golden_files("output", contract.outputs),
        ):
            (folder / "golden" / file).write_bytes(wire_bytes(golden[tensor.name]))
        shutil.copy(Path(__file__).with_name(SCRIPT), folder / SCRIPT)
        (folder / KIT_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write the kit {folder}: {error.strerror or error}") from error
