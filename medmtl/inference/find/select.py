"""Chooses the volumes of a study by a rule, and says of every other series why it was left.

Of the volumes that meet a channel's rule the first in this order is taken: one that needs no resampling
before one that does; one that no warning was given about; a volume as it was acquired before one derived from
others; more frames; more images; then the order of the series.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.model import Scan, Series, VolumePlan
from medmtl.inference.find.rule import ChannelRule, Orientation, Rule
from medmtl.types import Finding

ORIENTATIONS: Mapping[Orientation, tuple[tuple[float, float, float], float]] = {
    "short-axis": ((-0.64, 0.54, -0.54), 45.0),
    "axial": ((0.0, 0.0, 1.0), 30.0),
    "coronal": ((0.0, 1.0, 0.0), 30.0),
    "sagittal": ((1.0, 0.0, 0.0), 30.0),
}
"""Where the slices' normal points (RAS), and within how many degrees. That of short-axis slices is the left
ventricle's long axis, which in most people points to the left, forwards and down."""
_MOST_NAMED = 4
_NEAREST = ("rank", "slices", "frames", "orientation", "description", "modality")
"""Reasons, of series that nearly fit first."""


@dataclass(frozen=True)
class Left:
    """A series that was not taken.

    Attributes:
        name: its volume's name, or its number, without patient data.
        reason: short, to count by: a finding code, or the part of the rule that it does not meet.
        text: one sentence.
    """

    name: str
    reason: str
    text: str


@dataclass(frozen=True, eq=False)
class Choice:
    """What was taken of a study.

    Attributes:
        plans: a volume per channel; empty where one has none.
        left: what else there is, and why it was left.
        refused: (code, message) where nothing was taken.
    """

    plans: tuple[VolumePlan, ...]
    left: tuple[Left, ...]
    refused: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """Names of the volumes, ``+`` between channels."""
        return "+".join(plan.name for plan in self.plans)

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID of the volumes, ``+`` between channels."""
        return "+".join(plan.series_uid for plan in self.plans)


def choose(scan: Scan, rule: Rule) -> Choice:
    """Take the best volume for every channel.

    Args:
        scan: of one study.
        rule: what the channels have to be.
    """
    volumes = [(series, plan) for series in scan.series for plan in series.volumes]
    taken: list[VolumePlan] = []
    missing = ""
    for name, channel in rule.channels.items():
        fitting = [
            (rank(plan), number, plan)
            for number, (series, plan) in enumerate(volumes)
            if objection(series, plan, channel) is None and plan not in taken
        ]
        if not fitting:
            missing = name
            break
        taken.append(min(fitting, key=lambda found: found[:2])[2])
    left = tuple(_left(scan, rule, () if missing else taken))
    if not missing:
        return Choice(tuple(taken), left)
    return Choice((), left, _refusal(scan, rule, missing, left))


def rank(plan: VolumePlan) -> tuple[bool, bool, bool, int, int]:
    """The order in which volumes that meet a rule are taken, smallest first."""
    warned = any(finding.severity == "warning" for finding in plan.findings)
    derived = bool(plan.attributes.get("Derived") or plan.attributes.get("Projection"))
    return plan.correction is not None, warned, derived, -plan.frames, -len(plan.planes) * plan.frames


def objection(series: Series, plan: VolumePlan, channel: ChannelRule) -> tuple[str, str] | None:
    """The first part of a rule that a volume does not meet: a short reason and half a sentence; or None."""
    localizer = any(finding.code == "LOCALIZER" for finding in (*series.findings, *plan.findings))
    if localizer:
        return "LOCALIZER", "is a localizer"
    if channel.modality and plan.modality not in channel.modality:
        return "modality", f"is {plan.modality or 'of no modality'}, not {' or '.join(channel.modality)}"
    if any(_fits(plan.description, pattern) for pattern in channel.exclude):
        return "description", "has a description that the rule excludes"
    if channel.description and not any(_fits(plan.description, p) for p in channel.description):
        return "description", f"has a description that does not fit {' or '.join(channel.description)}"
    if channel.orientation != "any" and not is_oriented(plan, channel.orientation):
        return "orientation", f"is not {channel.orientation}"
    low, high = channel.frames
    if (low is not None and plan.frames < low) or (high is not None and plan.frames > high):
        return "frames", f"has {plan.frames} frame(s), not {_range_text(low, high)}"
    if plan.shape[2] < channel.min_slices:
        return "slices", f"has {plan.shape[2]} slices, fewer than {channel.min_slices}"
    return None


def is_oriented(plan: VolumePlan, orientation: Orientation) -> bool:
    """Whether the normal of a stack's slices points where an orientation wants it."""
    return points(np.cross(plan.affine[:3, 0], plan.affine[:3, 1]), orientation)


