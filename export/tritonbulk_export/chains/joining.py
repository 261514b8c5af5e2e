"""``export pipeline``: entries that are there, chained to one that answers as all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as distribution_version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.contract import (
    CONTRACT_PARAMETER,
    Contract,
    Datatype,
    InputTensor,
    OutputTensor,
    check_columns,
    datatype,
)
from tritonbulk.errors import ContractError, ModelError, OutputError
from tritonbulk_export.chains.ensemble import Chain, Step, batch_size, chain_digest, connect
from tritonbulk_export.chains.running import run_chain
from tritonbulk_export.content import Content
from tritonbulk_export.entry_files import GOLDEN_FILE, served_version
from tritonbulk_export.golden import EXPECTED_PREFIX, golden_file, golden_rows
from tritonbulk_export.graph import read_model
from tritonbulk_export.lint.backends import ONNXRUNTIME, backend_of, model_file
from tritonbulk_export.lint.reading import Entry, read_entry
from tritonbulk_export.parity import gathered
from tritonbulk_export.publish import Published, check_name
from tritonbulk_export.releasing import release
from tritonbulk_export.runtime import Session, open_session
from tritonbulk_export.sample import read_sample
from tritonbulk_export.serving import BatchSize, LoadTarget, check_batch_size
from tritonbulk_export.spec import DEFAULT_REPOSITORY


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What `export_pipeline` did.

    Attributes:
        entry: folder of the ensemble.
        version: of the chain.
        max_batch_size: rows a request may have.
        steps: names and versions of the models, in order.
        golden_rows: whose answers were stored; 0 where a step cannot be run in this process.
        published: False if the very same chain was there.
    """

    entry: Path
    version: int
    max_batch_size: int
    steps: tuple[tuple[str, int], ...]
    golden_rows: int
    published: bool


def export_pipeline(
    name: str,
    steps: Sequence[str],
    *,
    repository: Path | str = DEFAULT_REPOSITORY,
    connections: Mapping[str, str] | None = None,
    sample: Path | str | None = None,
    max_batch_size: int | None = None,
    staging: Path | str | None = None,
    load: LoadTarget | None = None,
) -> Pipeline:
    """Chain entries of a repository into an ensemble and publish it.

    Args:
        name: of the ensemble.
        steps: names of the entries, in the order of the data.
        repository: where they are, and where the ensemble goes.
        connections: ``step.input`` → ``step.output`` where names differ.
        sample: rows whose answers are stored as golden; None: golden rows of the first step.
        max_batch_size: rows a request may have; None: the smallest of the steps.
        staging: see `publish.publish`.
        load: see `releasing.release`.

    Raises:
        OutputError: a step is not in the repository, or has no version that is served. No retry.
        ContractError: two ends do not fit. No retry.
        TritonbulkError: as `publish.publish`.
    """
    check_name(name)
    folder = Path(repository)
    entries = [_entry(folder, step) for step in steps]
    chained = [_step(entry) for entry in entries]
    chain = connect(chained, connections or {})
    rows, answers = _golden(entries, chain, None if sample is None else Path(sample))
    batch = batch_size(chained)
    if max_batch_size is not None:
        check_batch_size(max_batch_size, row_bytes=1)
        batch = BatchSize(max_batch_size)
    contract = Contract(
        model=name,
        digest=chain_digest(chained),
        inputs=chain.inputs,
        outputs=chain.outputs,
        source="pipeline of " + ", ".join(steps),
        tools={"tritonbulk": distribution_version("tritonbulk")},
    )
    golden = golden_file(rows, chain.outputs, answers)
    content = Content(contract, {}, golden, batch, links=chain.links)
    place = None if staging is None else Path(staging)
    done: Published = release(content, folder, datetime.now(UTC), place, load).published
    return Pipeline(
        entry=folder / name,
        version=done.version,
        max_batch_size=done.max_batch_size,
        steps=tuple((step.contract.model, step.version) for step in chained),
        golden_rows=rows.num_rows,
        published=done.changed,
    )


def _entry(repository: Path, name: str) -> Entry:
    check_name(name)
    folder = repository / name
    if not folder.is_dir():
        raise OutputError(f"{repository} has no entry {name!r} to chain; export it first")
    entry = read_entry(folder)
    if entry.broken or not entry.served():
        raise OutputError(f"entry {folder} cannot be served ({entry.broken or 'no version'})")
    return entry


def _step(entry: Entry) -> Step:
    config = entry.config
    version = served_version(config) or entry.served()[0]
    if CONTRACT_PARAMETER in config.parameters:
        contract = Contract.from_json(config.parameters[CONTRACT_PARAMETER].string_value)
        return Step(contract, version, config.max_batch_size)
    if not (config.input and config.output):
        raise ContractError(f"{entry.place} names no inputs or outputs; write them to chain it")
    contract = Contract(
        model=entry.name,
        digest="",
        inputs=tuple(
            InputTensor(port.name, _datatype(port.data_type), _shape(port)) for port in config.input
        ),
        outputs=tuple(
            OutputTensor(port.name, _datatype(port.data_type), _shape(port))
            for port in config.output
        ),
    )
    return Step(contract, version, config.max_batch_size)


def _datatype(number: int) -> Datatype:
    name = pb.DataType.Name(number).removeprefix("TYPE_")
    return datatype("BYTES" if name == "STRING" else name)


def _shape(port: pb.ModelInput | pb.ModelOutput) -> tuple[int, ...]:
    return tuple(port.reshape.shape if port.HasField("reshape") else port.dims)


def _golden(
    entries: Sequence[Entry], chain: Chain, sample: Path | None
) -> tuple[pa.Table, Mapping[str, np.ndarray]]:
    """Return golden rows and the chain's answers to them; none where a step is no ONNX model."""
    sessions = {entry.name: _session(entry) for entry in entries}
    known = {name: session for name, session in sessions.items() if session is not None}
    is_mapped = all(tensor.columns for tensor in chain.inputs)
    if len(known) < len(entries) or not is_mapped:
        nothing = {
            o.name: np.empty((0, *(max(s, 1) for s in o.shape)), o.datatype.numpy)
            for o in chain.outputs
        }
        return pa.table({"row": pa.array([], pa.int32())}), nothing
    rows = _rows(entries[0], sample)
    check_columns(chain.inputs, rows.schema, where=f"sample {sample or entries[0].name}")
    golden = golden_rows(rows, chain.inputs)
    tensors = gathered(golden.to_batches()[0], chain.inputs)
    values = run_chain(chain.links, known, tensors)
    return golden, {output.name: values[output.name] for output in chain.outputs}


def _rows(first: Entry, sample: Path | None) -> pa.Table:
    if sample is not None:
        return read_sample(sample)
    path = first.folder / GOLDEN_FILE
    try:
        rows = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ModelError(
            f"{path} cannot be read, so the chain has no rows to be tried on; give --sample"
        ) from error
    return rows.drop_columns([n for n in rows.column_names if n.startswith(EXPECTED_PREFIX)])


def _session(entry: Entry) -> Session | None:
    if backend_of(entry) != ONNXRUNTIME:
        return None
    version = served_version(entry.config) or entry.served()[0]
    path = entry.folder / str(version) / model_file(entry.config, ONNXRUNTIME)
    return open_session(read_model(path / "model.onnx" if path.is_dir() else path))
