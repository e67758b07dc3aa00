"""Multi-MNIST: two digits of different classes in one picture of 36 x 36.

After Sabour et al., NeurIPS 2017: a digit of 28 x 28 lies in the middle and is shifted by up to 4 pixels
along each axis; two are added and clipped. Gong et al. 2019 tell a left digit from a right one. The left
one is shifted by the whole 4 pixels toward the upper left, the right one toward the lower right, as
Sener and Koltun, NeurIPS 2018, have it: with shifts drawn from 0 to 4 toward the same corners, a LeNet
stays far below the paper's accuracies.
"""

from __future__ import annotations

import gzip
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from results import ROOT
from torch import Tensor

SIZE, DIGIT = 36, 28
FILES = {
    "train": ("train-images-idx3", "train-labels-idx1"),
    "test": ("t10k-images-idx3", "t10k-labels-idx1"),
}


@dataclass(frozen=True)
class Pictures:
    """Overlays of S slots.

    Attributes:
        images: ``(S, N, 36, 36)`` uint8.
        left: ``(S, N)`` int64 classes of the upper left digits.
        right: ``(S, N)`` int64 classes of the lower right digits.
    """

    images: Tensor
    left: Tensor
    right: Tensor


def default_folder() -> Path:
    """Where the four idx files lie beside the checkout."""
    return Path(os.environ.get("MEDMTL_REALDATA", ROOT.parent / "shared" / "data")) / "mnist"


def read_idx(path: Path) -> np.ndarray:
    """An array of unsigned bytes from an idx file, compressed or not."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    kind, dimensions = data[2], data[3]
    if data[:2] != b"\0\0" or kind != 8:
        raise SystemExit(f"{path} is no idx file of bytes")
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_mnist(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """``(N, 28, 28)`` uint8 digits and ``(N,)`` int64 classes."""
    arrays = []
    for stem in FILES[part]:
        found = [folder / f"{stem}-ubyte{suffix}" for suffix in (".gz", "")]
        path = next((candidate for candidate in found if candidate.is_file()), None)
        if path is None:
            raise SystemExit(f"{found[0]} is not there; give the folder of MNIST's four files with --data")
        arrays.append(read_idx(path))
    return torch.tensor(arrays[0]), torch.tensor(arrays[1]).long()


def overlay(
    digits: Tensor, classes: Tensor, seed: int, *, drawn: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """``(N, 36, 36)`` pictures with the classes of their left and right digits, one for each digit.

    ``drawn`` takes a shift from 0 to 4 along each axis for each digit, in place of 4.
    """
    g = torch.Generator().manual_seed(seed)
    count = len(digits)
    partner = torch.randperm(count, generator=g)
    while (same := (classes == classes[partner])).any():
        partner = torch.where(same, torch.randint(count, (count,), generator=g), partner)
    device = digits.device
    canvas = torch.zeros(count, SIZE, SIZE, dtype=torch.int16, device=device)
    free = SIZE - DIGIT
    for pictures, outer in ((digits, 0), (digits[partner.to(device)], free)):
        inward = torch.randint(free // 2 + 1, (count, 2), generator=g) if drawn else torch.zeros(count, 2)
        corner = (outer - inward.long()).abs()
        for y, x in torch.unique(corner, dim=0).tolist():
            here = (corner == torch.tensor([y, x])).all(1).to(device)
            padding = (x, free - x, y, free - y)
            canvas[here] += torch.nn.functional.pad(pictures[here].short(), padding)
    return canvas.clamp_max(255).to(torch.uint8), classes, classes[partner]


def make_pictures(
    folder: Path,
    part: str,
    seeds: list[int],
    limit: int | None = None,
    *,
    drawn: bool = False,
    device: torch.device | str = "cpu",
) -> Pictures:
    """A slot per seed, each with pairs and shifts of its own."""
    digits, classes = (array[:limit] for array in read_mnist(folder, part))
    made = [overlay(digits.to(device), classes, seed, drawn=drawn) for seed in seeds]
    images, left, right = (torch.stack(parts).to(device) for parts in zip(*made, strict=True))
    return Pictures(images, left, right)


class Batches:
    """Batches of pictures for every slot; a slot is a part of the pictures of one seed."""

    def __init__(self, pictures: Pictures, parts: tuple[float, ...], batch: int) -> None:
        seeds, count = pictures.left.shape
        self.pictures, self.batch = pictures, batch
        self.sizes = [max(batch, int(count * part)) for part in parts]
        self.at = [0] * len(parts)
        self.seeds = seeds
        device = pictures.images.device
        # Which pictures a part holds is drawn once per seed.
        self.generator = torch.Generator(device).manual_seed(0)  # the same batches for all arms
        whole = torch.rand(seeds, count, generator=self.generator, device=device).argsort(1)
        self.order = [whole[:, :size].clone() for size in self.sizes]

    def draw(self) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Pictures ``(S, B, 36, 36)``, classes ``(S, B)`` each, and the slots that begin an epoch."""
        chosen, began = [], []
        for part, size in enumerate(self.sizes):
            if self.at[part] + self.batch > size:
                self.at[part] = 0
            began.append(self.at[part] == 0)
            if began[-1]:
                order = self.order[part]
                shuffled = torch.rand(order.shape, generator=self.generator, device=order.device).argsort(1)
                self.order[part] = order.gather(1, shuffled)
            chosen.append(self.order[part][:, self.at[part] : self.at[part] + self.batch])
            self.at[part] += self.batch
        index = torch.cat(chosen)
        row = torch.arange(self.seeds, device=index.device).repeat(len(self.sizes))[:, None]
        classes = {"left": self.pictures.left[row, index], "right": self.pictures.right[row, index]}
        mark = None
        if any(began):
            mark = torch.tensor(began, device=index.device).repeat_interleave(self.seeds)
        return self.pictures.images[row, index], classes, mark
