"""From a source model to a graph that is proved to be it: repair, prove the batch, compare.

Nothing is written here: what does not stand the proof leaves no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pyarrow as pa

from tritonbulk.contract import InputTensor, OutputTensor, datatype
from tritonbulk.errors import InputError, OptionError
from tritonbulk_export.config import default_max_batch_size, derive_batch_size
from tritonbulk_export.elsewhere import check_runtime
from tritonbulk_export.golden import golden_rows
from tritonbulk_export.graph import model_files, repair, with_output_shapes
from tritonbulk_export.limits import LIMITS
from tritonbulk_export.parity import compare, fitting, gathered, proved_nulls
from tritonbulk_export.precision import calibration_positions, converted
from tritonbulk_export.proof import prove_batch
from tritonbulk_export.renaming import with_plain_names
from tritonbulk_export.runtime import Session, open_session
from tritonbulk_export.spec import (
    BatchProof,
    Parity,
    PrecisionReport,
    RowShapes,
    SourceModel,
    Target,
    Tensors,
    Waiver,
)
from tritonbulk_export.survival import check_survival
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
        precision: what the change of precision cost and gained; None for float32.
        labels: of the outputs that have classes.
        notes: sentences for people: what was repaired.
    """

    files: Mapping[str, bytes]
    inputs: tuple[InputTensor, ...]
    outputs: tuple[OutputTensor, ...]
    golden: pa.Table
    answers: Tensors
    batch: BatchProof
    parity: Parity
    precision: PrecisionReport | None
    labels: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def prove(source: SourceModel, sample: pa.Table, target: Target) -> Proved:
    """Return ``source`` as a graph that the target's Triton loads, batches, and answers alike.

    Raises:
        TritonbulkError: see the public functions in `tritonbulk_export`.
    """
    _check_options(target, sample)
    source, names = with_plain_names(source, target)
    mended = repair(source.graph, release(target.triton))
    _check_waivers(target.waivers, [output.name for output in mended.graph.graph.output])
    golden = golden_rows(sample, source.inputs)
    tensors = gathered(golden.to_batches()[0], source.inputs)
    case = _Case(source, sample, target, golden, tensors)
    batch = case.batch_proof(mended.graph)
    graph, shape_notes = with_output_shapes(mended.graph, batch.shapes)
    # Everything from here on is about the bytes that will be published.
    session = open_session(graph)
    limits = LIMITS["fp32"].with_tolerance(target.tolerance)
    case = replace(
        case, source=replace(source, inputs=proved_nulls(source, session, tensors, limits))
    )
    proved = case.exact(graph, session, batch)
    if target.precision != "fp32":
        proved = case.converted(graph, proved)
    notes = [*source.notes, *names, *mended.notes, *shape_notes, *proved.notes]
    if target.check_runtime:
        notes.append(case.check_runtime(proved))
    return replace(proved, notes=tuple(notes))


