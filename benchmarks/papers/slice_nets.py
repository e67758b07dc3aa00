"""Slices of made-up hearts, and small networks with three tasks on them, side by side as groups."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from lenet import uniform
from torch import Tensor
from torch.nn import functional as F

TASKS = ("anatomy", "t1", "areas")
LAYERS = {  # name: inputs, outputs; each 3 x 3
    "one": (1, 8), "two": (8, 16), "three": (16, 16), "up": (16, 16), "shared": (24, 16),
    "anatomy": (16, 4), "t1": (16, 1),
}  # fmt: skip
Data = dict[str, Tensor]


def make_slices(path: Path, cases: int) -> None:
    """Draws middle slices of the first and the emptiest frame of phantoms, test cases last."""
    from medmtl.data.phantom import make_case

    found: dict[str, list[np.ndarray]] = {"image": [], "anatomy": [], "t1": []}
    for index in range(cases):
        case = make_case(index, frames=2, shape=(32, 32, 6), spacing_mm=(5.0, 5.0, 14.0))
        for frame in range(2):
            for z in (2, 3, 4):
                found["image"].append(case.images["cine"][frame, :, :, z])
                found["anatomy"].append(case.anatomy[frame, :, :, z])
                found["t1"].append(np.nan_to_num(case.t1[frame, :, :, z]).astype(np.float16))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name: np.stack(parts) for name, parts in found.items()})


def read_slices(path: Path, device: torch.device) -> tuple[Data, Data]:
    """Training and test slices: the last quarter of the cases is the test."""
    if not path.is_file():
        raise SystemExit(f"{path} is not there; draw the slices with --make {path}")
    with np.load(path, allow_pickle=False) as stored:
        image, anatomy, t1 = (
            torch.tensor(stored[name].astype(np.float32)) for name in ("image", "anatomy", "t1")
        )
    middle, spread = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True)
    areas = torch.stack(
        [(anatomy == label).float().sum((1, 2)) * 0.25 for label in (3, 2, 1)], 1
    )  # 5 mm pixels
    whole = {
        "image": ((image - middle) / spread)[:, None],
        "anatomy": anatomy.long(),
        "t1": t1 / 100,
        "areas": areas,
    }
    first_test = len(image) // 24 * 18
    whole = {name: part.to(device) for name, part in whole.items()}
    return {n: p[:first_test] for n, p in whole.items()}, {n: p[first_test:] for n, p in whole.items()}


class Nets:
    """M small networks as one of M groups."""

    def __init__(self, seeds: list[int], device: torch.device) -> None:
        self.count = len(seeds)
        self.parameters: dict[str, Tensor] = {}
        shapes = {name: ((b, a, 3, 3), 9 * a) for name, (a, b) in LAYERS.items()}
        shapes |= {"areas": ((16, 3), 16)}
        for name, (shape, fan_in) in shapes.items():
            values = math.sqrt(6) * uniform(shape, fan_in, seeds, name)
            self.parameters[name] = values.to(device).requires_grad_()
            bias = torch.zeros(self.count, shape[0] if name != "areas" else 3, device=device)
            self.parameters[f"{name}.bias"] = bias.requires_grad_()

    def layer(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        p = self.parameters
        weight, bias = p[name].flatten(0, 1), p[f"{name}.bias"].flatten()
        return F.conv2d(x, weight, bias, stride=stride, padding=1, groups=self.count)

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """From ``(B, 1, 32, 32)``, the same for all: ``(B, M, ...)``."""
        x = F.relu(self.layer("one", image.expand(-1, self.count, -1, -1)))
        deep = F.relu(self.layer("two", x, stride=2))
        deep = F.relu(self.layer("three", deep, stride=2))
        up = F.interpolate(F.relu(self.layer("up", deep)), scale_factor=4.0, mode="nearest")
        both = torch.cat([part.unflatten(1, (self.count, -1)) for part in (x, up)], dim=2).flatten(1, 2)
        shared = F.relu(self.layer("shared", both))
        pooled = shared.unflatten(1, (self.count, -1)).sum((3, 4)) / 64
        areas = torch.einsum("bmc,mco->bmo", pooled, self.parameters["areas"]) + self.parameters["areas.bias"]
        return {
            "anatomy": self.layer("anatomy", shared).unflatten(1, (self.count, -1)),
            "t1": self.layer("t1", shared),
            "areas": areas,
        }

    def losses(self, out: dict[str, Tensor], data: Data) -> Tensor:
        """``(M, 3)``."""
        target = data["anatomy"][:, None].expand(-1, self.count, -1, -1)
        entropy = F.cross_entropy(out["anatomy"].transpose(1, 2), target, reduction="none").mean((0, 2, 3))
        heart = (data["t1"] > 0)[:, None]
        error = torch.where(heart, out["t1"] - data["t1"][:, None], 0.0).square().sum((0, 2, 3)) / heart.sum()
        areas = (out["areas"] - data["areas"][:, None]).square().mean((0, 2))
        return torch.stack([entropy, error, areas], 1)

    @torch.no_grad()
    def errors(self, data: Data) -> Tensor:
        """``(M, 3)``: 1 - mean Dice of three structures, root mean square errors of T1 and of the areas."""
        device = data["image"].device
        both, every = torch.zeros(3, self.count, device=device), torch.zeros(3, self.count, device=device)
        square, area = torch.zeros(self.count, device=device), torch.zeros(self.count, device=device)
        voxels = torch.zeros((), device=device)
        for start in range(0, len(data["image"]), 100):
            part = {name: values[start : start + 100] for name, values in data.items()}
            out = self(part["image"])
            labels = torch.arange(1, 4, device=part["image"].device)[:, None, None, None, None]
            seen = out["anatomy"].argmax(2) == labels  # (3, B, M, X, Y)
            true = (part["anatomy"][:, None] == labels).expand_as(seen)
            both = both + 2 * (seen & true).sum((1, 3, 4))
            every = every + seen.sum((1, 3, 4)) + true.sum((1, 3, 4))
            heart = (part["t1"] > 0)[:, None]
            square = square + torch.where(heart, out["t1"] - part["t1"][:, None], 0.0).square().sum((0, 2, 3))
            voxels = voxels + heart.sum()
            area = area + (out["areas"] - part["areas"][:, None]).square().mean(2).sum(0)
        dice = (both / every.clamp_min(1)).mean(0)
        return torch.stack([1 - dice, (square / voxels).sqrt(), (area / len(data["image"])).sqrt()], 1)
