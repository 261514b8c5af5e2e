"""PyTorch: a module that a factory makes, with weights from a safetensors file, or a program.

``pkg.module:factory`` names a function (or class) without arguments that returns the module; the
weights are loaded into it strictly. A ``.pt2`` file is what ``torch.export.save`` wrote.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils import _pytree as pytree

from tritonbulk.contract import InputTensor
from tritonbulk.errors import InputError, ModelError
from tritonbulk_export.names import first_line
from tritonbulk_export.sources.factory import load_factory, made_by, safetensors_of
from tritonbulk_export.sources.pickle_process import pickled_tensors
from tritonbulk_export.sources.ports import kept_outputs, plain_output, with_ports
from tritonbulk_export.sources.signature import (
    Wishes,
    example_tensors,
    input_tensors,
    wished_names,
)
from tritonbulk_export.sources.torch_graph import module_graph, program_graph, quiet
from tritonbulk_export.spec import Answers, SourceModel, Tensors

PROGRAM_SUFFIX = ".pt2"
_PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True, slots=True)
class TorchModel:
    """What the user names.

    Attributes:
        module: ``pkg.module:factory``, a ``.pt2`` file, or a module.
        weights: a file with the module's state; None leaves it as it was made.
        exporter: ``dynamo`` or ``legacy``.
        trust_pickle: the weights may be a pickle, opened in a process of its own.
    """

    module: Any
    weights: Path | None = None
    exporter: str = "dynamo"
    trust_pickle: bool = False


def load_torch(model: TorchModel, wishes: Wishes, rows: pa.Table) -> SourceModel:
    """Return the model, in evaluation mode on the CPU.

    Outputs are named by the model where it returns a mapping, else ``output``, ``output_0`` ….

    Raises:
        InputError: module, weights or program cannot be loaded; no retry.
        ContractError: the sample's columns do not fit; no retry.
        ModelError: torch cannot export it with a batch of any size; no retry.
    """
    if isinstance(model.module, str | Path) and str(model.module).endswith(PROGRAM_SUFFIX):
        return _of_program(_load_program(Path(model.module)), wishes, rows)
    module = _load_module(model)
    names = wished_names(_parameters(module), wishes)
    inputs = input_tensors(names, wishes, rows)
    return source_of(module, inputs, wishes, rows, exporter=model.exporter)


def source_of(
    module: torch.nn.Module,
    inputs: Sequence[InputTensor],
    wishes: Wishes,
    rows: pa.Table,
    *,
    exporter: str = "dynamo",
    framework: str = "torch",
    distributions: tuple[str, ...] = ("torch", "onnxscript"),
) -> SourceModel:
    """Return the source that a module and its inputs make.

    Args:
        module: takes its tensors by name.
        inputs: with the columns that feed them.
        wishes: of the user; only ``outputs`` is looked at.
        rows: of the sample.
        exporter: ``dynamo`` or ``legacy``.
        framework: that the module comes from.
        distributions: whose versions belong into the contract.

    Raises:
        TritonbulkError: as `load_torch`.
    """
    # The wrapper too: the legacy exporter puts all below it back into the mode of the top.
    plain = _Plain(module, [tensor.name for tensor in inputs]).eval().cpu()
    example = tuple(_torch(tensor) for tensor in example_tensors(rows, inputs).values())
    outputs = _tried(plain, example)
    graph = module_graph(plain, example, inputs, exporter=exporter)
    kept = kept_outputs(graph, outputs, wishes.outputs)
    return SourceModel(
        framework=framework,
        graph=with_ports(graph, [tensor.name for tensor in inputs], kept),
        inputs=tuple(inputs),
        predict=_Predictor(plain, inputs, _names(outputs, kept)),
        takes_float64=False,
        distributions=distributions,
        notes=("made by torch.onnx's legacy exporter",) if exporter == "legacy" else (),
    )


def _of_program(program: Any, wishes: Wishes, rows: pa.Table) -> SourceModel:
    names = wished_names([(name, False) for name in program.graph_signature.user_inputs], wishes)
    inputs = input_tensors(names, wishes, rows)
    example_tensors(rows, inputs)
    graph = program_graph(program)
    positions = range(program.call_spec.out_spec.num_leaves)
    outputs = _paths(pytree.tree_unflatten(positions, program.call_spec.out_spec))
    kept = kept_outputs(graph, outputs, wishes.outputs)
    module = program.module()
    return SourceModel(
        framework="torch",
        graph=with_ports(graph, [tensor.name for tensor in inputs], kept),
        inputs=inputs,
        predict=_Predictor(_Leaves(module), inputs, _names(outputs, kept)),
        takes_float64=False,
        distributions=("torch", "onnxscript"),
    )


class _Plain(torch.nn.Module):
    """Tensors in, in order; a tuple of the tensors that the module returned out."""

    def __init__(self, module: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.names = list(names)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the module returns, flat."""
        leaves = pytree.tree_leaves(self.answer(*tensors))
        return tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))

    def answer(self, *tensors: torch.Tensor) -> Any:
        """Return what the module returns, as it is."""
        return self.module(**dict(zip(self.names, tensors, strict=True)))


