"""What DICOM files become on their way to volumes: source -> instance -> plane -> volume plan -> volume.

Positions and directions are DICOM's (LPS mm) up to the plan; its affine and everything after it is RAS+ mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from medmtl.types import Finding

if TYPE_CHECKING:
    from medmtl.data.dicom.header import Header

Sureness = Literal["certain", "likely", "guess"]


class Source(Protocol):
    """Bytes of one DICOM file, wherever they are: a file, or a member of an archive.

    Attributes:
        label: its path relative to what the user named, for messages; unique within a scan.
    """

    @property
    def label(self) -> str:
        """See the class."""
        ...

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``offset`` on, or all that follow; fewer where the file ends."""
        ...

    def size(self) -> int:
        """Length in bytes."""
        ...


@dataclass(frozen=True, slots=True)
class PixelData:
    """Where an instance's pixels are in its file.

    Attributes:
        offset: of the first byte of the element's value (of its first item where it is encapsulated).
        length: of the value in bytes; None where it is encapsulated (undefined length).
        keyword: ``PixelData``, ``FloatPixelData`` or ``DoubleFloatPixelData``.
    """

    offset: int
    length: int | None
    keyword: str = "PixelData"


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One DICOM file, its header read and its pixels not.

    Attributes:
        source: its bytes.
        header: the elements that medmtl asks for, by keyword.
        transfer_syntax: UID of its encoding; implicit little endian where the file does not say.
        pixels: where its pixels are; None where it has none.
    """

    source: Source
    header: Header
    transfer_syntax: str
    pixels: PixelData | None


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One 2D image, however its vendor packed it: a classic file, a frame of an enhanced one, a mosaic tile.

    Attributes:
        instance: the file that it is in.
        frame: 0-based frame of the file's pixel data.
        items: functional groups' items of this frame, own before shared, where the file has such.
        tile: ``(row, column)`` of the first pixel within the frame, and ``(rows, columns)`` of the tile,
            where the frame is a mosaic of planes.
        position: centre of the first pixel, LPS mm ``(3,)``; None where the file does not say.
        orientation: ``(2, 3)`` LPS unit vectors: where the column index grows to, then the row index.
        spacing_mm: between rows, between columns, as in PixelSpacing.
        shape: ``(rows, columns)`` of this plane.
    """

    instance: Instance
    frame: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing_mm: tuple[float, float] | None
    shape: tuple[int, int]
    items: tuple[Header, ...] = ()
    tile: tuple[int, int, int, int] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def get(self, keyword: str) -> Any:
        """Value of an element for this plane: its own, then its functional groups', then the file's; or None.

        ``extra`` holds what was worked out while unpacking (a mosaic tile's time, say) and wins over all.
        """
        if keyword in self.extra:
            return self.extra[keyword]
        for item in self.items:
            if (value := item.get(keyword)) is not None:
                return value
        return self.instance.header.get(keyword)


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """When the frames of a 4D volume were taken.

    Attributes:
        times_ms: ``(T,)`` one time per frame; where slices differ, the mean over slices. From the R wave
            where TriggerTime says it, else from the first frame; NaN where frames are ordered but nothing
            says how far apart they are.
        by_slice_ms: ``(Z, T)`` where slices differ, else None.
        how: the element or rule that the times come from, such as ``TriggerTime``.
        sure: how far that can be trusted.
    """

    times_ms: NDArray[np.float64]
    by_slice_ms: NDArray[np.float64] | None
    how: str
    sure: Sureness

    @property
    def step_ms(self) -> float | None:
        """Median time between frames; None for a single frame, or where it is not known."""
        step = float(np.median(np.diff(self.times_ms))) if len(self.times_ms) > 1 else np.nan
        return step if np.isfinite(step) else None


class Correction(Protocol):
    """Makes a right-angled, even grid of slices that do not lie on one (tilted gantry, uneven gaps)."""

    def __call__(self, stack: NDArray[Any]) -> NDArray[Any]:
        """``(Z, rows, columns)`` values as stored -> ``(Z', rows', columns')`` on the plan's grid."""
        ...


@dataclass(frozen=True, eq=False)
class VolumePlan:
    """A 3D or 4D volume that can be loaded: which plane goes where, and where that is in the patient.

    Attributes:
        name: unique within a scan, safe as a file name, without patient data: series number and what sets
            the volume apart, such as ``s007`` or ``s007-echo2``.
        planes: ``planes[z][t]``.
        shape: ``(X, Y, Z)`` or ``(X, Y, Z, T)`` of the loaded array, after any correction: X along rows
            (column index), Y along columns (row index), Z along the slice normal.
        affine: ``(4, 4)`` voxel index to RAS+ mm.
        time: time axis of a 4D volume, else None.
        correction: resampling that loading applies to each frame, or None.
        modality: ``MR``, ``CT``, ``PT``, ...
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID (the first, where a volume is spread over several series).
        description: SeriesDescription.
        patient: opaque key that is equal for the volumes of one patient and says nothing else.
        frame_ed: proposed 0-based frame of end diastole, where one can be told from headers.
        frame_es: likewise of end systole.
        attributes: what set this stack apart from others of its series, such as ``{"EchoTime": 4.6}``.
        findings: about this volume.
    """

    name: str
    planes: tuple[tuple[Plane, ...], ...]
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    modality: str
    study_uid: str
    series_uid: str
    description: str
    patient: str
    time: TimeAxis | None = None
    correction: Correction | None = None
    frame_ed: int | None = None
    frame_es: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along x, y, z in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return (x, y, z)

    @property
    def frames(self) -> int:
        """Number of frames T; 1 for a 3D volume."""
        return self.shape[3] if len(self.shape) == 4 else 1


@dataclass(frozen=True, eq=False)
class Series:
    """One series of a scan, and what it gives.

    Attributes:
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        modality: ``MR``, ``CT``, ``PT``, ``SEG``, ``RTSTRUCT``, ...
        description: SeriesDescription.
        instances: files found.
        usable: files whose pixels are in a volume.
        volumes: what can be loaded.
        findings: about the series as a whole; those about one volume are with it.
    """

    study_uid: str
    series_uid: str
    modality: str
    description: str
    instances: int
    usable: int
    volumes: tuple[VolumePlan, ...]
    findings: tuple[Finding, ...]
    files: tuple[Instance, ...] = ()


@dataclass(frozen=True, eq=False)
class Scan:
    """Everything that was found in some sources.

    Attributes:
        series: in the order of study, series number and UID.
        findings: about files that belong to no series (not DICOM, unreadable, refused archive members).
    """

    series: tuple[Series, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class LoadedVolume:
    """Voxels of a plan.

    Attributes:
        array: ``(X, Y, Z)`` or ``(X, Y, Z, T)`` in ``unit``.
        plan: where they are and when.
        unit: ``HU``, ``SUVbw``, ``Bq/mL``, or blank (arbitrary).
        findings: the plan's and those of decoding and scaling.
    """

    array: NDArray[Any]
    plan: VolumePlan
    unit: str
    findings: tuple[Finding, ...]
