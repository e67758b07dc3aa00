"""From files to tensors on one grid: load, orient, resample, normalize, and the way back.

MONAI does the orientation and resampling; what leaves this module is plain tensors, because MetaTensor costs
several times the operation it wraps on every later step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, ResampleToMatch, Spacing
from torch import Tensor

from medmtl.data.crop import Box, Crop
from medmtl.data.nifti import Geometry, Volume, frames_first, read_volume
from medmtl.data.normalize import Normalizations, of_channel, parse_normalization, plain_normalization
from medmtl.data.overview import make_coarse
from medmtl.types import UNLABELLED, CaseError

ANISOTROPIC = 1.5
"""A volume whose coarsest axis is this much coarser than its finest is a stack of slices."""


@dataclass(frozen=True)
class Preparation:
    """How every case is brought onto the network's grid; lives in the plan and in the model file.

    Attributes:
        spacing_mm: target voxel size, the two in-plane axes and the stack axis; None keeps the case's own.
        patch: ``(X, Y, Z)`` voxels that the network sees at once.
        normalization: of intensities, one entry per channel or a single one for all; see `Normalization`.
        overview: ``(X, Y, Z)`` voxels of the coarser whole volume that tasks with a global view see where a
            case does not fit the patch; None where there is none.
    """

    spacing_mm: tuple[float | None, float | None, float | None]
    patch: tuple[int, int, int]
    normalization: Normalizations | str = "zscore"
    overview: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        """A name becomes what it stands for, so that equal preparations are equal."""
        if isinstance(self.normalization, str):
            object.__setattr__(self, "normalization", parse_normalization(self.normalization))

    @property
    def normalizations(self) -> Normalizations:
        """One entry per channel, or one for all."""
        found = parse_normalization(self.normalization)
        assert found is not None, "a preparation leaves nothing to the data"
        return found

    def as_plain(self) -> dict[str, Any]:
        """Plain data for the model file."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        plain["normalization"] = plain_normalization(self.normalizations)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> Preparation:
        """What `as_plain` wrote.

        Raises:
            ConfigError: a normalization that is none.
        """
        known = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
        if not isinstance(known["normalization"], str):
            known["normalization"] = parse_normalization(known["normalization"])
        return cls(**known)


@dataclass
class PreparedCase:
    """One case on the network's grid.

    Attributes:
        case_id: its name.
        image: ``(T, C, X, Y, Z)`` float32, normalized.
        spacing_mm: voxel size of ``image``.
        source: grid of the files that it came from.
        is_4d: whether the files have a time axis.
        affine: ``(4, 4)`` of ``image``.
        time_step_ms: time between frames, where the file says it.
        masks: by column, ``(T, X, Y, Z)`` uint8 with 255 = unlabelled.
        maps: by column, ``(T, X, Y, Z)`` float32 with NaN = unlabelled.
        labelled: by mask or map column, whether each of the T frames carries any label.
        values: by column, category index or number; a column that is not labelled is absent.
        frame_ed: end-diastolic frame, 0-based, where known.
        frame_es: end-systolic frame, 0-based, where known.
        centre: ``(3,)`` voxel around which the organ lies (the image centre when no mask says).
        covariates: ``(V,)`` scalar inputs in their own units, NaN where unknown.
        extent: ``(3,)`` voxels of the box around all that is labelled; zeros when no mask says.
        foreground: ``(N, 5)`` rows of structure, frame, x, y, z: labelled voxels to centre patches on.
        coarse: ``(T, C, x, y, z)`` the whole image, coarser, where the preparation has an overview.
    """

    case_id: str
    image: Tensor
    spacing_mm: tuple[float, float, float]
    source: Geometry
    is_4d: bool
    affine: np.ndarray
    time_step_ms: float | None = None
    masks: dict[str, Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)
    labelled: dict[str, tuple[bool, ...]] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    frame_ed: int | None = None
    frame_es: int | None = None
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    covariates: Tensor = field(default_factory=lambda: torch.empty(0))
    extent: tuple[int, int, int] = (0, 0, 0)
    foreground: Tensor = field(default_factory=lambda: torch.empty((0, 5), dtype=torch.int32))
    coarse: Tensor | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames T."""
        return int(self.image.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        x, y, z = (int(size) for size in self.image.shape[2:])
        return (x, y, z)

    @property
    def device(self) -> torch.device:
        """Where samples of it are made."""
        return self.image.device

    @property
    def in_parts(self) -> bool:
        """Whether it is worth knowing which part of the volume a patch needs.

        On a GPU the volume is at hand, and asking where a patch ends would wait for the device.
        """
        return self.image.device.type == "cpu"

    def crop(self, frames: Sequence[int], box: Box | None = None) -> Crop:
        """Some frames inside a box, or of the whole volume."""
        inside = slice(None) if box is None else (..., *box.slices)
        return Crop(
            _take(self.image, frames)[inside],
            {name: _take(mask, frames)[inside] for name, mask in self.masks.items()},
            {name: _take(values, frames)[inside] for name, values in self.maps.items()},
        )

    def whole(self, frames: Sequence[int], grid: Sequence[int]) -> Tensor:
        """Some frames of the whole image, coarse enough for an overview's grid: ``(F, C, x, y, z)``."""
        if self.coarse is None:
            self.coarse = make_coarse(self.image, grid)
        return _take(self.coarse, frames)


