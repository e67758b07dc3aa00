"""The plan: on which grid the network works, how it is shaped, how many cases make a step.

What a config or a person's plan leaves open, the data and the memory decide; each decision has its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from medmtl.data.normalize import plain_normalization
from medmtl.data.prepare import Preparation
from medmtl.plan.budget import Budget
from medmtl.plan.fingerprint import Fingerprint
from medmtl.plan.intensities import complete_normalization, wanted_normalization
from medmtl.plan.memory import Need
from medmtl.plan.network import NetworkPlan
from medmtl.plan.overview import check_overview, plan_overview, with_share
from medmtl.plan.spacing import target_spacing
from medmtl.plan.wishes import Load, Wishes


@dataclass(frozen=True)
class Plan:
    """What `make_plan` decided.

    Attributes:
        preparation: grid, patch and normalization.
        backbone: ``type`` and arguments of the backbone, complete.
        batch_size: cases per step.
        reasons: by key of `plan.yaml`, sentences; empty for what was asked for.
        need: memory of a step, where it can be counted.
    """

    preparation: Preparation
    backbone: dict[str, Any]
    batch_size: int
    reasons: dict[str, list[str]]
    need: Need | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `plan.yaml`."""
        return {
            "spacing_mm": list(self.preparation.spacing_mm),
            "patch": list(self.preparation.patch),
            "overview": "none" if self.preparation.overview is None else list(self.preparation.overview),
            "normalization": plain_normalization(self.preparation.normalizations),
            "backbone": self.backbone,
            "batch_size": self.batch_size,
        }


def make_plan(found: Fingerprint, wishes: Wishes, budget: Budget, load: Load | None = None) -> Plan:
    """Fill in what was left open.

    Args:
        found: fingerprint of the cases outside the test split, with voxels where a window has to be measured.
        wishes: what was not left open.
        budget: memory to plan for.
        load: what a step carries besides the backbone.

    Raises:
        ConfigError: the patch cannot be divided by the network's strides, or nothing fits the memory; says
            which number to change.
    """
    carried = load or Load()
    reasons: dict[str, list[str]] = {}
    spacing, why = target_spacing(found, wishes.slices)
    if wishes.spacing_mm is None:
        reasons["spacing_mm"] = [why]
    else:
        x, y, z = (None if s is None else float(s) for s in wishes.spacing_mm)
        spacing = (x, y, z)
    asked = wanted_normalization(found, wishes.normalization)
    normalization, words = complete_normalization(asked, found)
    if wishes.normalization in (None, "auto") or not all(entry.is_complete for entry in asked):
        reasons["normalization"] = words
    shaping = NetworkPlan(found, wishes, budget, carried, spacing)
    patch, backbone = shaping.patch_and_backbone(reasons)
    overview = plan_overview(found, wishes, patch, spacing, reasons)
    if overview is not None:  # the second view takes memory too, so the patch may have to be smaller
        shaping = replace(shaping, load=with_share(carried, overview, patch))
        patch, backbone = shaping.patch_and_backbone(reasons)
        overview = plan_overview(found, wishes, patch, spacing, reasons)
    check_overview(overview, shaping.divisor(backbone))
    need = shaping.need(backbone, patch)
    batch = shaping.batch_size(patch, need, reasons)
    px, py, pz = patch
    preparation = Preparation(spacing, (px, py, pz), normalization, overview)
    return Plan(preparation, backbone, batch, reasons, need)
