"""A fingerprint in sentences, for the head of a plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medmtl.plan.fingerprint import Fingerprint, Labels
from medmtl.plan.outliers import missing_classes, spacing_outliers
from medmtl.plan.plan import Plan
from medmtl.plan.voxels import Voxels


def describe(found: Fingerprint, plan: Plan) -> list[str]:
    """Lines for a person: geometry, labels, intensities, structures, views, and what stands out."""
    voxels = found.voxels
    lines = ["What was found:", *_geometry(found)]
    lines += [f"  {name}: {_labels(labels)}" for name, labels in found.labels.items()]
    if voxels is not None:
        lines += _intensities(found.channels, voxels)
        lines += [
            f"  {column}.{name}: {s.volume_ml:.3g} mL ({s.smallest_ml:.3g} to {s.largest_ml:.3g}), in "
            f"{s.cases} cases"
            for column, structures in voxels.structures.items()
            for name, s in structures.items()
        ]
    lines += ["", *views(found, plan)]
    odd = [*spacing_outliers(found), *missing_classes(found, "cases")]
    if odd:
        lines += ["", "Look at:", *(f"  {sentence}" for sentence in odd)]
    return lines


def views(found: Fingerprint, plan: Plan) -> list[str]:
    """Which tasks see patches and which the whole, and whether that is the same."""
    local = [name for name, labels in found.labels.items() if labels.kind in ("mask", "map") and labels.cases]
    whole = [
        name for name, labels in found.labels.items() if labels.kind not in ("mask", "map") and labels.cases
    ]
    patch, shapes = plan.preparation.patch, found.resampled(plan.preparation.spacing_mm)
    fitting = int((shapes <= np.array(patch)).all(axis=1).sum())
    lines = []
    if local:
        lines.append(f"Local tasks (a value per voxel): {', '.join(local)}")
    if whole:
        lines.append(f"Global tasks (a value per case): {', '.join(whole)}")
    overview = plan.preparation.overview
    if fitting == len(shapes):
        same = "so both see the same tensor and the encoder runs once"
    elif overview is None:
        same = "the others are read patch by patch where a value per voxel is wanted"
    else:
        same = (
            "of the others, local tasks see patches and global tasks the whole in "
            f"{' x '.join(str(n) for n in overview)} voxels"
        )
    lines.append(f"{fitting} of {len(shapes)} cases fit the patch whole: {same}.")
    if found.voxels is not None and found.voxels.extent_mm is not None:
        spacing = [t or own for t, own in zip(plan.preparation.spacing_mm, found.spacing_mm, strict=True)]
        box = [round(mm / s) for mm, s in zip(found.voxels.extent_mm, spacing, strict=True)]
        lines.append(
            f"All that is labelled lies in {' x '.join(str(n) for n in box)} voxels (95 % of the cases): a "
            "patch of about that size sees the organ, and trains faster."
        )
    return lines


def _geometry(found: Fingerprint) -> list[str]:
    def span(rows: Sequence[Sequence[float]], axis: int) -> str:
        values = [row[axis] for row in rows]
        low, high = f"{min(values):.3g}", f"{max(values):.3g}"
        median = f"{float(np.median(values)):.3g}"
        return median if low == high else f"{median} ({low} to {high})"

    shapes = " x ".join(span(found.shapes, axis) for axis in range(3))
    fewest, most = min(found.frames), max(found.frames)
    if most > 1:
        shapes += f", {fewest} frames" if fewest == most else f", {fewest} to {most} frames"
    return [
        f"  voxels: {' x '.join(span(found.spacings, axis) for axis in range(3))} mm",
        f"  shape: {shapes}",
        f"  channels: {', '.join(found.channels)} ({found.modality or 'no modality given'})",
    ]


def _labels(labels: Labels) -> str:
    words = f"{labels.kind}, labelled in {labels.cases} cases"
    if labels.classes:
        words += f" ({', '.join(f'{name} {count}' for name, count in labels.classes.items())})"
    return words


def _intensities(channels: Sequence[str], voxels: Voxels) -> list[str]:
    return [
        f"  {name}, {voxels.foreground}: {seen.low:.4g} to {seen.high:.4g} (0.5 to 99.5 %), median "
        f"{seen.median:.4g}, mean {seen.mean:.4g}, standard deviation {seen.sd:.4g}"
        for name, seen in zip(channels, voxels.intensities, strict=True)
    ]
