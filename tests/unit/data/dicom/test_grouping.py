from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medmtl.data.dicom.model import Instance, VolumePlan
from medmtl.data.dicom.scan import arrange
from tests.helpers.dicom_headers import cine, codes, instance, only, refused, volumes

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
STORAGE = "1.2.840.10008.5.1.4.1.1."


def stack(slices: int = 4, **values: Any) -> list[Instance]:
    return [instance(3.0 * z, **values) for z in range(slices)]


def names(instances: list[Instance]) -> list[str]:
    return [plan.name for plan in volumes(arrange(instances))]


# ------------------------------------------------------------------------------------- no image


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "LOCALIZER"),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"), "Modality": "CT"}, "LOCALIZER"),
        ({"ImageType": ("DERIVED", "SECONDARY", "SCREEN SAVE")}, "NOT_AN_IMAGE"),
        ({"ImageType": ("DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT")}, "NOT_AN_IMAGE"),
        ({"SOPClassUID": f"{STORAGE}7", "ImagePositionPatient": None}, "NOT_AN_IMAGE"),
        ({"SOPClassUID": f"{STORAGE}88.67"}, "NOT_AN_IMAGE"),
        ({"SOPClassUID": f"{STORAGE}11.1"}, "NOT_AN_IMAGE"),
        ({"SOPClassUID": f"{STORAGE}66.4"}, "NOT_AN_IMAGE"),
        ({"SOPClassUID": f"{STORAGE}66.7"}, "NOT_AN_IMAGE"),
        ({"SOPClassUID": f"{STORAGE}481.3"}, "NOT_AN_IMAGE"),
        ({"SOPClassUID": f"{STORAGE}481.2"}, "NOT_AN_IMAGE"),
        ({"Modality": "KO"}, "NOT_AN_IMAGE"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "NOT_AN_IMAGE"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "NOT_AN_IMAGE"),
    ],
)
def test_what_is_no_measured_image_is_named_and_kept_out(values: dict[str, Any], code: str) -> None:
    found = arrange(stack(**values))
    assert volumes(found) == []
    assert codes(found, "info") == {code}
    assert codes(found, "error") == set()
    (series,) = found.series
    assert (series.instances, series.usable) == (4, 0)


def test_a_secondary_capture_that_says_where_it_is_is_an_image() -> None:
    assert only(stack(SOPClassUID=f"{STORAGE}7")).shape == (6, 8, 4)


def test_a_survey_in_three_orientations_is_a_localizer_by_its_description() -> None:
    survey = [
        *stack(SeriesDescription="survey_3pl"),
        *stack(SeriesDescription="survey_3pl", ImageOrientationPatient=SAGITTAL),
    ]
    found = arrange(survey)
    assert volumes(found) == []
    assert codes(found) == {"LOCALIZER"}


def test_a_single_stack_that_is_called_a_scout_is_kept_with_a_warning() -> None:
    found = arrange(stack(SeriesDescription="TI scout"))
    assert len(volumes(found)) == 1
    assert codes(found, "warning") == {"LOCALIZER"}


# ------------------------------------------------------------------------------------- mixed


def test_orientations_that_are_each_a_stack_become_volumes_of_their_own() -> None:
    turned = [instance(x=3.0 * k, ImageOrientationPatient=SAGITTAL) for k in range(5)]
    found = arrange([*stack(), *turned])
    assert [(plan.name, plan.shape) for plan in volumes(found)] == [
        ("s007-orientation1", (6, 8, 5)),
        ("s007-orientation2", (6, 8, 4)),
    ]
    assert codes(found) == {"MIXED_ORIENTATION"}
    assert codes(found, "error") == set()


def test_an_image_of_another_orientation_is_an_error_and_the_stack_is_kept() -> None:
    found = arrange([*stack(), instance(ImageOrientationPatient=SAGITTAL)])
    assert [plan.shape for plan in volumes(found)] == [(6, 8, 4)]
    assert codes(found, "error") == codes(found, "warning") == {"MIXED_ORIENTATION"}


def test_three_long_axis_cines_in_one_series_are_refused() -> None:
    turns = [np.radians(angle) for angle in (0, 60, 120)]
    images = [
        instance(
            TriggerTime=30.0 * t,
            ImageOrientationPatient=(float(np.cos(turn)), float(np.sin(turn)), 0.0, 0.0, 0.0, -1.0),
        )
        for turn in turns
        for t in range(5)
    ]
    assert refused(images) == {"MIXED_ORIENTATION"}


