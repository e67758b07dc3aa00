"""How slices lie on the screen."""

from __future__ import annotations

import numpy as np
import pytest

from medmtl.data.viewing import viewing_plane, window
from medmtl.report.contours import draw_contours, prediction_outline
from medmtl.report.volumes import Volume


@pytest.mark.parametrize(
    ("axis_signs", "spacing"),
    [((1, 1, 1), (1.0, 1.0, 8.0)), ((-1, -1, 1), (1, 1, 1)), ((1, -1, -1), (1, 1, 3))],
)
def test_in_an_axial_stack_the_patients_left_is_on_the_right_and_anterior_on_top(
    axis_signs: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    affine = np.diag([sign * size for sign, size in zip(axis_signs, spacing, strict=True)] + [1.0])
    data = np.zeros((5, 7, 3))
    left = 0 if axis_signs[0] > 0 else 4
    anterior = 6 if axis_signs[1] > 0 else 0
    data[left, anterior] = 1
    plane = viewing_plane(affine, spacing)
    screen = plane.slice(data, 1)
    assert screen.shape == (7, 5)
    assert screen[0, -1] == 1
    assert (plane.top, plane.left) == ("A", "R")


def test_coronal_and_sagittal_stacks_have_the_head_on_top() -> None:
    coronal = viewing_plane(np.diag([1.0, 6.0, 1.0, 1.0]), (1.0, 6.0, 1.0))
    sagittal = viewing_plane(np.diag([6.0, 1.0, 1.0, 1.0]), (6.0, 1.0, 1.0))
    assert (coronal.slice_axis, coronal.top, coronal.left) == (1, "S", "R")
    assert (sagittal.slice_axis, sagittal.top, sagittal.left) == (0, "S", "A")


def test_the_grey_window_leaves_out_outliers_and_survives_a_flat_or_empty_image() -> None:
    ramp = np.append(np.arange(1000.0), [1e9, np.nan])
    assert window(ramp) == pytest.approx((10, 990), abs=2)
    assert window(np.full(5, 3.0)) == (3.0, 4.0)
    assert window(np.full(5, np.nan)) == (0.0, 1.0)


def test_a_structure_is_measured_in_ml_and_an_unlabelled_frame_is_nan() -> None:
    data = np.zeros((4, 4, 2, 2), np.uint8)
    data[:2, :, :, 0] = 3
    data[..., 1] = 255
    volume = Volume(data, (1.0, 2.0, 5.0), np.eye(4))
    assert volume.structure_ml(3)[0] == pytest.approx(0.16)
    assert np.isnan(volume.structure_ml(3)[1])


def test_pixels_keep_their_true_proportion() -> None:
    mask = np.zeros((40, 20, 4, 1), np.uint8)
    mask[15:25, 8:13] = 1
    spacing = (1.0, 2.0, 8.0)
    volume = Volume(mask, spacing, np.diag([*spacing, 1.0]))
    figure = draw_contours(volume, [prediction_outline(volume, {"LV": 1})], {"": 0})
    axes = figure.axes[0]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    box = axes.get_position()
    width, height = figure.get_size_inches() * (box.width, box.height)
    assert width / (right - left) == pytest.approx(height / (bottom - top))


def test_an_empty_prediction_and_truth_show_the_whole_slice() -> None:
    empty = np.zeros((12, 10, 3, 1), np.uint8)
    volume = Volume(empty, (1.0, 1.0, 8.0), np.eye(4))
    figure = draw_contours(volume, [prediction_outline(volume, {"LV": 1})], {"": 0})
    assert figure.axes[0].get_xlim() == (0.0, 12.0)
    assert figure.axes[0].get_ylim() == (10.0, 0.0)
