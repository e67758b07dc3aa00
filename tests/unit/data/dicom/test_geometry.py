from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data.dicom.geometry import Layout, directions, lay_out, normal_of, slices_of, tilt_finding
from medmtl.types import CaseError

AXIAL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
OBLIQUE = np.array([[0.8, 0.6, 0.0], [-0.36, 0.48, -0.8]])
PIXEL = (1.5, 2.0)
SHAPE = (8, 6)


def layout(positions: list[list[float]], orientation: np.ndarray = AXIAL, **options: object) -> Layout:
    slices = slices_of(np.array(positions, dtype=float), orientation, min(PIXEL))
    return lay_out(slices, orientation, PIXEL, SHAPE, **options)  # type: ignore[arg-type]


def at(*heights: float) -> list[list[float]]:
    return [[0.0, 0.0, height] for height in heights]


@pytest.mark.parametrize(
    ("heights", "code"),
    [
        ((5.0,), "SINGLE_SLICE"),
        ((0.0, 8.0, 24.0, 32.0), "GAP"),
        ((0.0, 16.0, 24.0), "GAP"),
        ((0.0, 8.0, 8.0 + 18.0, 32.0), "GAP"),
    ],
)
def test_slices_that_are_no_whole_stack_are_refused(heights: tuple[float, ...], code: str) -> None:
    with pytest.raises(CaseError) as error:
        layout(at(*heights))
    assert error.value.code == code


def test_a_gap_is_refused_where_slices_overlap_and_one_is_missing() -> None:
    with pytest.raises(CaseError) as error:
        layout(at(0, 2.5, 5, 10, 12.5), thickness=np.full(5, 5.0))
    assert error.value.code == "GAP"


def test_thicker_slices_further_apart_are_no_gap() -> None:
    made = layout(at(0, 2.5, 5, 10, 15), thickness=np.array([2.5, 2.5, 2.5, 5, 5]))
    assert made.shape == (6, 8, 7)
    assert made.affine[2, 2] == pytest.approx(2.5)
    assert [finding.code for finding in made.findings] == ["NONUNIFORM_SPACING"]


def test_uneven_slices_are_resampled_or_with_strict_refused() -> None:
    made = layout(at(0, 8, 16, 26, 32))
    assert made.shape == (6, 8, 5)
    assert made.affine[2, 2] == pytest.approx(8.0)
    assert made.correction is not None
    with pytest.raises(CaseError) as error:
        layout(at(0, 8, 16, 26, 32), strict=True)
    assert error.value.code == "NONUNIFORM_SPACING"


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even() -> None:
    made = layout(at(*np.round(0.625 * np.arange(40), 1)))
    assert made.findings == ()
    assert made.affine[2, 2] == pytest.approx(0.625, abs=0.01)


def test_planes_of_one_slice_that_are_shifted_against_each_other_are_refused() -> None:
    with pytest.raises(CaseError) as error:
        layout([[0, 0, 0], [0, 1, 0], [0, 0, 8]])
    assert error.value.code == "MIXED_GRID"


def test_slices_that_jump_sideways_by_more_than_a_quarter_of_the_image_are_refused() -> None:
    with pytest.raises(CaseError) as error:
        layout([[0, 0, 0], [9, 0, 8], [0, 0, 16]])
    assert error.value.code == "MIXED_GRID"


def test_the_tilt_comes_from_the_positions_and_strict_refuses_it() -> None:
    positions = [[0, 2.0 * k, 5.0 * k] for k in range(4)]
    made = layout(positions)
    (finding,) = made.findings
    assert finding.code == "GANTRY_TILT"
    assert f"{np.degrees(np.arctan(0.4)):.1f} degrees" in finding.message
    assert made.shape == (6, 12, 4)
    with pytest.raises(CaseError) as error:
        layout(positions, strict=True)
    assert error.value.code == "GANTRY_TILT"


@pytest.mark.parametrize("tag", [20.0, -20.0])
def test_the_sign_of_the_tilt_tag_does_not_matter_and_its_size_does(tag: float) -> None:
    height = 5.0 * np.arange(4.0)
    positions = np.stack([0 * height, np.tan(np.radians(20)) * height, height], axis=1)
    slices = slices_of(positions, AXIAL, 1.5)
    assert tilt_finding(tag, AXIAL, slices) is None
    told = tilt_finding(0.0, AXIAL, slices)
    assert told is not None
    assert "20.0" in told.message
    straight = slices_of(positions * (1, 0, 1), AXIAL, 1.5)
    assert tilt_finding(tag, AXIAL, straight) is not None
    assert tilt_finding(0.0, AXIAL, straight) is None
    assert tilt_finding(None, AXIAL, straight) is None


@pytest.mark.parametrize(
    "cosines",
    [None, (1.0, 0.0), (0.0,) * 6, (1, 0, 0, 1, 0, 0), (1, 0, 0, 0.1, 0.99, 0), (1.1, 0, 0, 0, 1, 0)],
)
def test_cosines_that_are_no_right_angle_are_no_orientation(cosines: tuple[float, ...] | None) -> None:
    assert directions(cosines) is None


def test_cosines_rounded_to_three_digits_become_a_right_angle() -> None:
    found = directions(tuple(np.round(OBLIQUE.ravel() + 0.0004, 3)))
    assert found is not None
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-12)


turns = st.tuples(*[st.floats(-np.pi, np.pi)] * 3)


@settings(deadline=None)
@given(turn=turns, down=st.booleans(), start=st.tuples(*[st.floats(-300, 300)] * 3))
def test_the_affine_puts_every_pixel_where_dicom_says(
    turn: tuple[float, float, float], down: bool, start: tuple[float, float, float]
) -> None:
    from scipy.spatial.transform import Rotation

    orientation = Rotation.from_euler("xyz", turn).as_matrix()[:2]
    normal = normal_of(orientation)
    order = np.arange(5)[:: -1 if down else 1]
    made = layout((np.array(start) + 3.0 * order[:, None] * normal).tolist(), orientation)
    assert made.shape == (6, 8, 5)
    assert made.correction is None
    column, row, slice_ = 4, 7, 3
    lps = start + 3.0 * slice_ * normal + column * 2.0 * orientation[0] + row * 1.5 * orientation[1]
    np.testing.assert_allclose(made.affine @ (column, row, slice_, 1), (*(lps * (-1, -1, 1)), 1), atol=1e-9)
    assert np.linalg.det(made.affine[:3, :3]) > 0