@pytest.mark.parametrize("other", [{"Rows": 16}, {"Columns": 12}, {"PixelSpacing": (0.75, 1.0)}])
def test_another_grid_is_kept_apart(other: dict[str, Any]) -> None:
    found = arrange([*stack(), *[instance(40.0 + 3.0 * z, **other) for z in range(3)]])
    assert sorted(plan.shape[2] for plan in volumes(found)) == [3, 4]
    assert codes(found) == {"MIXED_GRID"}


def test_rounding_of_cosines_and_spacings_sets_nothing_apart() -> None:
    images = [
        instance(
            3.0 * z,
            ImageOrientationPatient=(1.0, 1e-6 * z, 0.0, -1e-6 * z, 1.0, 0.0),
            PixelSpacing=(1.5, 2 + 1e-5 * z),
        )
        for z in range(4)
    ]
    assert only(images).shape == (6, 8, 4)


# ------------------------------------------------------------------------------------- kept apart


@pytest.mark.parametrize(
    ("keyword", "values", "expected"),
    [
        ("EchoTime", (2.3, 4.6), ["s007-echo1", "s007-echo2"]),
        ("EchoNumbers", ((1,), (2,)), ["s007-echo1", "s007-echo2"]),
        ("DiffusionBValue", (0.0, 800.0), ["s007-b0", "s007-b800"]),
        ("Siemens.BValue", (0, 50), ["s007-b0", "s007-b50"]),
        ("GE.BValue", ((0, 8, 0, 0), (1000000800, 8, 0, 0)), ["s007-b0", "s007-b800"]),
        ("Philips.DiffusionBFactor", (0.0, 600.0), ["s007-b0", "s007-b600"]),
        ("ConvolutionKernel", (("B26f",), ("B70f",)), ["s007-kernel1", "s007-kernel2"]),
        ("InversionTime", (150.0, 350.0), ["s007-ti1", "s007-ti2"]),
        ("FlipAngle", (3.0, 15.0), ["s007-flipangle1", "s007-flipangle2"]),
        ("SliceThickness", (3.0, 6.0), ["s007-slicethickness1", "s007-slicethickness2"]),
        ("Units", ("BQML", "CNTS"), ["s007-units1", "s007-units2"]),
        (
            "ImageType",
            (("ORIGINAL", "PRIMARY", "M"), ("ORIGINAL", "PRIMARY", "P")),
            ["s007-magnitude", "s007-phase"],
        ),
        ("GE.ImageType", (0, 2), ["s007", "s007-real"]),
    ],
)
def test_what_was_taken_or_made_differently_is_never_stacked(
    keyword: str, values: tuple[Any, Any], expected: list[str]
) -> None:
    images = [one for value in values for one in stack(**{"ImageType": None, keyword: value})]
    plans = volumes(arrange(images[::-1]))
    assert sorted(plan.name for plan in plans) == sorted(expected)
    for plan in plans:
        assert plan.shape == (6, 8, 4)
        assert {row[0].get(keyword) for row in plan.planes} <= set(values)
        assert len({row[0].get(keyword) for row in plan.planes}) == 1


def test_settings_that_an_operator_changes_from_slice_to_slice_split_no_stack() -> None:
    images = [instance(3.0 * z, InversionTime=300.0 + 5 * z, FlipAngle=20.0 + z) for z in range(4)]
    assert only(images).shape == (6, 8, 4)


def test_gradient_directions_are_kept_apart_and_averages_are_a_series_in_time() -> None:
    images = [
        instance(
            3.0 * z, DiffusionBValue=1000.0, DiffusionGradientOrientation=way, AcquisitionTime=f"0905{n:02d}"
        )
        for n, way in enumerate([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)])
        for z in range(3)
    ]
    plans = volumes(arrange(images))
    assert sorted(plan.shape for plan in plans) == [(6, 8, 3), (6, 8, 3, 2)]


def test_contrast_phases_of_a_ct_are_volumes_and_a_perfusion_is_one_in_time() -> None:
    def scans(count: int) -> list[Instance]:
        return [
            instance(3.0 * z, Modality="CT", AcquisitionNumber=n, AcquisitionTime=f"0905{2 * n:02d}.{z}")
            for n in range(count)
            for z in range(4)
        ]

    assert names(scans(3)) == ["s007-acquisition1", "s007-acquisition2", "s007-acquisition3"]
    assert only(scans(20)).shape == (6, 8, 4, 20)


