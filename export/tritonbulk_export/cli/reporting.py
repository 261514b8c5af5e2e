"""What an export prints."""

from __future__ import annotations

from collections.abc import Iterator

from tritonbulk_export.spec import BatchProof, Exported, OutputParity, PrecisionReport


def lines(exported: Exported) -> Iterator[str]:
    """Yield what was done, for people: a word and its value a line."""
    state = "published" if exported.published else "already there, nothing changed"
    if not exported.is_served:
        state += (
            f"; the entry serves another version, `tritonbulk rollback {exported.entry.name} --to "
            f"{exported.version}` brings this one back"
        )
    yield f"entry           {exported.entry} ({state})"
    yield f"version         {exported.version}"
    yield f"max_batch_size  {exported.max_batch_size} ({exported.max_batch_size_reason})"
    if exported.golden_rows_loaded is not None:
        yield f"loaded          {exported.golden_rows_loaded} golden rows answered as stored"
    for name, figures in exported.parity.outputs.items():
        rows = _counted(exported.parity.rows, "row")
        yield f"parity          {name}: {rows}, {_numbers(figures)}"
    if (ranking := exported.parity.ranking) is not None:
        yield (
            f"labels          {ranking.output}: {ranking.metric} {ranking.export:.6f}, "
            f"the source's {ranking.source:.6f}"
        )
    for waiver in exported.parity.waivers:
        yield f"waived          {waiver.name} ({waiver.reason}): {waiver.measured}"
    if (report := exported.precision) is not None:
        yield f"precision       {_precision(report)}"
    yield f"batch           {_batch(exported.batch)}"
    for note in exported.notes:
        yield f"note            {note}"
    for warning in exported.warnings:
        yield f"warning         {warning}"


def _numbers(figures: OutputParity) -> str:
    if figures.flips:
        return f"{_counted(figures.flips, 'label')} differ{'s' if figures.flips == 1 else ''}"
    said = f"largest difference {figures.max_abs:.1e} absolute, {figures.max_rel:.1e} relative"
    if figures.max_abs:
        said += f", mean {figures.mean_abs:.1e}, 99.9 % within {figures.p999_abs:.1e}"
    if figures.max_abs_float64 is not None:
        said += f", {figures.max_abs_float64:.1e} off the source fed with float64"
    if figures.threshold_flips:
        said += f" ({_counted(figures.threshold_flips, 'row')} beyond the tolerance)"
    if figures.top1_flips:
        have = "has" if figures.top1_flips == 1 else "have"
        said += f", {_counted(figures.top1_flips, 'row')} {have} another largest score"
    return said


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _precision(report: PrecisionReport) -> str:
    before = {name: figures.max_abs for name, figures in report.before.outputs.items()}
    differences = ", ".join(f"{name} {largest:.1e}" for name, largest in before.items())
    said = (
        f"{report.precision}: {report.bytes_before:,} → {report.bytes_after:,} bytes; in fp32 the "
        f"largest differences are {differences}"
    )
    return said if report.is_verified else f"{said}; UNVERIFIED: its rounding was emulated on a CPU"


def _batch(proof: BatchProof) -> str:
    largest = max(proof.largest.values(), default=0.0)
    equal = "bit for bit" if largest == 0 else f"within {largest:.1e}"
    said = f"rows answer the same ({equal}) in batches of {', '.join(map(str, proof.sizes))}"
    return said + (f"; {proof.made_up} of the rows were made up" if proof.made_up else "")
