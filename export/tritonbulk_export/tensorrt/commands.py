"""The two command lines of ``trtexec``: build, then judge what was built. Pure.

Two steps, since a build is not deterministic: an engine that was judged in the run that built it
need not be the one that was saved, and ``--skipInference`` excludes the judgement. Paths are
placeholders in braces that the script on the GPU node fills in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tritonbulk.contract import InputTensor, OutputTensor
from tritonbulk.errors import OptionError
from tritonbulk_export.tensorrt.flags import FLAGS, check_flags

Portability = Literal["none", "same", "ampere+"]

WORKSPACE_MIB = 4096
OPTIMIZATION_LEVEL = 3
PROFILES_MAX = 8


@dataclass(frozen=True, slots=True)
class Profile:
    """Rows of a request that an engine is built for: least, most frequent, most."""

    least: int
    usual: int
    most: int

    def __post_init__(self) -> None:
        """Refuse what is no range.

        Raises:
            OptionError: the numbers do not grow from 1 on; no retry.
        """
        if not 1 <= self.least <= self.usual <= self.most:
            raise OptionError(
                f"--profile {self.least},{self.usual},{self.most} must grow: least, usual, most"
            )


@dataclass(frozen=True, slots=True)
class Build:
    """How plans are built.

    Attributes:
        major: of TensorRT.
        profiles: at least one; the first covers the golden rows.
        open_sizes: least, usual and largest size of the open dimensions of a tensor.
        workspace_mib: memory that the builder may try kernels with.
        portability: ``same``: other GPUs of the compute capability; ``ampere+``: all from Ampere.
        atol: absolute difference from the golden answers that is allowed.
        rtol: relative one.
        wrong_share: of values that may be further off; above 0.
    """

    major: int
    profiles: tuple[Profile, ...]
    open_sizes: Mapping[str, tuple[int, int, int]]
    workspace_mib: int = WORKSPACE_MIB
    portability: Portability = "none"
    atol: float = 1e-2
    rtol: float = 1e-2
    wrong_share: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            OptionError: a number is out of bounds, or the major version is unknown; no retry.
        """
        if self.major not in FLAGS:
            raise OptionError(f"TensorRT {self.major} is unknown; known: {sorted(FLAGS)}")
        if not 1 <= len(self.profiles) <= PROFILES_MAX:
            raise OptionError(f"give 1 to {PROFILES_MAX} profiles, not {len(self.profiles)}")
        if not 0 < self.wrong_share < 1:
            raise OptionError("the share of wrong values must be above 0: trtexec fails at it")


def build_command(build: Build, inputs: Sequence[InputTensor]) -> list[str]:
    """Return the arguments that build ``{plan}`` from ``{onnx}``."""
    arguments = ["--onnx={onnx}", "--saveEngine={plan}", "--skipInference"]
    several = len(build.profiles) > 1
    for number, profile in enumerate(build.profiles):
        if several:
            arguments.append(f"--profile={number}")
        for flag, position, rows in (
            ("minShapes", 0, profile.least),
            ("optShapes", 1, profile.usual),
            ("maxShapes", 2, profile.most),
        ):
            arguments.append(f"--{flag}={_shapes(build, inputs, rows, position)}")
    arguments += [
        f"--memPoolSize=workspace:{build.workspace_mib}",
        "--timingCacheFile={cache}",
        f"--builderOptimizationLevel={OPTIMIZATION_LEVEL}",
    ]
    if build.major == 10:
        arguments.append("--stronglyTyped")
    if build.portability != "none":
        level = "sameComputeCapability" if build.portability == "same" else "ampere+"
        arguments.append(f"--hardwareCompatibilityLevel={level}")
    check_flags(arguments, build.major)
    return arguments


def gate_command(
    build: Build,
    inputs: Sequence[InputTensor],
    outputs: Sequence[OutputTensor],
    shapes: Mapping[str, tuple[int, ...]],
) -> list[str]:
    """Return the arguments that run ``{plan}`` on the golden rows.

    TensorRT 11 compares by itself; 10 writes answers to ``{answers}`` for the script to compare.

    Args:
        build: how it was built.
        inputs: of the model.
        outputs: of the model.
        shapes: of the golden tensors, rows first.
    """
    listed = ",".join(f"{t.name}:{_joined(shapes[t.name])}" for t in inputs)
    data = ",".join(f"{t.name}:{{golden}}/{file}" for t, file in golden_files("input", inputs))
    arguments = ["--loadEngine={plan}", f"--shapes={listed}", f"--loadInputs={data}"]
    if build.major == 10:
        arguments += ["--exportOutput={answers}", "--iterations=1", "--warmUp=0", "--duration=0"]
    else:
        wanted = ",".join(
            f"{t.name}:{{golden}}/{file}" for t, file in golden_files("output", outputs)
        )
        arguments += [
            f"--loadRefOutputs={wanted}",
            "--accuracyAlgorithm=l0",
            f"--atol={build.atol:g}",
            f"--rtol={build.rtol:g}",
            f"--accuracyThreshold={build.wrong_share:g}",
        ]
    check_flags(arguments, build.major)
    return arguments


def stale_command(build: Build) -> list[str]:
    """Return the arguments that tell which TensorRT a ``{plan}`` is of, without loading it."""
    arguments = ["--loadEngine={plan}", "--getPlanVersionOnly"]
    check_flags(arguments, build.major)
    return arguments


def golden_files(
    role: str, tensors: Sequence[InputTensor | OutputTensor]
) -> list[tuple[InputTensor | OutputTensor, str]]:
    """Return the tensors with the names of their golden files, which hold no foreign text."""
    return [(tensor, f"{role}_{number}.bin") for number, tensor in enumerate(tensors)]


def _shapes(build: Build, inputs: Sequence[InputTensor], rows: int, position: int) -> str:
    shapes = []
    for tensor in inputs:
        sizes = build.open_sizes.get(tensor.name)
        if -1 in tensor.shape and sizes is None:
            raise OptionError(
                f"input {tensor.name!r} has an open dimension; give --open-size "
                f"{tensor.name}=LEAST,USUAL,MOST"
            )
        dims = [sizes[position] if size == -1 and sizes else size for size in tensor.shape]
        shapes.append(f"{tensor.name}:{_joined((rows, *dims))}")
    return ",".join(shapes)


def _joined(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