class _Leaves:
    """A program's module, whose answers come flat."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(pytree.tree_leaves(self._module(*tensors)))


class _Predictor:
    """The module's own answers."""

    def __init__(
        self, module: Any, inputs: Sequence[InputTensor], outputs: Sequence[str | None]
    ) -> None:
        self._module = module
        self._inputs = [tensor.name for tensor in inputs]
        self._outputs = outputs

    def __call__(self, tensors: Tensors) -> Answers:
        with torch.inference_mode():
            answers = self._module(*(_torch(tensors[name]) for name in self._inputs))
        return Answers(
            {
                name: answer.numpy()
                for name, answer in zip(self._outputs, answers, strict=True)
                if name is not None
            }
        )


def _names(outputs: Sequence[str], kept: Sequence[str]) -> list[str | None]:
    """Return what each output of the module is called in the graph; None if it is dropped."""
    if set(kept) <= set(outputs):
        return [name if name in kept else None for name in outputs]
    return list(kept)


def _torch(tensor: Any) -> torch.Tensor:
    # torch warns of arrays that may not be written, such as views of a file.
    return torch.from_numpy(np.require(tensor, requirements=("C", "W")))


def _tried(module: _Plain, example: tuple[torch.Tensor, ...]) -> list[str]:
    """Return names of the tensors that the module answers with; one row is tried, too."""
    try:
        with torch.inference_mode():
            answer = module.answer(*example)
            module(*(tensor[:1] for tensor in example))
    except Exception as error:  # the user's code
        raise ModelError(
            f"the module fails on {len(example[0])} rows, or on one, of the sample "
            f"({type(error).__name__}: {first_line(error)}); it must take batches of any size, and "
            "--input-map, --input-shape and --input-dtype say what it is fed with"
        ) from error
    return _paths(answer)


def _paths(answer: Any) -> list[str]:
    found, _ = pytree.tree_flatten_with_path(answer)
    return [
        plain_output([str(getattr(key, "key", getattr(key, "idx", key))) for key in path])
        for path, leaf in found
        if isinstance(leaf, torch.Tensor | int)
    ]


def _parameters(module: torch.nn.Module) -> list[tuple[str, bool]]:
    """Return the names that the module takes, and whether each has a default."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        (name, parameter.default is not inspect.Parameter.empty)
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind in plain
    ]


def _load_module(model: TorchModel) -> torch.nn.Module:
    module = model.module
    if isinstance(module, str | Path):
        reference = str(module)
        module = made_by(load_factory(reference), reference)
    if not isinstance(module, torch.nn.Module):
        kind = type(module).__name__
        raise InputError(f"{model.module} gives an object of type {kind}, not a torch.nn.Module")
    if model.weights is not None:
        tensors = _state(model.weights, trust_pickle=model.trust_pickle)
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            reasons = " ".join(line.strip() for line in str(error).splitlines()[1:3])
            raise InputError(
                f"weights {model.weights} do not fit the module ({reasons}); give those that "
                "belong to it"
            ) from error
    return module


def _state(weights: Path, *, trust_pickle: bool) -> dict[str, Any]:
    if weights.suffix not in _PICKLE_SUFFIXES:
        return safetensors_of(weights, "torch")
    if not weights.exists():
        raise InputError(f"weights {weights} do not exist; give the path of a safetensors file")
    if not trust_pickle:
        raise InputError(
            f"weights {weights} are a pickle, which can run any code as you; save them with "
            "safetensors.torch.save_file(module.state_dict(), …), or pass --trust-pickle if you "
            "made the file yourself"
        )
    return {name: _torch(tensor) for name, tensor in pickled_tensors(weights).items()}


def _load_program(path: Path) -> Any:
    if not path.exists():
        raise InputError(f"model file {path} does not exist; give the path of a .pt2 program")
    # torch would otherwise unpickle whatever it cannot read as plain tensors.
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        with quiet():
            return torch.export.load(path)
    except Exception as error:  # a damaged file can raise anything
        raise InputError(
            f"{path} cannot be read as a program ({type(error).__name__}: {first_line(error)}); "
            "save it with torch.export.save, in the release of torch that is installed here"
        ) from error
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
