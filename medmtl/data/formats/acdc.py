"""ACDC: one folder per patient with an ED and an ES frame, their masks and ``Info.cfg``.

Bernard et al. 2018, doi 10.1109/TMI.2018.2837502. The affine of ACDC's files is a unit matrix; their voxel
sizes stand in ``pixdim`` only, and are taken from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from medmtl.data.cells import parse_class, parse_number
from medmtl.data.columns import Cycle, Schema
from medmtl.data.formats.base import FORMATS, DatasetFormat, LoadedCase, RawCase
from medmtl.data.formats.cardiac import GROUPS, cardiac_columns
from medmtl.data.formats.volumes import same_grid, without_folder
from medmtl.data.nifti import Volume, frames_first, read_volume
from medmtl.types import UNLABELLED, CaseError, Finding

CITATION = (
    "O. Bernard, A. Lalande, C. Zotti, F. Cervenansky, et al. Deep Learning Techniques for Automatic MRI "
    "Cardiac Multi-structures Segmentation and Diagnosis: Is the Problem Solved? IEEE Transactions on "
    "Medical Imaging 37(11):2514-2525, 2018. doi 10.1109/TMI.2018.2837502"
)

_PATIENT = re.compile(r"patient\d+")
_FOLDERS = ("", "training", "testing", "database/training", "database/testing")


@FORMATS.register("acdc")
class ACDC(DatasetFormat):
    """The ACDC challenge's folders, ``training`` or the whole archive with ``training`` and ``testing``.

    Cases of ``testing`` become the test split; without them, 20 % of each group do.
    """

    looks_for: ClassVar[str] = (
        "folders patient001, patient002, ... with Info.cfg or patient001_frame01.nii.gz"
    )
    fractions: ClassVar[Mapping[str, float]] = MappingProxyType({"train": 0.72, "val": 0.08, "test": 0.20})
    stratify_by: ClassVar[str | None] = "disease"

    def recognizes(self, path: Path) -> str | None:
        """The first patient folder that has files."""
        first = next((folder for folder in _patients(path) if _has_patient_files(folder)), None)
        return f"the patient folder {first.name}" if first is not None else None

    def schema(self, path: Path) -> Schema:
        """Anatomy, disease group, height, weight and the values that follow from the masks."""
        return Schema(
            name="acdc",
            modality="MR",
            channels=("cine",),
            columns=cardiac_columns(),
            cycle=Cycle("anatomy", "LV"),
            citation=CITATION,
            licence="CC BY-NC-SA 4.0 as commonly stated",
        )

    def read(self, path: Path) -> Iterable[RawCase]:
        """One case per patient folder."""
        for folder in _patients(path):
            where = folder.relative_to(path).as_posix() if folder != path else folder.name
            split = "test" if folder.parent.name == "testing" else ""
            yield RawCase(folder.name, where, partial(_load, folder, split))


@dataclass(frozen=True)
class _Info:
    """``Info.cfg``: 0-based frames, and the values that it gives."""

    frame_ed: int
    frame_es: int
    values: Mapping[str, float | str]


def _patients(path: Path) -> list[Path]:
    """Patient folders by name: the path itself, below it, or below ``training`` and ``testing``."""
    folders = [folder for sub in _FOLDERS if (path / sub).is_dir() for folder in (path / sub).iterdir()]
    found = [folder for folder in [path, *folders] if _PATIENT.fullmatch(folder.name) and folder.is_dir()]
    return sorted(found, key=lambda folder: (folder.name, folder.parent.name != "training"))


def _has_patient_files(folder: Path) -> bool:
    return (folder / "Info.cfg").is_file() or any(folder.glob(f"{folder.name}_frame*.nii*"))


def _load(folder: Path, split: str) -> LoadedCase:
    """Reads one patient.

    Raises:
        CaseError: ``Info.cfg``, an image or a mask cannot be used.
    """
    info = _read_info(folder)
    phases = (info.frame_ed, info.frame_es)
    pair = [_read(_frame_file(folder, frame)) for frame in phases]
    masks = [
        _read(file) if (file := _frame_file(folder, frame, "_gt")).is_file() else None for frame in phases
    ]
    same_grid(f"{folder.name}, ES", pair[1], pair[0], "MIXED_GRID")
    for frame, image, mask in zip(phases, pair, masks, strict=True):
        if mask is not None:
            name = _frame_file(folder, frame, "_gt").name
            same_grid(name, mask, image, "LABEL_GEOMETRY_MISMATCH")
    cine, findings = _whole_cine(folder, phases, pair)
    if cine is None:
        phases, image = (0, 1), _stacked(pair)
    else:
        image = cine
    labels = {}
    if any(mask is not None for mask in masks):
        anatomy = np.full(image.array.shape, UNLABELLED, dtype=np.uint8)
        for frame, mask in zip(phases, masks, strict=True):
            if mask is not None:
                anatomy[..., frame] = _as_labels(mask.array, folder)
        labels["anatomy"] = Volume(anatomy, image.geometry)
    return LoadedCase(folder.name, (image,), labels, info.values, phases[0], phases[1], split, findings)


def _whole_cine(
    folder: Path, phases: tuple[int, int], pair: list[Volume]
) -> tuple[Volume | None, tuple[Finding, ...]]:
    """The 4D file where there is one and its frames are the frame files; else None and a warning."""
    path = _nifti(folder, f"{folder.name}_4d")
    if not path.is_file():
        return None, ()

    def pair_only(code: str, why: str) -> tuple[None, tuple[Finding, ...]]:
        text = f"{path.name} {why}; the ED and ES frames are used without it"
        return None, (Finding(code, "warning", text, path.name, folder.name),)

    try:
        cine = _read(path)
    except CaseError as error:
        return pair_only(error.code, f"cannot be used ({without_folder(str(error), folder)})")
    if difference := cine.geometry.differs_from(pair[0].geometry):
        return pair_only("MIXED_GRID", f"has {difference} of the frame files")
    frames = frames_first(cine.array)
    for phase, volume in zip(phases, pair, strict=True):
        if phase >= len(frames):
            return pair_only(
                "TIME_AMBIGUOUS", f"has {len(frames)} frames and Info.cfg names frame {phase + 1}"
            )
        if not np.array_equal(frames[phase], volume.array):
            return pair_only("TIME_AMBIGUOUS", f"differs from the frame file at frame {phase + 1}")
    return cine, ()


def _read_info(folder: Path) -> _Info:
    """Reads ``Info.cfg``.

    Raises:
        CaseError: ``UNDECODABLE`` (missing, no number), ``LABEL_VALUES`` (group) or ``TIME_AMBIGUOUS``.
    """
    path = folder / "Info.cfg"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "there is no such file" if not path.exists() else str(error)
        raise CaseError(
            "UNDECODABLE", f"Info.cfg cannot be read ({reason}); it says which frames are ED and ES"
        ) from error
    given = {
        key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon
    }
    values: dict[str, float | str] = {}
    phases = []
    try:
        for key in ("ED", "ES"):
            phases.append(_one_based_frame(given.get(key, "")))
        for key, column in (("Height", "height"), ("Weight", "weight")):
            if given.get(key):
                values[column] = parse_number(given[key])
    except ValueError as error:
        raise CaseError("UNDECODABLE", f"Info.cfg, {key}: {error}") from error
    if phases[0] == phases[1]:
        raise CaseError(
            "TIME_AMBIGUOUS", f"Info.cfg names frame {phases[0] + 1} for both ED and ES; correct it"
        )
    if given.get("Group"):
        try:
            values["disease"] = parse_class(given["Group"], GROUPS)
        except ValueError as error:
            raise CaseError("LABEL_VALUES", f"Info.cfg, Group: {error}") from error
    return _Info(phases[0], phases[1], values)


def _one_based_frame(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"found {text!r}; it has to be the number of a frame, and the first one is 1")
    return int(text) - 1


def _frame_file(folder: Path, frame: int, suffix: str = "") -> Path:
    return _nifti(folder, f"{folder.name}_frame{frame + 1:02d}{suffix}")


def _nifti(folder: Path, stem: str) -> Path:
    plain = folder / f"{stem}.nii"
    return plain if plain.is_file() else folder / f"{stem}.nii.gz"


def _read(path: Path) -> Volume:
    """A volume with the voxel size that its ``pixdim`` says; messages name the file without its folder."""
    try:
        return read_volume(path, spacing_from_pixdim=True)
    except CaseError as error:
        raise CaseError(error.code, without_folder(str(error), path.parent)) from error


def _stacked(pair: list[Volume]) -> Volume:
    array = np.stack([volume.array for volume in pair], axis=-1)
    return Volume(array, replace(pair[0].geometry, frames=len(pair)))


def _as_labels(array: NDArray[Any], folder: Path) -> NDArray[np.uint8]:
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.uint8)
    if not np.array_equal(labels, array):
        raise CaseError(
            "LABEL_VALUES", f"{folder.name}: the mask has values that are not whole numbers from 0 to 255"
        )
    return labels
