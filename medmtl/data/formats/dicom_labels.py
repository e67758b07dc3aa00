"""Segmentations (SEG) and contours (RTSTRUCT) found beside images, as mask columns of a dataset.

A structure is a name: the label of a segment or of a region, whatever its number. One mask column holds all
of them where that loses nothing: every labelled case has one segmentation, of the same structures, that does
not say that they overlap. Otherwise each structure is a column of its own, and a case whose files do not name
it is not labelled there.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medmtl.data.columns import Column
from medmtl.data.dicom.kinds import SEGMENTATIONS, STRUCTURES
from medmtl.data.dicom.labelgrid import LabelGrid
from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.rtmasks import region_frames, region_mask
from medmtl.data.dicom.rtstruct import StructureSet, read_structures
from medmtl.data.dicom.seg import Segmentation, read_segmentation
from medmtl.data.dicom.segmasks import PlacedSegmentation, place
from medmtl.data.dicom.segresample import nearest_mask
from medmtl.data.formats.description import safe_name
from medmtl.data.formats.labels import MAX_LABELS
from medmtl.types import UNLABELLED, CaseError, DatasetError, Finding

JOINED = "segmentation"
"""Name of the one mask column."""

_RESERVED = ("case_id", "patient", "split", "image", "frame_ed", "frame_es")


@dataclass(frozen=True, eq=False)
class LabelFile:
    """One file of labels, its voxels not decoded yet.

    Attributes:
        content: what it says.
        structures: numbers of the segments or regions of each structure that is wanted.
        may_overlap: whether voxels may belong to several of them.
        findings: what was left out of it.
    """

    content: Segmentation | StructureSet
    structures: Mapping[str, tuple[int, ...]]
    may_overlap: bool
    findings: tuple[Finding, ...] = ()

    def on(self, grid: LabelGrid) -> LabelsOnGrid:
        """The same labels on an image."""
        return LabelsOnGrid(self, grid)


@dataclass(frozen=True, eq=False)
class LabelsOnGrid:
    """One file of labels on the voxels of an image; its frames are placed once for all structures.

    Attributes:
        file: the labels.
        grid: of the image.
    """

    file: LabelFile
    grid: LabelGrid

    @cached_property
    def _placed(self) -> PlacedSegmentation:
        assert isinstance(self.file.content, Segmentation)
        return place(self.file.content, self.grid)

    def labelled(self) -> NDArray[np.bool_]:
        """Which frames of the image it is about, ``(T,)``.

        Raises:
            CaseError: it does not lie on the grid.
        """
        content = self.file.content
        if isinstance(content, Segmentation):
            return self._placed.labelled
        labelled = np.zeros(self.grid.frames, dtype=bool)
        for numbers in self.file.structures.values():
            for number in numbers:
                labelled[region_frames(content, number, self.grid)] = True
        return labelled

    def mask(self, structure: str, *, resample: bool) -> tuple[NDArray[np.bool_], list[Finding]]:
        """Voxels of a structure ``(X, Y, Z)`` or ``(X, Y, Z, T)``, and what is worth knowing about them.

        Raises:
            CaseError: it does not lie on the grid; see `place` and `region_mask`.
        """
        content = self.file.content
        found: list[NDArray[np.bool_]] = []
        findings: list[Finding] = []
        for number in self.file.structures[structure]:
            if isinstance(content, StructureSet):
                mask, said = region_mask(content, number, self.grid)
                findings += said
            else:
                mask = self._segment(content, number, findings, resample)
            found.append(mask)
        return np.logical_or.reduce(found), findings

    def _segment(
        self, content: Segmentation, number: int, findings: list[Finding], resample: bool
    ) -> NDArray[np.bool_]:
        try:
            return self._placed.mask(number)
        except CaseError as error:
            if not resample or error.code != "LABEL_GEOMETRY_MISMATCH":
                raise
            text = f"{error}; resampled to the nearest voxels, as was asked for"
            findings.append(Finding(error.code, "warning", text, content.name))
            return nearest_mask(content, number, self.grid)


def is_label_file(instance: Instance) -> bool:
    """Whether a file holds labels that can be read."""
    uid, modality = instance.header.get("SOPClassUID"), instance.header.get("Modality")
    return uid in SEGMENTATIONS or uid == STRUCTURES or modality in ("SEG", "RTSTRUCT")


def read_label_file(instance: Instance, wanted: Mapping[str, str]) -> LabelFile:
    """What a file of labels says.

    Args:
        instance: the file.
        wanted: pattern of labels (``GTV*``) by the structure's name; empty for all, under their own names.

    Raises:
        CaseError: the file cannot be used.
    """
    header = instance.header
    content: Segmentation | StructureSet
    if header.get("SOPClassUID") == STRUCTURES or header.get("Modality") == "RTSTRUCT":
        content = read_structures(instance)
        drawn, findings = _closed_regions(content)
        overlap = True
    else:
        content = read_segmentation(instance)
        drawn = [(segment.number, segment.label) for segment in content.drawn]
        findings = _thresholded(content)
        overlap = header.get("SegmentsOverlap") == "YES"
    structures: dict[str, tuple[int, ...]] = {}
    for number, label in drawn:
        if (name := _name(label, wanted)) is not None:
            structures[name] = (*structures.get(name, ()), number)
    return LabelFile(content, structures, overlap, tuple(findings))


def mask_columns(cases: Iterable[Sequence[LabelFile]], layout: str) -> dict[str, Column]:
    """The mask columns that hold the labels of all cases.

    Args:
        cases: files of every case.
        layout: ``joined``, ``separate``, or ``auto``: joined where that loses nothing.

    Raises:
        DatasetError: there are more structures than one mask can hold.
    """
    names: dict[str, None] = {}
    sets = set()
    overlap = False
    for files in cases:
        here = {name: None for file in files for name in file.structures}
        names |= here
        if files:
            sets.add(frozenset(here))
        overlap = overlap or len(files) > 1 or any(file.may_overlap for file in files)
    structures = [name for name in names if name]
    if not structures:
        return {}
    if layout == "joined" or (layout == "auto" and len(sets) == 1 and not overlap):
        if len(structures) > MAX_LABELS:
            raise DatasetError(
                f"the labels name {len(structures)} structures, and a mask holds {MAX_LABELS}; choose some"
            )
        labels = {name: value for value, name in enumerate(structures, start=1)}
        return {JOINED: Column(JOINED, "mask", labels=labels)}
    columns: dict[str, Column] = {}
    for structure in structures:
        name = safe_name(structure)
        name = f"{name}_mask" if name.lower() in _RESERVED else name
        while name in columns:
            name += "_"
        columns[name] = Column(name, "mask", labels={structure: 1})
    return columns


def draw(
    files: Sequence[LabelFile], columns: Mapping[str, Column], grid: LabelGrid, *, resample: bool = False
) -> tuple[dict[str, NDArray[np.uint8]], list[Finding]]:
    """Masks of one case.

    Args:
        files: its label files.
        columns: of `mask_columns`.
        grid: of its image.
        resample: put segmentations that lie on another grid onto the nearest voxels.

    Returns:
        by column ``(X, Y, Z)`` or ``(X, Y, Z, T)`` uint8, 255 in frames that no file is about; and findings.

    Raises:
        CaseError: ``LABEL_VALUES`` (structures that share a column overlap, or two files draw the same one),
            or labels do not lie on the grid.
    """
    placed = [file.on(grid) for file in files]
    findings = [finding for file in files for finding in file.findings]
    made: dict[str, NDArray[np.uint8]] = {}
    for name, column in columns.items():
        mask: NDArray[np.uint8] | None = None
        owner: dict[int, str] = {}
        for structure, value in column.labels.items():
            labels = _only(structure, placed)
            if labels is None:
                continue
            voxels, said = labels.mask(structure, resample=resample)
            findings += said
            mask = np.zeros(voxels.shape, np.uint8) if mask is None else mask
            if bool((shared := voxels & (mask != 0)).any()):
                other = owner[int(mask[shared][0])]
                text = f"{structure} and {other} share {int(shared.sum())} voxels"
                raise CaseError("LABEL_VALUES", f"{text}; ask for separate masks (--labels separate)")
            mask[voxels] = value
            owner[value] = structure
        if mask is None:
            continue
        if absent := [structure for structure in column.labels if structure not in owner.values()]:
            text = f"no file draws {', '.join(absent)}, which count(s) as background here"
            findings.append(Finding("LABEL_VALUES", "warning", text))
        if grid.frames > 1:
            mask[..., ~_labelled(placed, column)] = UNLABELLED
        made[name] = mask
    return made, findings


def _labelled(placed: Sequence[LabelsOnGrid], column: Column) -> NDArray[np.bool_]:
    about = [labels.labelled() for labels in placed if column.labels.keys() & labels.file.structures.keys()]
    labelled: NDArray[np.bool_] = np.logical_or.reduce(about)
    return labelled


def _only(structure: str, placed: Sequence[LabelsOnGrid]) -> LabelsOnGrid | None:
    """The one file that draws a structure."""
    drawing = [labels for labels in placed if structure in labels.file.structures]
    if len(drawing) > 1:
        names = " and ".join(labels.file.content.name for labels in drawing)
        raise CaseError("LABEL_VALUES", f"{names} both draw {structure}; keep one of the files there")
    return drawing[0] if drawing else None


def _name(label: str, wanted: Mapping[str, str]) -> str | None:
    """The structure that a label stands for; None where it is not wanted."""
    label = " ".join(label.split())
    if not wanted:
        return label
    return next(
        (name for name, pattern in wanted.items() if fnmatch.fnmatchcase(label.lower(), pattern.lower())),
        None,
    )


def _closed_regions(content: StructureSet) -> tuple[list[tuple[int, str]], list[Finding]]:
    """Regions that enclose something; points, lines and empty ones are named."""
    drawn, findings = [], []
    for region in content.regions:
        types = sorted({outline.type for outline in region.outlines})
        if not types or any(kind in ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR") for kind in types):
            what = f"is drawn as {', '.join(types)}" if types else "has no contours"
            text = f"region {region.number} ({region.label}) {what} and was left out"
            findings.append(Finding("LABEL_VALUES", "info", text, content.name))
            continue
        drawn.append((region.number, region.label))
    return drawn, findings


def _thresholded(content: Segmentation) -> list[Finding]:
    if content.kind != "FRACTIONAL":
        return []
    of = (content.fractional_type or "fraction").lower()
    text = f"a voxel is inside where its {of} is at least a half"
    return [Finding("LABEL_VALUES", "info", text, content.name)]
