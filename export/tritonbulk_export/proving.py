"""From a source model to a graph that is proved to be it: repair, prove the batch, compare.

Nothing is written here: what does not stand the proof leaves no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from tritonbulk.contract import InputTensor, OutputTensor
from tritonbulk_export.config import default_max_batch_size
from tritonbulk_export.golden import golden_rows
from tritonbulk_export.graph import dropped, model_files, renamed, repair, with_output_shapes
from tritonbulk_export.limits import LIMITS
from tritonbulk_export.names import plain_names
from tritonbulk_export.parity import compare, gathered, proved_nulls
from tritonbulk_export.proof import prove_batch
from tritonbulk_export.runtime import Session, open_session
from tritonbulk_export.spec import Answers, BatchProof, Parity, SourceModel, Target, Tensors
from tritonbulk_export.targets import release


@dataclass(frozen=True, slots=True)
class Proved:
    """A model that may be published.

    Attributes:
        files: the model, as bytes by path in the version's folder.
        inputs: with the null policy that was seen to be right.
        outputs: with the shapes that were observed.
        golden: some sample rows, the input columns alone.
        answers: of the published graph to them.
        batch: the proof of the batch.
        parity: the comparison with the source model.
        notes: sentences for people: what was repaired.
    """

    files: Mapping[str, bytes]
    inputs: tuple[InputTensor, ...]
    outputs: tuple[OutputTensor, ...]
    golden: pa.Table
    answers: Tensors
    batch: BatchProof
    parity: Parity
    notes: tuple[str, ...]


def prove(source: SourceModel, sample: pa.Table, target: Target) -> Proved:
    """Return ``source`` as a graph that the target's Triton loads, batches, and answers alike.

    Raises:
        TritonbulkError: see the public functions in `tritonbulk_export`.
    """
    source, names = _with_plain_names(source, target)
    mended = repair(source.graph, release(target.triton))
    golden = golden_rows(sample, source.inputs)
    tensors = gathered(golden.to_batches()[0], source.inputs)

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sequence[int]:
        ports = [
            OutputTensor(port.name, port.datatype, shapes[port.name]) for port in session.outputs
        ]
        usual = default_max_batch_size((*source.inputs, *ports))
        asked = target.max_batch_size
        return (usual,) if asked is None else (min(usual, asked), asked)

    session = open_session(mended.graph)
    batch = prove_batch(mended.graph, source.inputs, tensors, sizes)
    graph, shape_notes = with_output_shapes(mended.graph, batch.shapes)
    # Everything from here on is about the bytes that will be published.
    session = open_session(graph)
    limits = LIMITS["fp32"].with_tolerance(target.tolerance)
    inputs = proved_nulls(source, session, tensors, limits)
    source = replace(source, inputs=inputs)
    return Proved(
        files=model_files(graph),
        inputs=inputs,
        outputs=_outputs(session, batch),
        golden=golden,
        answers=session.run(tensors),
        batch=batch,
        parity=compare(source, session, sample, limits, given=target.waivers, labels=target.labels),
        notes=(*source.notes, *names, *mended.notes, *shape_notes),
    )


def _outputs(session: Session, batch: BatchProof) -> tuple[OutputTensor, ...]:
    return tuple(
        OutputTensor(port.name, port.datatype, batch.shapes[port.name]) for port in session.outputs
    )


def _with_plain_names(source: SourceModel, target: Target) -> tuple[SourceModel, list[str]]:
    """Return ``source`` with names that Triton and people can use, and without unwanted outputs."""
    graph = dropped(source.graph, target.drop_outputs) if target.drop_outputs else source.graph
    names = plain_names(graph.graph)
    if not names:
        return replace(source, graph=graph), []
    originals = {new: old for old, new in names.items()}

    def predict(tensors: Tensors) -> Answers:
        answers = source.predict({originals.get(n, n): tensor for n, tensor in tensors.items()})
        outputs = {names.get(n, n): answer for n, answer in answers.outputs.items()}
        return Answers(outputs, answers.margin)

    plain = replace(
        source,
        graph=renamed(graph, names),
        inputs=tuple(replace(t, name=names.get(t.name, t.name)) for t in source.inputs),
        predict=predict,
        labels={names.get(n, n): labels for n, labels in source.labels.items()},
    )
    return plain, [f"tensor {old!r} is named {new!r}" for old, new in names.items()]
