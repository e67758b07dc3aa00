"""The overview: whole volumes, coarser, for case tasks whose volumes are larger than the patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from medmtl.data.overview import coarse_mm, coarse_shape
from medmtl.data.prepare import Preparation
from medmtl.plan.fingerprint import Fingerprint
from medmtl.plan.patch import spacing_of
from medmtl.plan.spacing import Target
from medmtl.plan.wishes import Load, Wishes
from medmtl.types import ConfigError

Triple = tuple[int, int, int]


def plan_overview(
    found: Fingerprint,
    wishes: Wishes,
    patch: Sequence[int],
    spacing: Target,
    reasons: dict[str, list[str]],
) -> Triple | None:
    """Voxels of the overview, or None; adds why to the reasons, where it was left open.

    It is made where a task asks for it. Where tasks leave it open, it is made if the patch was planned, the
    median case does not fit it, and all that is labelled does not either, as far as that was measured. A
    patch that a person chose is what they want to be seen, and one that holds the organ shows what case tasks
    need.

    Args:
        found: the data.
        wishes: what is not left open.
        patch: as planned.
        spacing: of the network's grid.
        reasons: by key of `plan.yaml`.
    """
    if not isinstance(wishes.overview, str):
        x, y, z = (int(n) for n in wishes.overview)
        return (x, y, z)
    if wishes.overview == "none" or not wishes.views:
        return None
    median = [round(float(n)) for n in np.median(found.resampled(spacing), axis=0)]
    why = _why_none(found, wishes, patch, spacing, median)
    if why:
        reasons["overview"] = [why]
        return None
    x, y, z = (int(n) for n in patch)
    own = spacing_of(found, spacing)
    coarse = coarse_shape(median, patch)
    mm = " x ".join(f"{n:.3g}" for n in coarse_mm(own, median, coarse))
    words = f"made coarser into as many voxels as the patch has (a median case at {mm} mm)"
    reasons["overview"] = [
        f"Case tasks see whole volumes, {words}, through the same encoder.",
        "A volume that fits the patch is seen once, in the patch.",
    ]
    return (x, y, z)


def _why_none(
    found: Fingerprint, wishes: Wishes, patch: Sequence[int], spacing: Target, median: Sequence[int]
) -> str:
    """Why there is no overview; blank where there is one."""
    if "global" in wishes.views:
        return ""
    if "auto" not in wishes.views:
        return "Every case task asks for the local view."
    if wishes.patch is not None:
        return "The patch was asked for, and is what case tasks see."
    if all(n <= p for n, p in zip(median, patch, strict=True)):
        return "The median case fits the patch whole, so case tasks see it there."
    if found.voxels is not None and found.voxels.extent_mm is not None:
        own = spacing_of(found, spacing)
        organ = [mm / s for mm, s in zip(found.voxels.extent_mm, own, strict=True)]
        if all(n <= p for n, p in zip(organ, patch, strict=True)):
            return "All that is labelled fits the patch (95 % of the cases), so case tasks see it there."
    return ""


def with_share(load: Load, overview: Sequence[int], patch: Sequence[int]) -> Load:
    """What a step carries with a second view.

    An overview is counted as a patch of its size, decoder and all, which is more than it takes.
    """
    return replace(load, overview=prod(overview) / prod(patch))


def with_overview(load: Load, preparation: Preparation) -> Load:
    """What a step of a plan carries."""
    if preparation.overview is None:
        return load
    return with_share(load, preparation.overview, preparation.patch)


def check_overview(overview: Sequence[int] | None, divisor: Sequence[int]) -> None:
    """Refuse an overview that the network cannot pool.

    Raises:
        ConfigError: so; names a number that it can.
    """
    for axis, (size, step) in enumerate(zip(overview or (), divisor, strict=False)):
        if size % step:
            raise ConfigError(
                f"preparation.overview: {size} voxels along {'xyz'[axis]} are not a multiple of the "
                f"network's stride {step}; use {-(-size // step) * step}"
            )
