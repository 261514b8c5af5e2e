"""Ports: the names of a graph's inputs and outputs, as the entry is to have them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx

from tritonbulk.errors import ContractError
from tritonbulk_export.graph import renamed


def with_ports(
    graph: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Return ``graph`` with its inputs and outputs called so, in order.

    A value inside that has one of these names gets another: two of one name do not load.
    """
    ports = [port.name for port in (*graph.graph.input, *graph.graph.output)]
    wanted = dict(zip(ports, (*inputs, *outputs), strict=True))
    inside = {name for node in graph.graph.node for name in (*node.input, *node.output)}
    inside |= {constant.name for constant in graph.graph.initializer}
    moved = {name: f"{name}.inside" for name in wanted.values() if name in inside}
    # In two steps, because a port may be called like another one was before.
    graph = renamed(graph, moved)
    return renamed(graph, {moved.get(name, name): new for name, new in wanted.items()})


def kept_outputs(graph: onnx.ModelProto, names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the outputs' names as ``wanted`` has it, and drop, in place, those it leaves out.

    Args:
        graph: its outputs have ``names``, in order, but need not be called so yet.
        names: that the model gives them.
        wanted: some of ``names``, or one new name for each; empty keeps all as they are.

    Raises:
        ContractError: ``wanted`` is neither; a retry does not help.
    """
    if not wanted:
        return list(names)
    if set(wanted) <= set(names):
        ports = dict(zip(names, graph.graph.output, strict=True))
        kept = [ports[name] for name in wanted]
        del graph.graph.output[:]
        graph.graph.output.extend(kept)
        return list(wanted)
    if len(wanted) == len(names):
        return list(wanted)
    raise ContractError(
        f"the model's outputs are {', '.join(names)}; --outputs may name some of them, or give "
        f"each a new name, but has {', '.join(wanted)}"
    )


def plain_output(path: Sequence[str]) -> str:
    """Return a name for the output that stands at ``path`` in what a model returns.

    Args:
        path: keys and positions; empty for a model that returns one tensor.
    """
    words = [re.sub(r"\W+", "_", word, flags=re.ASCII) for word in path]
    if all(word.isdigit() for word in words):
        words.insert(0, "output")
    return "_".join(words)
