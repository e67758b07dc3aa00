"""The plan: on which grid the network works and how it is shaped; what a config leaves open, data decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medmtl.data.prepare import Preparation
from medmtl.plan.fingerprint import Fingerprint
from medmtl.plan.topology import network_topology
from medmtl.types import ConfigError

PATCH_VOXELS = 160 * 160 * 16
"""Voxels of a patch that the data chooses; a config may ask for more."""


@dataclass(frozen=True)
class Plan:
    """What `make_plan` decided.

    Attributes:
        preparation: grid, patch and normalization.
        backbone: ``type`` and arguments of the backbone, complete.
        reasons: one sentence per decision.
    """

    preparation: Preparation
    backbone: dict[str, Any]
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `plan.yaml`."""
        return {
            "spacing_mm": list(self.preparation.spacing_mm),
            "patch": list(self.preparation.patch),
            "normalization": self.preparation.normalization,
            "backbone": self.backbone,
            "reasons": list(self.reasons),
        }


def make_plan(
    found: Fingerprint,
    *,
    backbone: dict[str, Any],
    spacing_mm: Sequence[float | None] | None = None,
    patch: Sequence[int] | None = None,
    normalization: str = "zscore",
) -> Plan:
    """Fill in what the config left open.

    Args:
        found: fingerprint of the training cases.
        backbone: ``type`` and arguments; for a ``unet``, ``kernels`` and ``strides`` may be missing.
        spacing_mm: target voxel size; None entries keep the case's own.
        patch: voxels that the network sees at once.
        normalization: see `Preparation`.

    Raises:
        ConfigError: the patch cannot be divided by the network's strides.
    """
    reasons: list[str] = []
    if spacing_mm is None:
        spacing_mm = [
            found.spacing_mm[0],
            found.spacing_mm[1],
            None if found.is_stack else found.spacing_mm[2],
        ]
        kept = ", slices are kept as they are" if found.is_stack else ""
        reasons.append(f"spacing: the median of the training cases{kept}")
    target = [
        own if wanted is None else wanted for own, wanted in zip(found.spacing_mm, spacing_mm, strict=True)
    ]
    scale = [own / new for own, new in zip(found.spacing_mm, target, strict=True)]
    network = dict(backbone)
    levels = len(network.get("widths", (32, 64, 128, 256, 320)))
    if patch is None:
        patch = _patch([n * s for n, s in zip(found.shape, scale, strict=True)], found.largest[2] * scale[2])
        reasons.append(f"patch: the median volume, cut in-plane to at most {PATCH_VOXELS} voxels")
    if network.get("type", "unet") == "unet":
        network["type"] = "unet"
        kernels, strides = network_topology(target, patch, levels)
        network.setdefault("kernels", kernels)
        network.setdefault("strides", strides)
        network["widths"] = list(network.get("widths", (32, 64, 128, 256, 320)))[: len(network["strides"])]
        if not {"kernels", "strides"} <= backbone.keys():
            reasons.append("kernels and strides: nnU-Net's rules on the target spacing and patch")
        for axis, name in enumerate("xyz"):
            product = 1
            for stride in network["strides"]:
                product *= stride[axis]
            if patch[axis] % product:
                raise ConfigError(
                    f"patch: {patch[axis]} voxels along {name} are not a multiple of the network's stride "
                    f"{product}; use {-(-patch[axis] // product) * product}"
                )
    x, y, z = (None if s is None else float(s) for s in spacing_mm)
    px, py, pz = (int(p) for p in patch)
    return Plan(Preparation((x, y, z), (px, py, pz), normalization), network, tuple(reasons))


def _patch(shape: Sequence[float], deepest: float) -> list[int]:
    """Patch of at most PATCH_VOXELS, a multiple of 16 in-plane; the whole stack up to 16 slices."""
    depth = round(deepest) if deepest <= 16 else max(8, 8 * round(min(shape[2], 64) / 8))
    x, y = (max(16, 16 * round(size / 16)) for size in shape[:2])
    while x * y * depth > PATCH_VOXELS:
        if x >= y:
            x -= 16
        else:
            y -= 16
    return [x, y, depth]