def _take(volumes: Tensor, frames: Sequence[int]) -> Tensor:
    """The chosen frames, without an index tensor that would have to reach the GPU first."""
    if list(frames) == list(range(len(volumes))):
        return volumes
    return torch.stack([volumes[frame] for frame in frames])


def stack_axcodes(affine: np.ndarray) -> str:
    """Axis codes that turn every axis toward R, A or S, with the slice axis of a stack last.

    An isotropic volume becomes RAS. A stack keeps its slices: its coarsest axis stays the third, so that a
    short-axis stack is never resliced because it happens to lie obliquely in the body.
    """
    codes = [{"L": "R", "P": "A", "I": "S"}.get(code, code) for code in nibabel.aff2axcodes(affine)]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.max() < ANISOTROPIC * spacing.min():
        return "RAS"
    coarsest = [code for code, size in zip(codes, spacing, strict=True) if size > 0.999 * spacing.max()]
    slice_axis = max(coarsest, key="RAS".index)  # the same of equal ones, however they are stored
    return "".join(code for code in "RAS" if code != slice_axis) + slice_axis


def to_grid(
    data: np.ndarray | Tensor, grid: Geometry, preparation: Preparation, *, mode: str = "bilinear"
) -> MetaTensor:
    """Orient and resample ``(T, X, Y, Z)`` onto the network's spacing; the affine travels along."""
    volume = MetaTensor(
        torch.as_tensor(np.ascontiguousarray(data)).float(), affine=torch.as_tensor(grid.affine)
    )
    volume = Orientation(axcodes=stack_axcodes(grid.affine), labels=None)(volume)
    own = np.linalg.norm(np.asarray(volume.affine)[:3, :3], axis=0)
    target = [float(o) if t is None else float(t) for o, t in zip(own, preparation.spacing_mm, strict=True)]
    if np.allclose(own, target, rtol=1e-4):
        return volume
    return Spacing(pixdim=target, mode=mode, padding_mode="border", dtype=torch.float32)(volume)


@dataclass(frozen=True)
class LoadedImage:
    """An image on the network's spacing.

    Attributes:
        image: ``(T, C, X, Y, Z)`` float32, normalized.
        affine: ``(4, 4)`` of ``image``.
        source: grid of the files.
        is_4d: whether the files have a time axis.
        time_step_ms: time between frames, where the file says it.
    """

    image: Tensor
    affine: np.ndarray
    source: Geometry
    is_4d: bool
    time_step_ms: float | None


def prepare_image(
    paths: Sequence[Path], preparation: Preparation, *, spacing_from_pixdim: bool = False
) -> LoadedImage:
    """Load the channels of one case, normalized and on the network's spacing.

    Raises:
        CaseError: a file cannot be read, has NaN or is constant, or the channels' grids differ.
    """
    volumes = ((str(p), read_volume(p, spacing_from_pixdim=spacing_from_pixdim)) for p in paths)
    return prepare_channels(volumes, preparation)


