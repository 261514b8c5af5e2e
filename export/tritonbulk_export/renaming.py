"""Names that Triton and people can use, for a source of any framework."""

from __future__ import annotations

from dataclasses import replace

from tritonbulk_export.graph import dropped, renamed
from tritonbulk_export.names import plain_names, renaming_notes
from tritonbulk_export.spec import Answers, SourceModel, Target, Tensors


def with_plain_names(source: SourceModel, target: Target) -> tuple[SourceModel, tuple[str, ...]]:
    """Return ``source`` with names that Triton and people can use, and without unwanted outputs."""
    graph = dropped(source.graph, target.drop_outputs) if target.drop_outputs else source.graph
    left = {port.name for port in graph.graph.output}
    labels = {name: given for name, given in source.labels.items() if name in left}
    source = replace(source, graph=graph, labels=labels)
    names = plain_names(graph.graph)
    if not names:
        return source, ()
    originals = {new: old for old, new in names.items()}

    def predict(tensors: Tensors) -> Answers:
        answers = source.predict({originals.get(n, n): tensor for n, tensor in tensors.items()})
        outputs = {names.get(n, n): answer for n, answer in answers.outputs.items()}
        return Answers(outputs, answers.margin)

    plain = replace(
        source,
        graph=renamed(graph, names),
        inputs=tuple(replace(t, name=names.get(t.name, t.name)) for t in source.inputs),
        predict=predict,
        labels={names.get(n, n): given for n, given in labels.items()},
    )
    return plain, renaming_notes(names)
