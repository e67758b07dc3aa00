"""Holds medmtl's volumes against dcm2niix's and SimpleITK's on every series of the real data.

python benchmarks/ingest_differential.py [REALDATA]     # writes benchmarks/results/ingest-differential.csv

Volumes are compared in the patient: turned to the same axes, then grid, affine and voxels.
A difference without an explanation fails the run. Text only: no pixels, no UIDs.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from ingest_table import dicom_folders

from medmtl.data.dicom import load, scan

TABLE = Path(__file__).parent / "results" / "ingest-differential.csv"
COLUMNS = ("folder", "tool", "tool_gives", "medmtl_gives", "difference", "explanation")
SAME_MM = 0.05
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SEGMENTATION = "a DICOM SEG, which is no image: medmtl reads it as labels of the image that it belongs to"
_PILE = "the phases are stacked as if they were slices, and the spacing is made up to fit"
EXPLANATIONS: dict[tuple[str, str], str] = {
    ("dcmqi/segmentations/23x38x3/seg", "dcm2niix"): _SEGMENTATION,
    ("dcmqi/segmentations/23x38x3/seg", "SimpleITK"): _SEGMENTATION,
    ("dcmqi/segmentations/24x38x3/seg", "dcm2niix"): _SEGMENTATION,
    ("dcmqi/segmentations/24x38x3/seg", "SimpleITK"): _SEGMENTATION,
    ("dcmqi/segmentations", "dcm2niix"): _SEGMENTATION,
    ("dcmqi/segmentations", "SimpleITK"): f"{_SEGMENTATION}; folders inside the folder are not looked into",
    ("dicom2nifti/failing/sliceorientation", "SimpleITK"): (
        "two stacks of different orientation and pixel size become one volume, 69 mm from slice to slice"
    ),
    ("dicom2nifti/ge/fmri", "SimpleITK"): _PILE,
    ("dicom2nifti/philips_enhanced", "SimpleITK"): _PILE,
    ("dicom2nifti/philips_enhanced", "dcm2niix"): (
        "values are divided by Philips' private scale slope; medmtl applies the standard's rescale, as the "
        "reference NIfTI does, and says VALUE_SCALE"
    ),
    ("dicom2nifti/generic/compressed_jpegls", "dcm2niix"): "Debian's dcm2niix is built without JPEG-LS",
    ("sunnybrook/SCD0003701", "dcm2niix"): (
        "5 slices at end diastole and 5 at end systole, one place further on: the slices of both phases are "
        "mixed in two volumes; medmtl refuses (INCOMPLETE_GRID)"
    ),
    ("sunnybrook/SCD0003701", "SimpleITK"): (
        "both phases are stacked as if they were slices, 8 mm becoming 4.4; medmtl refuses (INCOMPLETE_GRID)"
    ),
    ("sunnybrook/dicoms", "dcm2niix"): "RepetitionTime, 3.8 ms, is taken for the time between phases, 46 ms",
    ("sunnybrook/dicoms", "SimpleITK"): _PILE,
}
"""Why, by folder (or how it starts) and tool."""


@dataclass(frozen=True, eq=False)
class Found:
    """A volume ``(X, Y, Z[, T])`` of some tool, its axes to the right, anterior and head."""

    voxels: np.ndarray
    affine: np.ndarray
    step_s: float | None

    @property
    def says(self) -> str:
        sizes = " x ".join(f"{size:.4g}" for size in np.linalg.norm(self.affine[:3, :3], axis=0))
        step = f", {self.step_s:.4g} s" if self.step_s is not None and self.voxels.ndim == 4 else ""
        return f"{'x'.join(map(str, self.voxels.shape))}, {sizes} mm{step}"


def found(array: Any, affine: np.ndarray, step_s: float | None = None) -> Found:
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, np.float64), affine))
    return Found(np.asarray(image.dataobj), image.affine, step_s)


def by_medmtl(folder: Path) -> list[Found]:
    made = []
    for plan in (plan for series in scan([folder]).series for plan in series.volumes):
        step = plan.time.step_ms if plan.time is not None else None
        made.append(found(load(plan, suv=None).array, plan.affine, None if step is None else step / 1000))
    return made


def by_dcm2niix(folder: Path) -> list[Found]:
    program = shutil.which("dcm2niix")
    assert program is not None, "dcm2niix is not installed"
    with tempfile.TemporaryDirectory() as output:
        command = [program, "-z", "n", "-f", "%s_%d", "-o", output, str(folder)]
        subprocess.run(command, check=False, capture_output=True)
        images = [nib.load(path) for path in sorted(Path(output).glob("*.nii"))]
        return [
            found(
                image.dataobj, image.affine, float(image.header.get_zooms()[3]) if image.ndim == 4 else None
            )
            for image in images
        ]


def by_simpleitk(folder: Path) -> list[Found]:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    made = []
    for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series))
        try:
            image = reader.Execute()
        except RuntimeError:
            continue
        if image.GetDimension() == 4 and image.GetSize()[3] == 1:
            image = image[..., 0]
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            continue
        lps = np.eye(4)
        lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        lps[:3, 3] = image.GetOrigin()
        made.append(found(sitk.GetArrayFromImage(image).T, LPS @ lps))
    return made


def difference(own: Found, other: Found) -> str:
    """What sets two volumes apart; blank where they are one."""
    if own.voxels.shape != other.voxels.shape:
        return "grid"
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in own.voxels.shape[:3]], [1])).reshape(4, -1)
    apart = float(np.abs((own.affine - other.affine)[:3] @ corners).max())
    said = [] if apart <= SAME_MM else [f"corners {apart:.2f} mm apart"]
    off = float(np.abs(own.voxels - other.voxels).max())
    if off > 1e-3 * max(1.0, float(np.abs(own.voxels).max())):
        said.append(f"voxels differ by up to {off:.4g}")
    if own.step_s is not None and other.step_s is not None and abs(own.step_s - other.step_s) > 1e-4:
        said.append(f"time step {own.step_s:.4g} s against {other.step_s:.4g} s")
    return ", ".join(said)


def compare(folder: str, tool: str, own: list[Found], others: list[Found]) -> list[dict[str, str]]:
    """A row per volume of either, each of the tool's beside the nearest of medmtl's."""
    rows, left, unmatched = [], list(own), []
    for other in others:
        same = next((one for one in left if not difference(one, other)), None)
        if same is None:
            unmatched.append(other)
            continue
        left.remove(same)
        rows.append((other.says, same.says, ""))
    for other in unmatched:
        alike = [one for one in left if one.voxels.shape == other.voxels.shape] or left
        nearest = alike[0] if alike else None
        if nearest is not None:
            left.remove(nearest)
        told = "medmtl gives none" if nearest is None else difference(nearest, other)
        rows.append((other.says, nearest.says if nearest else "", told))
    rows += [("", one.says, f"{tool} gives none") for one in left]
    why = next(
        (why for (start, name), why in EXPLANATIONS.items() if name == tool and folder.startswith(start)), ""
    )
    return [dict(zip(COLUMNS, (folder, tool, *row, why if row[2] else ""), strict=True)) for row in rows]


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    rows = []
    for folder in dicom_folders(root):
        name, own = folder.relative_to(root).as_posix(), by_medmtl(folder)
        for tool, read in (("dcm2niix", by_dcm2niix), ("SimpleITK", by_simpleitk)):
            rows += compare(name, tool, own, read(folder))
    with TABLE.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    equal = sum(not row["difference"] for row in rows)
    print(f"{TABLE}: {len(rows)} comparisons, {equal} equal")
    unexplained = [row for row in rows if row["difference"] and not row["explanation"]]
    for row in unexplained:
        print(
            "not explained:",
            row["folder"],
            row["tool"],
            row["tool_gives"],
            "|",
            row["medmtl_gives"],
            "|",
            row["difference"],
        )
    sys.exit(bool(unexplained))


if __name__ == "__main__":
    main()
