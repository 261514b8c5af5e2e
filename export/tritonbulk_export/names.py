"""Words for people: plain names for anonymous tensors, one line for a foreign error."""

from __future__ import annotations

import re

import onnx

_OUTPUT_NUMBER = re.compile(r":\d+$")


def plain_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Return new names for inputs and outputs that have none worth showing, old → new.

    A name that is a number ("23") gets its role in front; TensorFlow's output number
    ("Identity:0") is cut off. A name that would become that of another value stays as it is.
    """
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {port.name for port in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    for role, ports in (("input", graph.input), ("output", graph.output)):
        for port in ports:
            plain = _plain(port.name, role)
            if plain not in taken:
                names[port.name] = plain
                taken.add(plain)
    return names


def _plain(name: str, role: str) -> str:
    if name.isdigit():
        return f"{role}_{name}"
    return _OUTPUT_NUMBER.sub("", name) or role


def first_line(error: Exception) -> str:
    """Return the first line of a foreign error's text, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