def test_frames_of_reference_that_differ_per_file_split_nothing() -> None:
    plan = only(cine(FrameOfReferenceUID=lambda z, t: f"1.{z}.{t}"))
    assert plan.shape == (6, 8, 3, 4)


def test_names_are_unlike_within_a_scan() -> None:
    images = [one for study in ("1.1", "1.2", "1.3") for one in stack(StudyInstanceUID=study)]
    assert names(images) == ["s007", "s007-2", "s007-3"]


def test_a_series_without_number_has_a_name() -> None:
    assert names(stack(SeriesNumber=None)) == ["s"]


def test_files_without_series_uid_are_kept_together_and_told() -> None:
    found = arrange(stack(SeriesInstanceUID=None))
    assert [plan.shape for plan in volumes(found)] == [(6, 8, 4)]
    assert codes(found, "warning") == {"UNDECODABLE"}


def test_attributes_say_what_sets_a_volume_apart() -> None:
    plans: list[VolumePlan] = volumes(arrange([*stack(EchoTime=2.3), *stack(EchoTime=4.6)]))
    assert [dict(plan.attributes) for plan in plans] == [{"EchoTime": 2.3}, {"EchoTime": 4.6}]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"ImageType": ("DERIVED", "PRIMARY", "MPR")}, {"Derived": "DERIVED\\PRIMARY\\MPR"}),
        (
            {"ImageType": ("DERIVED", "SECONDARY", "MIP")},
            {"Derived": "DERIVED\\SECONDARY\\MIP", "Projection": "yes"},
        ),
    ],
)
def test_derived_images_are_named_as_such(values: dict[str, Any], expected: dict[str, str]) -> None:
    assert dict(only(stack(**values)).attributes) == expected


# ------------------------------------------------------------------------------------- several in one stack


def test_two_reconstructions_of_ct_that_lie_among_each_other_are_two_volumes() -> None:
    thin = [instance(1.25 * z, Modality="CT", SliceThickness=1.25, InstanceNumber=z) for z in range(17)]
    thick = [
        instance(0.6 + 5.0 * z, Modality="CT", SliceThickness=5.0, InstanceNumber=99 + z) for z in range(4)
    ]
    plans = volumes(arrange([*thin, *thick]))
    assert [(plan.name, plan.shape[2], round(plan.spacing_mm[2], 2)) for plan in plans] == [
        ("s007-slicethickness1", 17, 1.25),
        ("s007-slicethickness2", 4, 5.0),
    ]


def test_two_scans_at_slightly_different_heights_are_two_volumes() -> None:
    images = [instance(3.0 * z + n, Modality="CT", AcquisitionNumber=n) for n in range(2) for z in range(6)]
    assert [plan.shape for plan in volumes(arrange(images))] == [(6, 8, 6), (6, 8, 6)]


def test_a_ct_that_goes_on_with_thicker_slices_is_one_volume() -> None:
    heights = [*(2.5 * np.arange(6)), *(12.5 + 5.0 * np.arange(1, 5))]
    images = [instance(h, Modality="CT", SliceThickness=2.5 if h <= 12.5 else 5.0) for h in heights]
    found = arrange(images)
    assert [plan.shape for plan in volumes(found)] == [(6, 8, 14)]
    assert codes(found) == {"NONUNIFORM_SPACING"}


def test_images_of_a_ct_that_only_instance_numbers_tell_apart_are_refused() -> None:
    images = [instance(3.0 * z, Modality="CT", InstanceNumber=10 * n + z) for n in range(2) for z in range(6)]
    assert refused(images) == {"DUPLICATE_POSITION"}


def test_a_few_scans_of_one_region_by_ct_are_volumes_and_phases_of_a_heartbeat_are_one() -> None:
    def scans(**times: Any) -> list[Instance]:
        return [
            instance(3.0 * z, Modality="CT", **{key: value(n) for key, value in times.items()})
            for n in range(3)
            for z in range(4)
        ]

    assert names(scans(AcquisitionTime=lambda n: f"09{n}000")) == ["s007-scan1", "s007-scan2", "s007-scan3"]
    assert only(scans(NominalPercentageOfCardiacPhase=lambda n: 30.0 * n)).shape == (6, 8, 4, 3)


def test_patients_with_the_same_uids_are_not_mixed() -> None:
    images = [instance(3.0 * z, **{"Patient.Key": key}) for key in ("a", "b") for z in range(4)]
    plans = volumes(arrange(images))
    assert [(plan.patient, plan.shape) for plan in plans] == [("p1", (6, 8, 4)), ("p2", (6, 8, 4))]
