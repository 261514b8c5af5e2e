"""From a source model to a published entry: repair, prove, compare, describe, publish.

In this order: nothing is written before everything is proved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.metadata import version as distribution_version
from typing import Any

import pyarrow as pa

from tritonbulk.contract import (
    Contract,
    InputTensor,
    check_columns,
    element_type,
)
from tritonbulk.errors import OptionError
from tritonbulk_export.chains.stages import publish_stages
from tritonbulk_export.config import derive_batch_size
from tritonbulk_export.content import Content
from tritonbulk_export.golden import golden_file
from tritonbulk_export.overrides import read_overrides
from tritonbulk_export.parity import gathered, stored
from tritonbulk_export.proving import Proved, prove
from tritonbulk_export.publish import check_name, publish
from tritonbulk_export.releasing import release
from tritonbulk_export.serving import BatchSize, check_batch_size
from tritonbulk_export.spec import Exported, SourceModel, Target
from tritonbulk_export.storage import files_digest
from tritonbulk_export.tuning import TUNE_S_MAX, read_bench, run_bench


def export(source: SourceModel, sample: pa.Table, target: Target) -> Exported:
    """Publish ``source`` as an entry and return what was done.

    Raises:
        TritonbulkError: see the public functions in `tritonbulk_export`.
    """
    check_name(target.name)
    _check_options(target)
    if target.max_batch_size is not None:
        check_batch_size(target.max_batch_size, row_bytes=1)
    path = target.serving.overrides
    overrides = {} if path is None else read_overrides(path)
    check_columns(source.inputs, sample.schema, where=f"sample {target.sample}")
    batch = _asked_batch(target, overrides)
    proved = _proved(source, sample, target, batch)
    contract = Contract(
        model=target.name,
        digest=files_digest(proved.files),
        inputs=_with_dtypes(proved.inputs, sample.schema),
        outputs=proved.outputs,
        source=source.framework,
        tools=_tools(source.distributions),
        parity=stored(proved.parity, proved.precision),
    )
    serving = target.serving
    if target.bench_result is not None:
        serving = read_bench(target.bench_result, serving).serving
    batch = batch or derive_batch_size((*proved.inputs, *proved.outputs), serving)
    content = Content(
        contract=contract,
        files=proved.files,
        golden=golden_file(proved.golden, proved.outputs, proved.answers),
        batch=batch,
        serving=serving,
        overrides=overrides,
        tensors=gathered(proved.golden.to_batches()[0], proved.inputs),
        labels=proved.labels,
    )
    now, notes = datetime.now(UTC), proved.notes
    if target.stages is not None:
        content, stages = publish_stages(
            content, proved.answers, target.repository, now, target.staging,
            stages=target.stages, gpus=target.stage_gpus,
        )  # fmt: skip
        notes = (*notes, *stages.notes)
    if target.tune_s is not None:
        publish(content, target.repository, now, target.staging)
        content = _tuned(content, target)
        if content.batch.rows not in proved.batch.sizes:
            proved = _proved(source, sample, target, content.batch)
    released = release(content, target.repository, now, target.staging, target.load)
    published = released.published
    batch = content.batch
    is_as_derived = published.max_batch_size == batch.rows
    return Exported(
        entry=target.repository / target.name,
        version=published.version,
        digest=content.contract.digest,
        max_batch_size=published.max_batch_size,
        max_batch_size_reason=batch.reason if is_as_derived else "as the entry has it",
        parity=proved.parity,
        batch=proved.batch,
        published=published.changed,
        is_served=published.is_served,
        golden_rows_loaded=released.golden_rows,
        notes=notes,
        warnings=published.warnings,
        precision=proved.precision,
    )


def _asked_batch(target: Target, overrides: Mapping[str, Any]) -> BatchSize | None:
    """Return the batch size that was asked for, wherever; None leaves it to the formula.

    Known before the proof, which has to run at the size that will be served.
    """
    if "max_batch_size" in overrides:
        return BatchSize(
            overrides["max_batch_size"], f"as --config {target.serving.overrides} has it"
        )
    if target.max_batch_size is not None:
        return BatchSize(target.max_batch_size)
    if target.bench_result is not None:
        return read_bench(target.bench_result, target.serving).batch
    return None


def _proved(
    source: SourceModel, sample: pa.Table, target: Target, batch: BatchSize | None
) -> Proved:
    """Return the proof at the size that will be served."""
    rows = None if batch is None else batch.rows
    return prove(source, sample, replace(target, max_batch_size=rows))


def _check_options(target: Target) -> None:
    """Refuse options that would have no effect, or no meaning, before any work.

    Raises:
        OptionError: says which; a retry does not help.
    """
    precision = target.precision
    default = {each.name: each.default for each in fields(Target)}
    for option, is_given, needed in (
        ("--keep-fp32", bool(target.keep_fp32), ("fp16", "bf16")),
        ("--half-io", target.half_io, ("fp16",)),
        ("--int8-preset", target.int8_preset != default["int8_preset"], ("int8",)),
        ("--calibration-rows", target.calibration_rows != default["calibration_rows"], ("int8",)),
    ):
        if is_given and precision not in needed:
            raise OptionError(
                f"{option} goes with --precision {' or '.join(needed)}, not {precision}"
            )
    if target.stage_gpus and target.stages is None:
        raise OptionError("--stage-gpus places the stages of --stages N, which is not given")
    if target.tune_s is not None and not 0 < target.tune_s <= TUNE_S_MAX:
        raise OptionError(
            f"--tune {target.tune_s:g} is no budget; give seconds, above 0 and at most "
            f"{TUNE_S_MAX:,}"
        )


def _tuned(content: Content, target: Target) -> Content:
    """Return what was published as a sweep of it recommends it to be served."""
    assert target.tune_s is not None, "asked for"
    tuned = run_bench(target.repository, target.name, target.sample, target.tune_s, content.serving)
    is_asked = target.max_batch_size is not None or "max_batch_size" in content.overrides
    batch = content.batch if is_asked else tuned.batch or content.batch
    return replace(content, batch=batch, serving=tuned.serving)


def _with_dtypes(inputs: Sequence[InputTensor], schema: pa.Schema) -> tuple[InputTensor, ...]:
    """Return the inputs with the types that their columns have in the sample."""
    return tuple(
        replace(
            tensor,
            columns=tuple(
                replace(column, dtype=str(element_type(schema.field(column.name).type)))
                for column in tensor.columns
            ),
        )
        for tensor in inputs
    )


def _tools(distributions: Sequence[str]) -> Mapping[str, str]:
    names = sorted({"tritonbulk", "onnx", *distributions})
    return {name: distribution_version(name) for name in names}
