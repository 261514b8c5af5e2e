"""Looking inside a graph: what each of its nodes computes for some rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from tritonbulk.errors import ModelError
from tritonbulk_export.graph.walk import graphs, title
from tritonbulk_export.runtime import fed, load
from tritonbulk_export.spec import Tensor, Tensors

_RUNNING = re.compile(r"(?:running \S+ node\. Name:'|Node[: ]\(?)([^')\s]+)")


class Instrument:
    """A graph whose nodes have names that differ, so that what ONNX Runtime says can be placed.

    Attributes:
        nodes: of the graph, in the order of computation, subgraphs within them.
        constants: initializers by name.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(graph)
        self.titles = [title(node) for node in graph.graph.node]
        for index, node in enumerate(self._model.graph.node):
            node.name = f"tritonbulk_{index}"
        self.nodes: Sequence[onnx.NodeProto] = list(self._model.graph.node)
        self.constants = {tensor.name: tensor for tensor in graph.graph.initializer}
        self.producers = {
            name: index for index, node in enumerate(self.nodes) for name in node.output if name
        }

    def failing(self, tensors: Tensors, until: int | None = None) -> int | None:
        """Return the index of the node that ONNX Runtime cannot run on ``tensors``; None if none.

        Args:
            tensors: rows for all inputs.
            until: look at the nodes before this index only.
        """
        names = None if until is None else self._values(until)
        try:
            self._run(tensors, len(self.nodes) if until is None else until, names)
        except ModelError as error:
            return self._named(str(error))
        except Exception as error:  # ONNX Runtime has no common base for its own errors
            return self._named(str(error))
        return None

    def values(self, tensors: Tensors, until: int | None = None) -> Mapping[str, Tensor]:
        """Return what the nodes before ``until`` compute from ``tensors``, by name.

        Empty if they do not run. Sequences and maps are left out.
        """
        end = len(self.nodes) if until is None else until
        names = self._values(end)
        if not names:
            return dict(tensors)
        try:
            found = self._run(tensors, end, names)
        except Exception:  # of ONNX Runtime, which has no common base, or ours
            return {}
        arrays = {n: v for n, v in zip(names, found, strict=True) if isinstance(v, np.ndarray)}
        return arrays | dict(tensors)

    def inputs_of(self, index: int) -> list[str]:
        """Return the names that node ``index`` reads, subgraphs included, without repetition."""
        node = self.nodes[index]
        names = list(node.input)
        for attribute in node.attribute:
            for child in (attribute.g, *attribute.graphs):
                names += [n for part in graphs(child) for inner in part.node for n in inner.input]
        return [name for name in dict.fromkeys(names) if name]

    def _values(self, end: int) -> list[str]:
        return [name for node in self.nodes[:end] for name in node.output if name]

    def _run(self, tensors: Tensors, end: int, names: Sequence[str] | None) -> list[Tensor]:
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.node[end:]
        if names is not None:
            del model.graph.output[:]
            # Without a type: ONNX Runtime infers it.
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = load(model, is_optimized=False)
        feed = {node.name: fed(tensors[node.name]) for node in session.get_inputs()}
        answers: list[Tensor] = session.run(None, feed)
        return answers

    def _named(self, message: str) -> int | None:
        match = _RUNNING.search(message)
        if match is None or not match[1].startswith("tritonbulk_"):
            return None
        return int(match[1].removeprefix("tritonbulk_").split("_")[0])
