"""The values that cross borders inside export: what a source framework hands over, what comes back.

A source module turns one file into a `SourceModel`; the rest of export knows no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from tritonbulk.contract import InputTensor
from tritonbulk.errors import OptionError
from tritonbulk_export.serving import LoadTarget, Serving

if TYPE_CHECKING:
    import onnx

DEFAULT_REPOSITORY = Path("model_repository")

Tensor = npt.NDArray[np.generic]
Tensors = Mapping[str, Tensor]
"""Tensor name → array whose first dimension is rows."""


RowShapes = Mapping[str, tuple[int, ...]]
"""Output → its shape without the rows."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a source model answers to some rows.

    Attributes:
        outputs: by output tensor name, ``[rows, …]``.
        margin: ``[rows]``, by how much the best class beats the second, in the unit of the
            scores; None where the source has no scores. A label may only differ from the source's
            where this is below the tolerance.
    """

    outputs: Tensors
    margin: npt.NDArray[np.floating] | None = None


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A model as its framework knows it, and the ONNX graph made from it.

    This is all that a source framework hands over: one module in `sources` a framework, whose one
    function makes this of a file and the sample's rows. Golden rows are taken from the sample.

    Attributes:
        framework: ``onnx``, ``sklearn``, ``lightgbm`` …: the word after ``tritonbulk export``.
        graph: the graph before repair; its inputs and outputs already have their final names.
        inputs: the graph's inputs, with the file columns that feed them.
        predict: answers of the *source*, not of the graph, to gathered tensors.
        takes_float64: True if ``predict`` also takes float64 where a tensor is float32, so that
            the cost of the narrower input can be reported.
        distributions: Python packages whose versions belong into the contract.
        labels: by output tensor name, the classes in the order of the output's last dimension;
            empty where the model does not name them.
        notes: sentences for people about how the graph came about: a fallback that was taken, say.
    """

    framework: str
    graph: onnx.ModelProto
    inputs: tuple[InputTensor, ...]
    predict: Callable[[Tensors], Answers]
    takes_float64: bool
    distributions: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an exported answer may be from the source's: ``atol + rtol * |source|``.

    The default is ten to a hundred times what float32 arithmetic costs a faithful export, and far
    below what a wrong branch or a lost weight does. Float16 outputs get 1e-3 by themselves.

    Attributes:
        atol: absolute part, in the unit of the output.
        rtol: relative part.
    """

    atol: float = 1e-5
    rtol: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse what is no distance.

        Raises:
            OptionError: one of them is negative or NaN; a retry does not help.
        """
        if not (self.atol >= 0 and self.rtol >= 0):
            raise OptionError(
                f"--atol {self.atol} and --rtol {self.rtol} must be numbers of at least 0"
            )


