"""Structure sets: contours that enclose no voxels of the image first, then holes, time and volume."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medmtl.data.dicom.labelgrid import LabelGrid
from medmtl.data.dicom.rasterize import fill
from medmtl.data.dicom.rtmasks import region_frames, region_mask
from medmtl.data.dicom.rtstruct import read_structures
from medmtl.types import CaseError, Finding
from tests.helpers.dicom_labels import images, opened, plan_of, structure_set
from tests.helpers.dicom_writer import COLUMNS, ROWS, SLICES, ct, ge_cine, grid

FILES = images()
AFFINE = grid()
SHAPE = (COLUMNS, ROWS)
CLOSED = "CLOSED_PLANAR"


def in_patient(outline: np.ndarray, z: float, affine: np.ndarray = AFFINE) -> np.ndarray:
    """Outline ``(N, 2)`` in voxels of slice z -> LPS mm ``(N, 3)``."""
    voxels = np.column_stack([outline, np.full(len(outline), z), np.ones(len(outline))])
    return (affine @ voxels.T).T[:, :3]


def ellipse(x: float, y: float, a: float, b: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.column_stack([x + a * np.cos(angle), y + b * np.sin(angle)])


OUTER, INNER = ellipse(5.2, 7.1, 4.4, 6.3), ellipse(5.4, 7.3, 1.9, 2.2)


def drawn(
    *contours: tuple[str, np.ndarray], files: list[Dataset] = FILES
) -> tuple[np.ndarray, list[Finding]]:
    structures = read_structures(opened(structure_set(files, {"heart": contours})))
    return region_mask(structures, 1, LabelGrid.of(plan_of(files)))


def refusal(*contours: tuple[str, np.ndarray], files: list[Dataset] = FILES) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        drawn(*contours, files=files)
    return caught.value.code, str(caught.value)


# ---- what encloses no voxels


def test_an_image_is_no_structure_set() -> None:
    with pytest.raises(CaseError, match="the structure set has no regions") as caught:
        read_structures(opened(FILES[0]))
    assert caught.value.code == "UNDECODABLE"


def test_a_region_without_contours_and_one_that_is_not_there_are_refused() -> None:
    assert refusal() == (
        "LABEL_VALUES",
        "labels.dcm, region 1 (heart): has no contours; draw it, or leave it out",
    )
    structures = read_structures(opened(structure_set(FILES, {"heart": [(CLOSED, in_patient(OUTER, 1))]})))
    with pytest.raises(CaseError, match=r"has no region 7; known are 1 \(heart\)"):
        region_mask(structures, 7, LabelGrid.of(plan_of(FILES)))


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"])
def test_points_and_open_lines_enclose_nothing_and_are_refused(kind: str) -> None:
    code, message = refusal((kind, in_patient(OUTER, 1)))
    assert code == "LABEL_VALUES"
    assert f"contour 1: is {kind}, and only closed contours in one plane enclose voxels" in message


def test_a_contour_of_two_points_encloses_nothing() -> None:
    assert "has 2 point(s), and encloses nothing" in refusal((CLOSED, in_patient(OUTER[:2], 1)))[1]


def test_coordinates_that_are_no_triples_are_refused() -> None:
    ds = structure_set(FILES, {"heart": [(CLOSED, in_patient(OUTER, 1))]})
    contour = ds.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = list(contour.ContourData)[:-1]
    with pytest.raises(CaseError, match=r"region 'heart': 179 coordinates are no points \(x, y, z\)"):
        read_structures(opened(ds))


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (in_patient(OUTER, 1.4), "contour 1: lies 3.2 mm off the nearest slice"),
        (in_patient(OUTER, 5.0), "contour 1: lies beyond the image's first or last slice"),
        (in_patient(OUTER, -1.0), "contour 1: lies beyond the image's first or last slice"),
        (in_patient(OUTER - [5, 0], 1), "contour 1: reaches beyond the image"),
        (in_patient(OUTER - [0, -5], 1), "contour 1: reaches beyond the image"),
        (
            in_patient(OUTER, 1) + np.outer(np.linspace(0, 5, 60), [0.0, 0.0, 1.0]),
            "contour 1: runs across slices",
        ),
    ],
)
def test_contours_off_the_image_are_refused(points: np.ndarray, expected: str) -> None:
    code, message = refusal((CLOSED, points))
    assert code == "LABEL_GEOMETRY_MISMATCH"
    assert expected in message


# ---- what is filled


def test_a_contour_fills_the_voxels_whose_centres_it_encloses() -> None:
    mask, findings = drawn((CLOSED, in_patient(OUTER, 2)))
    assert mask.shape == (COLUMNS, ROWS, SLICES)
    np.testing.assert_array_equal(mask[:, :, 2], fill([OUTER], SHAPE))
    assert not mask[:, :, [0, 1, 3, 4]].any()
    assert findings == []


def test_a_contour_a_little_off_its_slice_belongs_to_it() -> None:
    mask, _ = drawn((CLOSED, in_patient(OUTER, 2.06)))
    np.testing.assert_array_equal(mask[:, :, 2], fill([OUTER], SHAPE))


@pytest.mark.parametrize("kind", [CLOSED, "CLOSEDPLANAR_XOR"])
def test_a_contour_inside_another_is_a_hole(kind: str) -> None:
    mask, findings = drawn((kind, in_patient(OUTER, 2)), (kind, in_patient(INNER, 2)))
    np.testing.assert_array_equal(mask[:, :, 2], fill([OUTER], SHAPE) & ~fill([INNER], SHAPE))
    assert findings == []


def test_a_keyhole_is_a_hole() -> None:
    keyhole = np.vstack([OUTER, OUTER[:1], INNER[:1], INNER[::-1], OUTER[:1]])
    mask, _ = drawn((CLOSED, in_patient(keyhole, 2)))
    np.testing.assert_array_equal(mask[:, :, 2], fill([OUTER], SHAPE) & ~fill([INNER], SHAPE))


def test_contours_side_by_side_are_both_filled() -> None:
    left, right = ellipse(2.2, 7, 1.5, 4), ellipse(8.6, 7, 1.8, 4)
    mask, findings = drawn((CLOSED, in_patient(left, 2)), (CLOSED, in_patient(right, 2)))
    np.testing.assert_array_equal(mask[:, :, 2], fill([left], SHAPE) | fill([right], SHAPE))
    assert findings == []


def test_contours_that_cross_and_slices_left_out_are_warned_of() -> None:
    other = OUTER - [-2.0, 0.0]
    mask, findings = drawn(
        (CLOSED, in_patient(OUTER, 1)), (CLOSED, in_patient(other, 1)), (CLOSED, in_patient(OUTER, 4))
    )
    np.testing.assert_array_equal(mask[:, :, 1], fill([OUTER], SHAPE) ^ fill([other], SHAPE))
    assert [(finding.code, finding.severity) for finding in findings] == [("LABEL_VALUES", "warning")] * 2
    assert "contours overlap in slice 1; the overlap is cut out" in findings[0].message
    assert "no contour in slice(s) 2, 3, between slices that have one" in findings[1].message


def test_names_kinds_and_references_are_read() -> None:
    observation = Dataset()
    observation.ObservationNumber, observation.ReferencedROINumber, observation.RTROIInterpretedType = (
        1,
        1,
        "ORGAN",
    )
    ds = structure_set(FILES, {"heart": []}, RTROIObservationsSequence=[observation])
    structures = read_structures(opened(ds))
    [region] = structures.regions
    assert (region.number, region.label, region.kind) == (1, "heart", "ORGAN")
    assert structures.series_uids == {FILES[0].SeriesInstanceUID}
    assert structures.patient == opened(FILES[0]).header.get("Patient.Key")


# ---- over time, and on a tilted stack


def test_contours_of_a_cine_belong_to_the_frame_whose_files_they_name() -> None:
    cine = images(ge_cine())
    grid_of_cine = LabelGrid.of(plan_of(cine))
    third = structure_set(cine[2::4], {"heart": [(CLOSED, in_patient(OUTER, 2))]})
    structures = read_structures(opened(third))
    mask, _ = region_mask(structures, 1, grid_of_cine)
    assert mask.shape == (COLUMNS, ROWS, SLICES, 4)
    np.testing.assert_array_equal(mask[:, :, 2, 2], fill([OUTER], SHAPE))
    assert mask.sum() == mask[:, :, 2, 2].sum()
    assert region_frames(structures, 1, grid_of_cine) == [2]


def test_contours_of_a_cine_that_name_no_file_of_it_are_refused() -> None:
    structures = read_structures(opened(structure_set(FILES, {"heart": [(CLOSED, in_patient(OUTER, 2))]})))
    with pytest.raises(
        CaseError, match="one of the image's 4 frames, and it names none of the image's"
    ) as caught:
        region_mask(structures, 1, LabelGrid.of(plan_of(images(ge_cine()))))
    assert caught.value.code == "TIME_AMBIGUOUS"


def test_contours_on_a_tilted_stack_are_straightened_with_it() -> None:
    export = ct(tilt=15.0)
    files = images(export)
    plan = plan_of(files)
    assert plan.correction is not None
    contours = [(CLOSED, in_patient(OUTER, z, export.affine)) for z in range(SLICES)]
    structures = read_structures(opened(structure_set(files, {"heart": contours})))
    mask, _ = region_mask(structures, 1, LabelGrid.of(plan))
    assert mask.shape == plan.shape
    assert mask.sum() == pytest.approx(SLICES * fill([OUTER], SHAPE).sum(), rel=0.15)
