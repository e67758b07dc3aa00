"""Patch, network and batch size, which hang on each other and on the memory there is."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import yaml

from medmtl.data.room import readable
from medmtl.models import BACKBONES
from medmtl.plan.budget import Budget
from medmtl.plan.fingerprint import Fingerprint
from medmtl.plan.memory import Need, divisor_of, training_need
from medmtl.plan.patch import DEEP, Shaped, Shaping, first_patch, fit_patch, spacing_of
from medmtl.plan.spacing import Target
from medmtl.plan.topology import LEVELS, total_stride, usual_widths
from medmtl.plan.wishes import Load, Wishes
from medmtl.types import ConfigError

SMALLEST_BATCH = 2
"""Cases per step, at least: task weights and losses of case-level tasks are taken over them."""
SHARE_OF_DATA = 0.05
"""No step sees more than this share of the data's voxels (nnU-Net's)."""
USUAL_BATCH = 4
"""Cases per step where the memory of a backbone cannot be counted."""


@dataclass(frozen=True)
class NetworkPlan:
    """Patch, network and batch for a voxel size.

    Attributes:
        found: the data.
        wishes: what is not left open.
        budget: memory.
        load: what a step carries besides the backbone.
        spacing: voxel size on the network's grid.
    """

    found: Fingerprint
    wishes: Wishes
    budget: Budget
    load: Load
    spacing: Target

    @property
    def _keeps_slices(self) -> bool:
        return self.spacing[2] is None and self.found.is_stack

    def patch_and_backbone(self, reasons: dict[str, list[str]]) -> tuple[list[int], dict[str, Any]]:
        """What each of them is; adds why to the reasons, where it was left open."""
        network = {"type": "unet", **self.wishes.backbone}
        shaped = self._shaped(network, reasons)
        if is_shaped(network):
            if not {"kernels", "strides"} <= network.keys():
                reasons["backbone"] = [self._why_topology(shaped)]
            network.setdefault("kernels", shaped.kernels)
            network.setdefault("strides", shaped.strides)
            network.setdefault("widths", usual_widths(len(network["strides"])))
            network["widths"] = list(network["widths"])[: len(network["strides"])]
        _check_divisible(shaped.patch, self.divisor(network))
        return shaped.patch, network

    def need(self, backbone: Mapping[str, Any], patch: Sequence[int]) -> Need | None:
        """Memory of a step with this network and patch."""
        return training_need(
            backbone,
            patch,
            channels=len(self.found.channels),
            value_bytes=self.budget.value_bytes,
            dense_channels=self.load.dense_channels,
            decoders=self.load.decoders,
        )

    def divisor(self, backbone: Mapping[str, Any]) -> Sequence[int]:
        """What each side of an input must be a multiple of."""
        if "strides" in backbone:
            return total_stride(backbone["strides"])
        return divisor_of(yaml.safe_dump(dict(backbone)), len(self.found.channels))

    def batch_size(self, patch: Sequence[int], need: Need | None, reasons: dict[str, list[str]]) -> int:
        """Cases per step; adds why to the reasons, where it was left open."""
        if self.wishes.batch_size is not None:
            return self.wishes.batch_size
        if need is None:
            reasons["batch_size"] = ["The usual: what this backbone takes in memory cannot be counted."]
            return max(USUAL_BATCH, self.load.ranks)
        frames = self.load.frames_per_case
        per_case = self.load.volumes_per_case
        fitting = math.floor(need.volumes_in(self.budget.planned) / per_case) * self.load.ranks
        volumes = sum(min(f, max(1.0, frames)) for f in self.found.frames)
        median = float(np.prod(np.median(self.found.resampled(self.spacing), axis=0)))
        share = round(SHARE_OF_DATA * volumes * median / (prod(patch) * frames))
        batch = max(SMALLEST_BATCH, self.load.ranks, min(fitting, share))
        limit = "no step is to see more than 5 % of the data" if share < fitting else "no more would fit"
        taken, planned = readable(need.of(self.load.volumes(batch))), readable(self.budget.planned)
        views = ", in two views" if self.load.overview else ""
        words = (
            f"Cases, each with {frames:.3g} frames per step{views}. They take about {taken} of the {planned}"
        )
        reasons["batch_size"] = [f"{words} planned for ({self.budget.device}); {limit}."]
        return batch

    def _shaped(self, network: Mapping[str, Any], reasons: dict[str, list[str]]) -> Shaped:
        """The patch that was asked for, or the largest that fits; with kernels and strides that suit it."""
        strides = network.get("strides")
        if not is_shaped(network):
            strides = [divisor_of(yaml.safe_dump(dict(network)), len(self.found.channels))]
        shape = Shaping(
            spacing_of(self.found, self.spacing),
            keep_slices=self._keeps_slices,
            levels=len(network["widths"]) if "widths" in network else LEVELS,
            strides=strides,
        )
        if self.wishes.patch is not None:
            return shape([int(p) for p in self.wishes.patch], pad=False)
        start = first_patch(self.found, self.spacing)
        cases = self.wishes.batch_size or max(SMALLEST_BATCH, self.load.ranks)
        volumes = self.load.volumes(cases)

        def fits(shaped: Shaped) -> bool:
            need = self.need(self._complete(network, shaped), shaped.patch)
            return need is None or need.of(volumes) <= self.budget.planned

        shaped = fit_patch(start, shape, fits)
        if shaped is None:
            raise ConfigError(
                f"no patch fits into {readable(self.budget.planned)} ({self.budget.device}) with {cases} "
                "cases per step; take smaller backbone.widths, or a smaller training.batch_size"
            )
        whole = all(p >= s for p, s in zip(shaped.patch, start, strict=True))
        reasons["patch"] = [self._why_patch(start, cases, whole=whole)]
        return shaped

    def _complete(self, network: Mapping[str, Any], shaped: Shaped) -> dict[str, Any]:
        if not is_shaped(network):
            return dict(network)
        full = {"kernels": shaped.kernels, "strides": shaped.strides, **network}
        full["widths"] = list(full.get("widths", usual_widths(len(full["strides"]))))[: len(full["strides"])]
        return full

    def _why_patch(self, start: Sequence[int], cases: int, *, whole: bool) -> str:
        shapes = self.found.resampled(self.spacing)
        median = " x ".join(f"{n:.0f}" for n in np.median(shapes, axis=0))
        words = f"The median case has {median} voxels at this spacing"
        if self._keeps_slices:
            words += f", the deepest stack {int(shapes[:, 2].max())} slices"
        if whole:
            return f"{words}; a patch sees a median case whole."
        return (
            f"{words}. {cases} cases per step have to fit into {readable(self.budget.planned)} "
            f"({self.budget.device}), so {' x '.join(str(n) for n in start)} voxels were cut down."
        )

    def _why_topology(self, shaped: Shaped) -> str:
        if self._keeps_slices and shaped.patch[2] <= DEEP:
            return (
                "In-plane nnU-Net's rule: pooled while 8 voxels are left. Slices are convolved over from the "
                "level on which voxels are as wide as slices lie apart, and never pooled."
            )
        return "nnU-Net's rules: coarse axes are convolved over, and pooled, once the others come near them."


def is_shaped(backbone: Mapping[str, Any]) -> bool:
    """Whether a backbone takes kernels and strides, and so can be shaped by the data."""
    cls = BACKBONES.get(str(backbone["type"]))
    return {"widths", "kernels", "strides"} <= set(inspect.signature(cls).parameters)


def _check_divisible(patch: Sequence[int], divisor: Sequence[int]) -> None:
    for axis, product in enumerate(divisor):
        if patch[axis] % product:
            raise ConfigError(
                f"patch: {patch[axis]} voxels along {'xyz'[axis]} are not a multiple of the network's stride "
                f"{product}; use {-(-patch[axis] // product) * product}"
            )
