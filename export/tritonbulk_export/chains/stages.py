"""One large model as stages: entries of their own, chained to answer as the whole does.

The entries of stages are named by the content they were cut from, so that an older ensemble goes on
with the older ones, and a kill in the middle leaves what was there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa

from tritonbulk.contract import Contract, InputTensor, OutputTensor
from tritonbulk.errors import OptionError
from tritonbulk_export.chains.cutting import Cut, cut
from tritonbulk_export.chains.ensemble import Step, chain_digest, connect
from tritonbulk_export.chains.running import Equality, check_equal, run_chain
from tritonbulk_export.content import Content
from tritonbulk_export.golden import golden_file
from tritonbulk_export.graph import model_files, read_model
from tritonbulk_export.publish import publish
from tritonbulk_export.runtime import Session, open_session
from tritonbulk_export.spec import Tensors, Tolerance
from tritonbulk_export.storage import files_digest
from tritonbulk_export.versions import content_digest, digest_digits

EQUALITY = Tolerance(1e-6, 1e-6)
"""A cut changes nothing but which operators are fused: the last bits, at most."""


@dataclass(frozen=True, slots=True)
class Stages:
    """A model that was cut.

    Attributes:
        names: of the entries, in order.
        cuts: between them.
        equality: with the whole.
    """

    names: tuple[str, ...]
    cuts: tuple[Cut, ...]
    equality: Equality

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people."""
        passing = ", ".join(f"{each.row_bytes:,}" for each in self.cuts)
        compared = f"{self.equality.rows} rows (largest difference {self.equality.max_abs:.1e})"
        cut_at = f"{len(self.names)} stages; {passing} bytes a row pass between them"
        return (f"{cut_at}; equal to the whole on {compared}",)


def publish_stages(
    whole: Content,
    answers: Tensors,
    repository: Path,
    now: datetime,
    staging: Path | None,
    *,
    stages: int,
    gpus: Sequence[int] = (),
) -> tuple[Content, Stages]:
    """Publish the stages of a model and return the ensemble that is to be published after them.

    Args:
        whole: what would be published without stages; its rows prove the chain.
        answers: of the whole to ``whole.tensors``.
        repository: see `publish.publish`.
        now: see `publish.publish`.
        staging: see `publish.publish`.
        stages: how many.
        gpus: one for each stage; empty: as ``whole.serving`` says.

    Raises:
        OptionError: ``stages`` or ``gpus`` have no meaning. No retry.
        ModelError: the graph cannot be cut so often. No retry.
        ParityError: the chain does not answer as the whole. No retry.
        OutputError, SinkError: see `publish.publish`.
    """
    if gpus and len(gpus) != stages:
        raise OptionError(f"--stage-gpus names {len(gpus)} GPUs for {stages} stages; name one each")
    models, cuts = cut(_model_of(whole.files), stages, whole.tensors)
    sessions = [open_session(model) for model in models]
    digits = f"{digest_digits(content_digest(whole.contract)):06}"
    names = [f"{whole.contract.model}.stage{n + 1}of{stages}_{digits}" for n in range(stages)]
    parts = [
        _part(whole, name, model, session)
        for name, model, session in zip(names, models, sessions, strict=True)
    ]
    steps = [Step(part.contract, 1, part.batch.rows) for part in parts]
    links = connect(steps, {}).links
    values = run_chain(links, dict(zip(names, sessions, strict=True)), whole.tensors)
    equality = check_equal(values, answers, EQUALITY)
    steps = []
    for number, part in enumerate(parts):
        content = _placed(part, values, gpus[number] if gpus else None)
        done = publish(content, repository, now, staging)
        steps.append(Step(content.contract, done.version, done.max_batch_size))
    links = connect(steps, {}).links
    contract = replace(whole.contract, digest=chain_digest(steps))
    ensemble = replace(whole, contract=contract, files={}, tensors={}, overrides={}, links=links)
    return ensemble, Stages(tuple(names), tuple(cuts), equality)


def _model_of(files: Mapping[str, bytes]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory(prefix="tritonbulk-") as folder:
        for name, data in files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        first = min(files, key=len)
        return read_model(Path(folder, first))


def _part(whole: Content, name: str, model: onnx.ModelProto, session: Session) -> Content:
    """Return a stage as content that is not placed yet."""
    own = {tensor.name: tensor for tensor in whole.contract.inputs}
    ends = {tensor.name: tensor for tensor in whole.contract.outputs}
    files = model_files(model)
    inputs = tuple(
        own.get(port.name) or InputTensor(port.name, port.datatype, _row_shape(port.shape))
        for port in session.inputs
    )
    outputs = tuple(
        ends.get(port.name) or OutputTensor(port.name, port.datatype, _row_shape(port.shape))
        for port in session.outputs
    )
    contract = Contract(
        model=name,
        digest=files_digest(files),
        inputs=inputs,
        outputs=outputs,
        source=f"stage of {whole.contract.model}",
        tools=whole.contract.tools,
    )
    there = {tensor.name for tensor in outputs}
    labels = {output: each for output, each in whole.labels.items() if output in there}
    return replace(whole, contract=contract, files=files, labels=labels)


def _row_shape(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in shape[1:])


def _placed(part: Content, values: Tensors, gpu: int | None) -> Content:
    """Return a stage with its golden rows and its place."""
    tensors = {tensor.name: values[tensor.name] for tensor in part.contract.inputs}
    overrides: dict[str, Any] = dict(part.overrides)
    if gpu is not None:
        count = part.serving.instances
        overrides["instance_group"] = [{"count": count, "kind": "KIND_GPU", "gpus": [gpu]}]
    rows = pa.table({"row": pa.array(range(len(next(iter(values.values())))), pa.int32())})
    golden = golden_file(rows, part.contract.outputs, values)
    return replace(part, tensors=tensors, overrides=overrides, golden=golden)
