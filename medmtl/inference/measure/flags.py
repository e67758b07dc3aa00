"""Quality flags: what about a result a person should look at, each a code, a severity and a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medmtl.inference.measure.quality import APART, PROBABILITY_APART, WHOLE, Quality
from medmtl.types import Finding, Severity

FLAGS: Mapping[str, str] = {
    "FRAGMENTED": "a structure is in several parts",
    "EMPTY": "a structure was not found",
    "LV_OUTSIDE_MYOCARDIUM": "the cavity is not inside the wall",
    "CUT_OFF": "the stack ends within the organ",
    "OUT_OF_RANGE": "a volume or value that the training data did not have",
    "MASK_HEAD_DISAGREE": "the masks and the regression head contradict each other",
    "UNCERTAIN": "members of the ensemble, mirror images or probabilities leave it open",
    "UNLIKE_TRAINING": "the image is unlike those that the model was trained on",
    "MISSING_SLICES": "slices, frames or files are missing or uneven",
    "INPUT": "reading the images gave a warning",
}
"""Every code and what it means in a few words; see the page on quality flags."""
_MISSING = frozenset({"GAP", "NONUNIFORM_SPACING", "INCOMPLETE_GRID", "TRUNCATED", "DUPLICATE_POSITION"})
_LIKELIER_THAN_NOT = 0.5
_CUT = 0.5
"""Area at both ends of the stack, over the largest, above which the organ is cut off."""


@dataclass(frozen=True)
class Flag:
    """One thing to look at.

    Attributes:
        code: one of `FLAGS`.
        severity: ``warning`` (look before use) or ``info``.
        message: one sentence.
    """

    code: str
    severity: Severity
    message: str


def shape_flags(
    task: str, shapes: Sequence[tuple[str, str, float]], quality: Quality, limit: float | None = WHOLE
) -> Iterator[Flag]:
    """Of structures in parts, and of a cavity outside of its wall; see `shapes_of`.

    Args:
        task: name of the task.
        shapes: what was measured.
        quality: what was learned.
        limit: for structures of which nothing was learned; None leaves them.
    """
    for kind, structure, share in shapes:
        name = f"{task}.{structure}"
        if kind == "parts":
            least = quality.parts.get(name, limit)
            if least is not None and share < least:
                text = f"{name}: {100 * share:.0f} % are in its largest part (at least {100 * least:.0f} %)"
                yield Flag("FRAGMENTED", "warning", text)
        elif name in quality.enclosed and share < quality.enclosed[name]:
            least = quality.enclosed[name]
            text = f"{name}: {100 * share:.0f} % of its rim is wall (at least {100 * least:.0f} %)"
            yield Flag("LV_OUTSIDE_MYOCARDIUM", "warning", text)


def cut_flag(name: str, ends: tuple[float, float] | None) -> Iterator[Flag]:
    """Of an organ that is still large in the first and in the last slice."""
    if ends is not None and min(ends) > _CUT:
        text = (
            f"{name}: still has {100 * ends[0]:.0f} % and {100 * ends[1]:.0f} % of its largest area in the "
            "stack's first and last slice, so its volume is too small"
        )
        yield Flag("CUT_OFF", "warning", text)


def volume_flags(name: str, smallest: float, largest: float, quality: Quality) -> Iterator[Flag]:
    """Of a structure that is nowhere, or that is larger or smaller than any in training."""
    known = quality.volumes.get(name)
    if largest <= 0:
        if known is not None and known[0] > 0:
            yield Flag("EMPTY", "warning", f"{name}: was not found in any frame")
        return
    if known is None:
        return
    low, high = known
    if largest > high or smallest < low:
        text = f"{name}: {smallest:.1f} to {largest:.1f} mL, plausible are {low:.1f} to {high:.1f} mL"
        yield Flag("OUT_OF_RANGE", "warning", text)


def value_flags(task: str, column: str, unit: str, value: float, quality: Quality) -> Iterator[Flag]:
    """Of a value that no training case came near to."""
    known = quality.values.get(column)
    if known is not None and not known[0] <= value <= known[1]:
        text = f"{task}.{column}: {value:.4g} {unit}, plausible are {known[0]:.4g} to {known[1]:.4g} {unit}"
        yield Flag("OUT_OF_RANGE", "warning", text)


def disagreement_flags(column: str, unit: str, apart: float, quality: Quality) -> Iterator[Flag]:
    """Of masks and head that say different things; ``apart`` is mask minus head."""
    limit = quality.disagreement.get(column)
    if limit is not None and abs(apart) > limit:
        text = f"{column}: masks and head are {abs(apart):.4g} {unit} apart (at most {limit:.4g} {unit})"
        yield Flag("MASK_HEAD_DISAGREE", "warning", text)


def spread_flags(name: str, spread: float, quality: Quality, *, dense: bool) -> Iterator[Flag]:
    """Of an ensemble or mirror images that do not agree."""
    usual = APART if dense else PROBABILITY_APART if ".probability." in name else None
    limit = quality.spread.get(name, usual)
    if limit is not None and spread > limit:
        what = f"1 - Dice of {spread:.2f}" if dense else f"standard deviation of {spread:.3g}"
        text = f"{name}: {what} between what is averaged (at most {limit:.3g})"
        yield Flag("UNCERTAIN", "warning", text)


def class_flags(task: str, probability: float, quality: Quality) -> Iterator[Flag]:
    """Of a class that is more likely wrong than right; only calibrated probabilities can say so."""
    if task in quality.calibrated and probability < _LIKELIER_THAN_NOT:
        text = f"{task}: its class has a probability of {probability:.2f}"
        yield Flag("UNCERTAIN", "warning", text)


def likeness_flags(score: float) -> Iterator[Flag]:
    """Of a case that is further from the training cases than the threshold."""
    if score > 1:
        text = f"its features are {score:.2f} times as far from the training cases' as 99 % of such cases"
        yield Flag("UNLIKE_TRAINING", "warning", text)


def input_flags(findings: Sequence[Finding]) -> Iterator[Flag]:
    """What reading found: missing slices and frames, and other warnings, a flag for each code."""
    seen: set[str] = set()
    for finding in findings:
        if finding.severity == "warning" and finding.code not in seen:
            seen.add(finding.code)
            code = "MISSING_SLICES" if finding.code in _MISSING else "INPUT"
            yield Flag(code, "warning", f"{finding.code}: {finding.message}")
