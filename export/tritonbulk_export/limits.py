"""What is allowed: limits by precision, and waivers, which have a name and a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tritonbulk.errors import OptionError, ParityError
from tritonbulk_export.spec import OutputParity, Parity, Tolerance, Waiver


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an export may be from its source.

    Attributes:
        tolerance: of one value: ``atol + rtol * |source|``.
        is_scaled: whether atol is in units of the output's root mean square over the first rows,
            rather than in the output's own unit.
        exceeding: share of values that may exceed the tolerance.
        cosine: smallest cosine between all answers of both.
        flips: share of rows that may get another label, or another largest score, though the source
            was decided.
        undecided: by how much the best score may lead where the source counts as undecided.
        ranking: how much AUC, accuracy or rank correlation may change.
    """

    tolerance: Tolerance
    is_scaled: bool
    exceeding: float
    cosine: float
    flips: float
    undecided: float
    ranking: float

    def with_tolerance(self, tolerance: Tolerance | None) -> Limits:
        """Return these limits with the user's own tolerance, in the output's unit.

        Where no value may exceed it, it alone decides, and the cosine is no check any more.
        """
        if tolerance is None:
            return self
        return replace(
            self,
            tolerance=tolerance,
            is_scaled=False,
            undecided=max(tolerance.atol, self.undecided) if self.exceeding else tolerance.atol,
            cosine=self.cosine if self.exceeding else -1.0,
        )


LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(Tolerance(1e-5, 1e-5), False, 0.0, 1 - 1e-6, 0.0, 1e-5, 1e-4),
    "fp16": Limits(Tolerance(1e-2, 1e-2), True, 1e-3, 0.9999, 1e-3, 1e-3, 1e-3),
    "bf16": Limits(Tolerance(5e-2, 5e-2), True, 1e-3, 0.999, 5e-3, 1e-2, 2e-3),
    "int8": Limits(Tolerance(1e-1, 1e-1), True, 1e-2, 0.99, 1e-2, 2e-2, 5e-3),
    "int8-dynamic": Limits(Tolerance(1e-1, 1e-1), True, 1e-2, 0.99, 1e-2, 2e-2, 5e-3),
}
"""By precision. float32: ten to a hundred times what its arithmetic costs a faithful export.
float16: tolerance of TensorRT's own guides. The others: what tests of this project show to tell a
good conversion from one with a damaged weight."""

CHECKS = {
    "values": "values further off than the tolerance",
    "nan": "NaN or infinity where the source has a number, or the other way round",
    "cosine": "the cosine between all answers of both",
    "flips": "rows with another label or another largest score",
    "ranking": "change of AUC, accuracy or rank correlation on the labels",
}
"""Names of the checks, which a waiver uses."""

_WAIVER = re.compile(r"(?:(?P<output>.+)\.)?(?P<check>[a-z]+)")


def waivers(texts: Sequence[str]) -> tuple[Waiver, ...]:
    """Return the waivers in ``texts``, each ``[OUTPUT.]CHECK=reason``.

    Raises:
        OptionError: one names no check or gives no reason; no retry.
    """
    return tuple(_waiver(text) for text in texts)


def _waiver(text: str) -> Waiver:
    name, _, reason = text.partition("=")
    match = _WAIVER.fullmatch(name.strip())
    if match is None or match["check"] not in CHECKS:
        raise OptionError(
            f"--waive {text!r} names no check; it is [OUTPUT.]CHECK=reason, with one of "
            f"{', '.join(CHECKS)}"
        )
    if not reason.strip():
        raise OptionError(f"--waive {text!r} gives no reason; write it behind '='")
    return Waiver(name.strip(), reason.strip())


def judge(
    parity: Parity, limits: Limits, given: Sequence[Waiver], wrong: Mapping[str, str | None]
) -> Parity:
    """Return ``parity`` with the waivers that it needs.

    Args:
        parity: what was measured.
        limits: what is allowed.
        given: waivers of the user.
        wrong: by output, the first value that exceeds the tolerance, in words.

    Raises:
        ParityError: a check fails that is not waived; names all that do. No retry.
    """
    used = []
    failures = []
    for name, sentence in _failures(parity, limits, wrong):
        waiver = next((w for w in given if w.name in (name, name.rpartition(".")[2])), None)
        if waiver is None:
            failures.append((name, sentence))
        else:
            used.append(Waiver(name, waiver.reason, sentence))
    if failures:
        said = "; ".join(sentence for _, sentence in failures)
        raise ParityError(
            f"{said}; so nothing was published. Mend the model, let --atol and --rtol suit its "
            f"scale, or accept it by name: --waive '{failures[0][0]}=REASON'"
        )
    return replace(parity, waivers=tuple(used))


def _failures(
    parity: Parity, limits: Limits, wrong: Mapping[str, str | None]
) -> Iterator[tuple[str, str]]:
    """Yield name of the check and sentence for everything beyond the limits."""
    for name, figures in parity.outputs.items():
        yield from _output_failures(name, figures, limits, wrong.get(name))
    if parity.ranking is not None and not parity.ranking.change <= limits.ranking:
        found = parity.ranking
        yield (
            f"{found.output}.ranking",
            (
                f"{found.metric} on the labels goes from {found.source:.6f} to "
                f"{found.export:.6f}, by more than {limits.ranking:g}"
            ),
        )


def _output_failures(
    name: str, figures: OutputParity, limits: Limits, first: str | None
) -> Iterator[tuple[str, str]]:
    if figures.nan_differs:
        yield (
            f"{name}.nan",
            f"{figures.nan_differs} values of output {name!r} are NaN or infinite in one of both"
            + (f" ({first})" if first else ""),
        )
    if figures.exceeding > limits.exceeding:
        unit = " (of its root mean square)" if limits.is_scaled else ""
        allowed = f", {limits.exceeding:.1%} may" if limits.exceeding else ""
        yield (
            f"{name}.values",
            (
                f"output {name!r} {first or 'differs'} ({figures.exceeding:.3%} of all values "
                f"exceed atol {limits.tolerance.atol:g}{unit} + rtol "
                f"{limits.tolerance.rtol:g}{allowed})"
            ),
        )
    if figures.cosine is not None and figures.cosine < limits.cosine:
        yield (
            f"{name}.cosine",
            (
                f"the cosine of output {name!r} with the source's is {figures.cosine:.6f}, below "
                f"{limits.cosine:g}"
            ),
        )
    if figures.decided_flips > limits.flips:
        yield (
            f"{name}.flips",
            (
                f"output {name!r} {first or 'has another label or largest score'} "
                f"({figures.decided_flips:.3%} of its rows flip though the source is decided, "
                f"{limits.flips:.1%} may)"
            ),
        )
