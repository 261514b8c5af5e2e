"""JAX and Flax: a function, or a linen or nnx module, that a factory gives.

Weights come from a safetensors file whose names are paths joined by dots, and are constants in the
graph. JAX is 32-bit unless told otherwise, so whole numbers are fed as INT32.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax2onnx
import numpy as np
import onnx
import pyarrow as pa
from flax import linen, nnx

from tritonbulk.contract import InputTensor, datatype
from tritonbulk.errors import InputError, ModelError
from tritonbulk_export.names import first_line
from tritonbulk_export.sources.factory import load_factory, made_by, safetensors_of
from tritonbulk_export.sources.ports import kept_outputs, plain_output, with_ports
from tritonbulk_export.sources.signature import (
    Wishes,
    example_tensors,
    input_tensors,
    wished_names,
)
from tritonbulk_export.spec import Answers, SourceModel, Tensors

OPSET = 21


@dataclass(frozen=True, slots=True)
class _Function:
    """What is exported: takes batches by position, with its weights inside."""

    call: Callable[..., Any]
    parameters: tuple[tuple[str, bool], ...]


def load_jax(function: Any, weights: Path | None, wishes: Wishes, rows: pa.Table) -> SourceModel:
    """Return the function or module that ``function`` is, or that the factory it names gives.

    Outputs are named by the model where it returns a mapping, else ``output``, ``output_0`` ….

    Raises:
        InputError: function or weights cannot be loaded; no retry.
        ContractError: the sample's columns do not fit; no retry.
        ModelError: jax2onnx cannot export it with a batch of any size; no retry.
    """
    found = _bound(_made(function), weights)
    names = wished_names(found.parameters, wishes)
    inputs = tuple(
        replace(tensor, datatype=datatype("INT32"))
        if tensor.datatype.name == "INT64" and tensor.name not in wishes.datatypes
        else tensor
        for tensor in input_tensors(names, wishes, rows)
    )
    outputs = _tried(found.call, example_tensors(rows, inputs))
    graph = _graph(found.call, inputs)
    kept = kept_outputs(graph, outputs, wishes.outputs)
    kept_names = [name if name in kept else None for name in outputs]
    return SourceModel(
        framework="jax",
        graph=with_ports(graph, [tensor.name for tensor in inputs], kept),
        inputs=inputs,
        predict=_Predictor(
            found.call, inputs, kept_names if set(kept) <= set(outputs) else list(kept)
        ),
        takes_float64=False,
        distributions=("jax", "flax", "jax2onnx"),
    )


class _Predictor:
    """The function's own answers."""

    def __init__(
        self, call: Callable[..., Any], inputs: Sequence[InputTensor], outputs: Sequence[str | None]
    ) -> None:
        self._call = jax.jit(call)
        self._inputs = [tensor.name for tensor in inputs]
        self._outputs = outputs

    def __call__(self, tensors: Tensors) -> Answers:
        leaves = jax.tree.leaves(self._call(*(tensors[name] for name in self._inputs)))
        return Answers(
            {
                name: np.asarray(leaf)
                for name, leaf in zip(self._outputs, leaves, strict=True)
                if name is not None
            }
        )


def _made(function: Any) -> Any:
    if not isinstance(function, str | Path):
        return function
    reference = str(function)
    return made_by(load_factory(reference), reference)


def _bound(model: Any, weights: Path | None) -> _Function:
    tensors = {} if weights is None else safetensors_of(weights, "numpy")
    if isinstance(model, linen.Module):
        variables = _nested(tensors)
        if "params" not in variables:
            variables = {"params": variables}
        return _Function(
            lambda *batches: model.apply(variables, *batches), _parameters(type(model).__call__, 1)
        )
    if isinstance(model, nnx.Module):
        if weights is not None:
            _fill(model, tensors, weights)
        model.eval()
        return _Function(model, _parameters(type(model).__call__, 1))
    if not callable(model):
        raise InputError(f"{type(model).__name__} is neither a Flax module nor a function")
    if weights is None:
        return _Function(model, _parameters(model, 0))
    nested = _nested(tensors)
    return _Function(lambda *batches: model(nested, *batches), _parameters(model, 1))


def _parameters(function: Callable[..., Any], bound: int) -> tuple[tuple[str, bool], ...]:
    """Return names and whether each has a default, without the first ``bound``."""
    found = list(inspect.signature(function).parameters.items())[bound:]
    return tuple(
        (name, parameter.default is not inspect.Parameter.empty)
        for name, parameter in found
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    )


def _nested(tensors: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        level = nested
        for key in path:
            level = level.setdefault(key, {})
        level[last] = jax.numpy.asarray(tensor)
    return nested


def _fill(module: nnx.Module, tensors: Mapping[str, Any], weights: Path) -> None:
    """Put the tensors into the module's variables of the same paths, all of them."""
    flat = {
        ".".join(map(str, path)): variable
        for path, variable in nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    }
    if flat.keys() != tensors.keys():
        only = sorted(flat.keys() ^ tensors.keys())
        raise InputError(
            f"weights {weights} do not fit the module ({', '.join(only[:4])} stand in one of the "
            "two only); give those that belong to it"
        )
    state = nnx.state(module, (nnx.Param, nnx.BatchStat))
    for path, variable in nnx.to_flat_state(state):
        variable.set_value(jax.numpy.asarray(tensors[".".join(map(str, path))]))
    nnx.update(module, state)


def _tried(call: Callable[..., Any], example: Tensors) -> list[str]:
    """Return names of the arrays that the function answers with; one row is tried, too."""
    try:
        answer = call(*example.values())
        call(*(tensor[:1] for tensor in example.values()))
    except Exception as error:  # the user's code
        raise ModelError(
            f"the function fails on {len(next(iter(example.values())))} rows, or on one, of the "
            f"sample ({type(error).__name__}: {first_line(error)}); it must take batches of any "
            "size, and --input-map, --input-shape and --input-dtype say what it is fed with"
        ) from error
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(answer)[0]]
    return [
        plain_output(
            [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path]
        )
        for path in paths
    ]


def _graph(call: Callable[..., Any], inputs: Sequence[InputTensor]) -> onnx.ModelProto:
    # One scope, so that the batch of one input is that of all others.
    scope = jax.export.SymbolicScope()
    shapes = [
        jax.ShapeDtypeStruct(
            jax.export.symbolic_shape(", ".join(_sizes(tensor)), scope=scope), tensor.datatype.numpy
        )
        for tensor in inputs
    ]
    before = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = jax2onnx.to_onnx(call, shapes, opset=OPSET)
    except Exception as error:  # jax and jax2onnx raise a dozen classes
        raise ModelError(
            f"jax2onnx cannot export the function with a batch of any size "
            f"({type(error).__name__}: {first_line(error)}); mend what it names"
        ) from error
    finally:
        logging.disable(before)
    assert isinstance(graph, onnx.ModelProto)
    return graph


def _sizes(tensor: InputTensor) -> list[str]:
    """Return a tensor's dimensions as JAX writes them: names for those that stay open."""
    rest = (f"d{axis}" if size == -1 else str(size) for axis, size in enumerate(tensor.shape, 1))
    return ["B", *rest]
