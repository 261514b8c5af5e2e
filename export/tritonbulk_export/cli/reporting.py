"""What an export prints."""

from __future__ import annotations

from collections.abc import Iterator

from tritonbulk_export.spec import Exported, OutputParity


def lines(exported: Exported) -> Iterator[str]:
    """Yield what was done, for people: a word and its value a line."""
    state = "published" if exported.published else "already there, nothing changed"
    if not exported.is_served:
        state += "; the entry serves another version, see version_policy in its config.pbtxt"
    yield f"entry           {exported.entry} ({state})"
    yield f"version         {exported.version}"
    yield f"max_batch_size  {exported.max_batch_size} ({exported.max_batch_size_reason})"
    for name, figures in exported.parity.outputs.items():
        yield f"parity          {name}: {exported.parity.rows:,} rows, {_numbers(figures)}"
    for note in exported.notes:
        yield f"note            {note}"


def _numbers(figures: OutputParity) -> str:
    said = f"largest difference {figures.max_abs:.1e} absolute, {figures.max_rel:.1e} relative"
    if figures.max_abs_float64 is not None:
        said += f", {figures.max_abs_float64:.1e} off the source fed with float64"
    if figures.flips:
        said += f", {figures.flips} labels differ where the source is undecided"
    return said
