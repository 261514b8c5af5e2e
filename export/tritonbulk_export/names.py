"""Words for people: plain names for anonymous tensors, one line for a foreign error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain, count

import onnx

NAME_LENGTH_MAX = 128
SHOWN_MAX = 60

_OUTPUT_NUMBER = re.compile(r":\d+$")
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def plain_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Return new names for inputs and outputs whose own are of no use to Triton, old → new.

    A name that is a number ("23") gets its role in front; TensorFlow's output number
    ("Identity:0") is cut off; what is not a letter of ASCII, a digit, ``_``, ``.`` or ``-`` becomes
    ``_``, and 128 characters are enough. Where that is the name of another value, a number follows.
    """
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {port.name for port in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    for role, ports in (("input", graph.input), ("output", graph.output)):
        for port in ports:
            # An output that is an input handed through keeps that name.
            if port.name in names or (plain := _plain(port.name, role)) == port.name:
                continue
            candidates = chain([plain], (f"{plain}_{number}" for number in count(2)))
            names[port.name] = next(name for name in candidates if name not in taken)
            taken.add(names[port.name])
    return names


def renaming_notes(names: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for people about each new name, old → new."""
    return tuple(f"tensor {old[:SHOWN_MAX]!r} is named {new!r}" for old, new in names.items())


def _plain(name: str, role: str) -> str:
    plain = _ODD.sub("_", _OUTPUT_NUMBER.sub("", name))[:NAME_LENGTH_MAX]
    if not plain.strip("_."):
        return role
    return f"{role}_{plain}" if plain.isdigit() else plain


def first_line(error: Exception) -> str:
    """Return the first line of a foreign error's text, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