@dataclass(frozen=True, slots=True)
class OutputParity:
    """How one output compares with the source model over all sample rows.

    Differences of labels are not numbers: theirs are 0, and `flips` counts them.

    Attributes:
        max_abs: largest absolute difference.
        max_rel: largest of ``|difference| / max(|source|, atol)``.
        mean_abs: mean absolute difference.
        mean_rel: mean of the relative ones.
        p999_abs: 99.9 % of the values differ by at most this.
        p999_rel: the same, relatively.
        cosine: between all finite answers of both, as one vector; 1.0 for labels.
        exceeding: share of values that differ by more than the tolerance.
        nan_differs: values that are NaN or infinite in one of both alone.
        flips: values of a label output that differ.
        top1_flips: rows of scores whose largest is that of another class.
        decided_flips: share of both that flip though the source is decided.
        max_abs_float64: largest absolute difference from the source fed with float64 values; None
            if the source does not take them, or the inputs are not float32.
        threshold_flips: rows that are further off the source fed with float64 than the tolerance:
            a value lies between a threshold and its float32 form. None as above.
    """

    max_abs: float = 0.0
    max_rel: float = 0.0
    mean_abs: float = 0.0
    mean_rel: float = 0.0
    p999_abs: float = 0.0
    p999_rel: float = 0.0
    cosine: float = 1.0
    exceeding: float = 0.0
    nan_differs: int = 0
    flips: int = 0
    top1_flips: int = 0
    decided_flips: float = 0.0
    max_abs_float64: float | None = None
    threshold_flips: int | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well both models agree with the truth.

    Attributes:
        metric: ``AUC``, ``accuracy`` or ``rank correlation``.
        output: whose answers are judged.
        source: the source model's figure.
        export: the graph's.
    """

    metric: str
    output: str
    source: float
    export: float

    @property
    def change(self) -> float:
        """Return by how much the figure differs, in either direction."""
        return abs(self.export - self.source)


@dataclass(frozen=True, slots=True)
class Waiver:
    """A failed check that someone accepts.

    Attributes:
        name: of the check, ``[OUTPUT.]CHECK``.
        reason: why it is acceptable.
        measured: what was found, in words; empty before it was.
    """

    name: str
    reason: str
    measured: str = ""


@dataclass(frozen=True, slots=True)
class Parity:
    """The comparison of an export with its source model.

    Attributes:
        rows: sample rows compared: every one, but for those that INT8 was calibrated on.
        outputs: by output tensor name.
        ranking: what labels tell; None without labels.
        waivers: checks that failed and are accepted.
    """

    rows: int
    outputs: Mapping[str, OutputParity]
    ranking: Ranking | None = None
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchProof:
    """What was proved.

    Attributes:
        shapes: row shape of each output; -1 where it follows an open dimension of an input.
        sizes: rows of the batches that were tried.
        made_up: how many of the rows were made up, as the sample has too few that differ.
        largest: largest difference between two answers to one row, an output; 0.0 if all were
            equal bit for bit.
    """

    shapes: RowShapes
    sizes: tuple[int, ...]
    made_up: int
    largest: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """What a change of precision cost and gained.

    Attributes:
        precision: as asked for.
        bytes_before: of the model's files in float32.
        bytes_after: of those that were published.
        before: parity of the float32 graph, on the same rows.
        is_verified: False if the graph cannot run here, so that its rounding was emulated.
    """

    precision: str
    bytes_before: int
    bytes_after: int
    before: Parity
    is_verified: bool


class TargetOptions(TypedDict, total=False):
    """What every export function takes by keyword: the fields of `Target`, paths as text too."""

    name: Required[str]
    sample: Required[Path | str]
    repository: Path | str
    max_batch_size: int | None
    tolerance: Tolerance | None
    waivers: Sequence[Waiver]
    labels: str | None
    staging: Path | str | None
    triton: str | None
    drop_outputs: Sequence[str]
    serving: Serving
    precision: str
    keep_fp32: Sequence[str]
    half_io: bool
    int8_preset: str
    calibration_rows: int
    load: LoadTarget | None
    check_runtime: bool
    stages: int | None
    stage_gpus: Sequence[int]
    bench_result: Path | str | None
    tune_s: float | None


@dataclass(frozen=True, slots=True)
class Target:
    """Where an export goes and how it is judged.

    Attributes:
        name: of the entry: letters, digits, ``_``, ``.``, ``-``; no dot or dash in front.
        sample: rows that the model will meet: Parquet, Feather, CSV or JSON lines.
        repository: the model repository; made if it does not exist.
        max_batch_size: rows a request may have; None takes `config.default_max_batch_size`.
        tolerance: for parity; None takes that of the precision, see `limits`.
        waivers: checks of parity that may fail, each with a reason.
        labels: column of the sample that holds the truth: AUC, accuracy or rank correlation of both
            models are then compared as well.
        staging: where the entry is put together: on the file system of the repository, outside
            it; None takes a folder beside the repository.
        triton: release of Triton that is to load it, such as ``26.07``; None takes the oldest that
            export knows, whose graphs all newer ones load.
        drop_outputs: outputs of the model to leave out.
        serving: what is asked about serving.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``int8-dynamic``.
        keep_fp32: patterns of node names or operators that stay float32 under fp16 and bf16.
        half_io: under fp16, inputs and outputs are float16 as well.
        int8_preset: ``cpu`` or ``trt``: the form of static INT8.
        calibration_rows: sample rows that static INT8 is calibrated on, half of them at most;
            parity is judged on the others.
        load: a running server that loads the version and scores its golden rows; None: none.
        check_runtime: run the published files in the ONNX Runtime of the target's container as
            well, which is fetched for it.
        stages: into which the model is cut, chained by an ensemble; None: it is not cut.
        stage_gpus: one GPU for each stage; empty: as ``serving`` says.
        bench_result: file of ``tritonbulk bench`` whose verdict decides what was not asked; None:
            formulas do.
        tune_s: seconds for a sweep on the embedded server after publishing, whose verdict then
            decides; None: none.
    """

    name: str
    sample: Path
    repository: Path = DEFAULT_REPOSITORY
    max_batch_size: int | None = None
    tolerance: Tolerance | None = None
    waivers: Sequence[Waiver] = ()
    labels: str | None = None
    staging: Path | None = None
    triton: str | None = None
    drop_outputs: Sequence[str] = ()
    serving: Serving = field(default_factory=Serving)
    precision: str = "fp32"
    keep_fp32: Sequence[str] = ()
    half_io: bool = False
    int8_preset: str = "cpu"
    calibration_rows: int = 256
    load: LoadTarget | None = None
    check_runtime: bool = False
    stages: int | None = None
    stage_gpus: Sequence[int] = ()
    bench_result: Path | None = None
    tune_s: float | None = None

    @classmethod
    def of(cls, **options: Unpack[TargetOptions]) -> Target:
        """Return the target that ``options`` describe; those not given have their defaults."""
        values: dict[str, Any] = dict(options)
        for name in ("sample", "repository", "staging", "bench_result"):
            if values.get(name) is not None:
                values[name] = Path(values[name])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did.

    Attributes:
        entry: the entry's folder.
        version: of this content: 18 digits.
        digest: ``sha256:`` and the hex digest of the model file.
        max_batch_size: rows a request may have.
        max_batch_size_reason: where that number comes from, for people.
        parity: the comparison with the source model.
        batch: the proof that rows do not depend on each other.
        precision: what the change of precision cost and gained; None for fp32.
        published: False if the very same content was there already and nothing was changed.
        is_served: False if it was there already, and the entry serves another version of it.
        golden_rows_loaded: golden rows that a running server answered rightly; None if none was
            asked.
        notes: of the source: sentences for people about how its graph came about.
        warnings: of lint about what was published: it loads, and has a trap.
    """

    entry: Path
    version: int
    digest: str
    max_batch_size: int
    max_batch_size_reason: str
    parity: Parity
    batch: BatchProof
    published: bool
    is_served: bool
    golden_rows_loaded: int | None = None
    notes: tuple[str, ...] = ()
    precision: PrecisionReport | None = None
    warnings: tuple[str, ...] = ()