@dataclass(frozen=True, slots=True)
class _Case:
    """What is exported and how: what all steps need."""

    source: SourceModel
    sample: pa.Table
    target: Target
    golden: pa.Table
    tensors: Tensors

    def batch_proof(self, graph: onnx.ModelProto) -> BatchProof:
        session = open_session(graph)

        def sizes(shapes: RowShapes) -> tuple[int, ...]:
            outputs = _outputs(session, shapes)
            tensors: tuple[InputTensor | OutputTensor, ...] = (*self.source.inputs, *outputs)
            largest = self.target.max_batch_size
            if largest is None:
                largest = derive_batch_size(tensors, self.target.serving).rows
            # A client sends what fits its limit of bytes, or what it was told to.
            sent = self.target.serving.batch_rows or default_max_batch_size(tensors)
            return min(sent, largest), largest

        return prove_batch(graph, self.source.inputs, fitting(self.tensors, session), sizes)

    def exact(self, graph: onnx.ModelProto, session: Session, batch: BatchProof) -> Proved:
        """Return the float32 graph, compared with the source on every row that counts."""
        target = self.target
        return Proved(
            files=model_files(graph),
            inputs=self.source.inputs,
            outputs=_outputs(session, batch.shapes),
            golden=self.golden,
            answers=session.run(self.tensors),
            batch=batch,
            parity=compare(
                self.source,
                session,
                self._judged(),
                LIMITS["fp32"].with_tolerance(target.tolerance),
                given=target.waivers,
                labels=target.labels,
            ),
            precision=None,
            labels=self.source.labels,
            notes=(),
        )

    def converted(self, graph: onnx.ModelProto, exact: Proved) -> Proved:
        """Return the graph in the precision that was asked for, proved anew."""
        target = self.target
        calibration = None
        if target.precision == "int8":
            rows = self.sample.take(self._calibration()).combine_chunks()
            calibration = gathered(rows.to_batches()[0], self.source.inputs)
        change = converted(graph, target, calibration)
        check_survival(change.tested)
        batch = self.batch_proof(change.tested)
        session = open_session(change.tested)
        parity = compare(
            self.source,
            session,
            self._judged(),
            LIMITS[target.precision].with_tolerance(target.tolerance),
            given=target.waivers,
            labels=target.labels,
        )
        files = model_files(change.graph)
        return replace(
            exact,
            files=files,
            inputs=_half_inputs(self.source.inputs, session),
            outputs=_outputs(session, batch.shapes),
            answers=session.run(fitting(self.tensors, session)),
            batch=batch,
            parity=parity,
            precision=PrecisionReport(
                precision=target.precision,
                bytes_before=sum(map(len, exact.files.values())),
                bytes_after=sum(map(len, files.values())),
                before=exact.parity,
                is_verified=change.is_verified,
            ),
            notes=change.notes,
        )

    def check_runtime(self, proved: Proved) -> str:
        """Return what the ONNX Runtime of the target's container says of the published files."""
        if self.target.precision == "bf16":
            raise OptionError("--check-runtime runs on a CPU, where bf16 cannot; leave it out")
        kinds = {tensor.name: tensor.datatype.name for tensor in proved.inputs}
        return check_runtime(
            proved.files,
            release(self.target.triton),
            {
                name: tensor.astype(np.float16) if kinds[name] == "FP16" else tensor
                for name, tensor in self.tensors.items()
            },
            proved.answers,
            LIMITS[self.target.precision].with_tolerance(self.target.tolerance),
        )

    def _calibration(self) -> np.ndarray:
        return calibration_positions(self.sample.num_rows, self.target.calibration_rows)

    def _judged(self) -> pa.Table:
        """Return the rows that parity is judged on: none that INT8 is calibrated on."""
        if self.target.precision != "int8":
            return self.sample
        others = np.ones(self.sample.num_rows, dtype=bool)
        others[self._calibration()] = False
        return self.sample.filter(pa.array(others))


def _check_options(target: Target, sample: pa.Table) -> None:
    if target.precision not in LIMITS:
        raise OptionError(
            f"--precision {target.precision!r} is none of {', '.join(LIMITS)}; give one of these"
        )
    if target.int8_preset not in ("cpu", "trt"):
        raise OptionError(f"--int8-preset {target.int8_preset!r} is neither cpu nor trt")
    if target.labels is not None and target.labels not in sample.column_names:
        raise InputError(
            f"--labels {target.labels}: the sample has no such column; it has "
            f"{', '.join(sample.column_names[:8])}"
        )


def _check_waivers(given: Sequence[Waiver], outputs: Sequence[str]) -> None:
    for waiver in given:
        output, dot, _ = waiver.name.rpartition(".")
        if dot and output not in outputs:
            raise OptionError(
                f"--waive {waiver.name}: the model has no output {output!r}; it has "
                f"{', '.join(outputs)}"
            )


def _outputs(session: Session, shapes: RowShapes) -> tuple[OutputTensor, ...]:
    return tuple(
        OutputTensor(port.name, port.datatype, shapes[port.name]) for port in session.outputs
    )


def _half_inputs(inputs: tuple[InputTensor, ...], session: Session) -> tuple[InputTensor, ...]:
    """Return ``inputs`` with the types that the graph's have."""
    kinds = {port.name: port.datatype.name for port in session.inputs}
    return tuple(
        replace(tensor, datatype=datatype("FP16")) if kinds[tensor.name] == "FP16" else tensor
        for tensor in inputs
    )