def prepare_channels(volumes: Iterable[tuple[str, Volume]], preparation: Preparation) -> LoadedImage:
    """The channels of one case, normalized and on the network's spacing.

    Args:
        volumes: what messages call it, and the voxels, of each channel.
        preparation: spacing, normalization.

    Raises:
        CaseError: a volume has NaN or is constant, or the channels' grids differ.
    """
    channels: list[Tensor] = []
    names: list[str] = []
    first: Geometry | None = None
    affine, is_4d, step = np.eye(4), False, None
    for path, volume in volumes:
        names.append(PurePath(path).name)
        data, grid = frames_first(volume.array), volume.geometry
        if not np.isfinite(data).all():
            raise CaseError(
                "NOT_AN_IMAGE", f"{path}: has NaN or infinite voxels; repair or leave out the case"
            )
        if data.min() == data.max():
            raise CaseError("NOT_AN_IMAGE", f"{path}: every voxel is {data.flat[0]}; there is no image in it")
        if first is not None and (difference := grid.differs_from(first)):
            raise CaseError("MIXED_GRID", f"{path}: {difference} of {names[0]}; resample it first")
        if channels and len(data) != len(channels[0]):
            raise CaseError(
                "MIXED_GRID", f"{path}: has {len(data)} frames, {names[0]} has {len(channels[0])}"
            )
        first = first or grid
        moved = to_grid(data.astype(np.float32), grid, preparation)
        affine, is_4d = np.asarray(moved.affine, dtype=np.float64), volume.array.ndim == 4
        step = step or volume.time_step_ms
        change = of_channel(preparation.normalizations, len(channels))
        channels.append(change(moved.as_tensor()))
    assert first is not None, "a case has at least one channel"
    return LoadedImage(torch.stack(channels, dim=1), affine, first, is_4d, step)


def prepare_mask(path: Path, image: Geometry, labels: Mapping[str, int], preparation: Preparation) -> Tensor:
    """Load a mask onto the network's grid: ``(T, X, Y, Z)`` uint8, 255 where nobody labelled.

    Each value is resampled by itself and the largest share wins, which keeps outlines smoother than nearest
    neighbour does.

    Raises:
        CaseError: it cannot be read, lies elsewhere than the image, or has a value that is not a label.
    """
    data, grid = _read_label(path, image)
    values = np.unique(data)
    unknown = sorted(set(values.tolist()) - {0, UNLABELLED, *labels.values()})
    if unknown:
        raise CaseError(
            "LABEL_VALUES", f"{path}: has value {unknown[0]:g}, known are 0, 255 and {dict(labels)}"
        )
    winner = largest = torch.empty(0)
    for value in values.tolist():  # one after the other: a hundred structures at once would fill the memory
        share = to_grid((data == value).astype(np.float32), grid, preparation).as_tensor()
        if not largest.numel():
            winner, largest = torch.full(share.shape, int(value), dtype=torch.uint8), share
            continue
        wins = share > largest
        winner[wins] = int(value)
        largest = torch.where(wins, share, largest)
    return winner


def prepare_map(path: Path, image: Geometry, preparation: Preparation) -> Tensor:
    """Load a map of real values onto the network's grid: ``(T, X, Y, Z)`` float32, NaN where unlabelled."""
    data, grid = _read_label(path, image)
    known = np.isfinite(data)
    total = to_grid(np.where(known, data, 0).astype(np.float32), grid, preparation).as_tensor()
    share = to_grid(known.astype(np.float32), grid, preparation).as_tensor()
    return torch.where(share > 0.5, total / share.clamp_min(1e-6), torch.nan)


def _read_label(path: Path, image: Geometry) -> tuple[np.ndarray, Geometry]:
    volume = read_volume(path)
    if difference := volume.geometry.differs_from(image):
        raise CaseError(
            "LABEL_GEOMETRY_MISMATCH", f"{path}: {difference} of its image; resample it onto the image"
        )
    return frames_first(volume.array), volume.geometry


def back_to_source(volume: Tensor, affine: np.ndarray, source: Geometry, *, mode: str = "bilinear") -> Tensor:
    """Resample ``(K, X, Y, Z)`` from the network's grid onto the files' own grid: ``(K, *source.shape)``."""
    moved = MetaTensor(volume.float(), affine=torch.as_tensor(affine))
    target = MetaTensor(torch.empty((1, *source.shape)), affine=torch.as_tensor(source.affine))
    return ResampleToMatch(mode=mode, padding_mode="border", dtype=torch.float32)(
        moved, img_dst=target
    ).as_tensor()


def labelled_frames(label: Tensor) -> tuple[bool, ...]:
    """For each frame of a prepared mask or map ``(T, X, Y, Z)``, whether it carries any label."""
    known = torch.isfinite(label) if label.is_floating_point() else label != UNLABELLED
    return tuple(bool(flag) for flag in known.flatten(1).any(1).tolist())