def points(normal: NDArray[np.float64], orientation: Orientation) -> bool:
    """Whether a direction (RAS) lies within an orientation's cone, either way round."""
    axis, within = ORIENTATIONS[orientation]
    cosine = float(normal @ axis) / float(np.linalg.norm(normal) * np.linalg.norm(axis))
    return bool(abs(cosine) >= np.cos(np.radians(within)))


def summary(left: Sequence[Left]) -> str:
    """``17 series left: 12 description, 3 LOCALIZER, 2 frames``; blank where none was."""
    if not left:
        return ""
    counts = Counter(one.reason for one in left).most_common()
    return f"{len(left)} series left: {', '.join(f'{count} {reason}' for reason, count in counts)}"


def sentences(left: Sequence[Left]) -> tuple[str, ...]:
    """The summary, and a sentence for every series that was left."""
    return (summary(left), *(one.text for one in left)) if left else ()


def _left(scan: Scan, rule: Rule, taken: Sequence[VolumePlan]) -> Iterator[Left]:
    for series in sorted(scan.series, key=lambda series: not series.volumes):
        if not series.volumes:
            yield _without_volume(series)
        for plan in series.volumes:
            if any(plan is other for other in taken):
                continue
            objections = [objection(series, plan, channel) for channel in rule.channels.values()]
            if any(found is None for found in objections):
                yield Left(plan.name, "rank", f"{_named(plan)} fits too, and another was preferred")
            elif found := objections[0]:
                yield Left(plan.name, found[0], f"{_named(plan)} {found[1]}")


def _without_volume(series: Series) -> Left:
    """A series that gives no volume, with its first error, or else what it is."""
    told: Finding | None = min(
        series.findings, key=lambda f: ("error", "warning", "info").index(f.severity), default=None
    )
    name = f"a series of {series.instances} {series.modality or 'unknown'} file(s)"
    if told is None:
        return Left(name, "NO_USABLE_SERIES", f"{name} gives no volume")
    return Left(name, told.code, f"{name}: {told.message}")


def _named(plan: VolumePlan) -> str:
    return f"{plan.name} ({plan.modality}, {' x '.join(map(str, plan.shape))})"


def _refusal(scan: Scan, rule: Rule, channel: str, left: Sequence[Left]) -> tuple[str, str]:
    """Why a study has nothing to predict: the only series' own error, or what none of them meets."""
    errors = [f for series in scan.series for f in series.findings if f.severity == "error"]
    if errors and not any(series.volumes for series in scan.series):
        told = errors[0]
        return told.code, told.message if told.where in told.message else f"{told.message} ({told.where})"
    wanted = "a volume that the model can use" if len(rule.channels) == 1 else f"a volume for {channel}"
    nearest = sorted(left, key=lambda one: _NEAREST.index(one.reason) if one.reason in _NEAREST else 9)
    why = "; ".join(one.text for one in nearest[:_MOST_NAMED])
    more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    text = f"none of its series is {wanted}: {summary(left) or 'it has none'}"
    return "NO_USABLE_SERIES", f"{text} ({why}{more}); choose otherwise with --select" if why else text


def _range_text(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return str(low) if low == high else f"{low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}"


def _fits(description: str, pattern: str) -> bool:
    """Whether a description holds a word, or is what a glob says; in any case."""
    text, wanted = description.lower(), pattern.lower()
    if "*" not in wanted and "?" not in wanted:
        return wanted in text
    return fnmatch.fnmatchcase(text, wanted.replace("[", "[[]"))
