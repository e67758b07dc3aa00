"""SUV factors: closed forms computed by hand, and a sentence for every tag that is missing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data.dicom.body import lean_mass_james, lean_mass_janmahasatian, surface_du_bois
from medmtl.data.dicom.clock import seconds_of_date_time, seconds_of_time
from medmtl.data.dicom.decay import average_count_rate_time
from medmtl.data.dicom.header import Header
from medmtl.data.dicom.nuclides import HALF_LIVES, nuclide_in
from medmtl.data.dicom.suv import SuvFactors, SuvKind, suv_factors

F18_S = 6586.2
INJECTED = datetime(2024, 2, 28, 9, 0, 0)
DOSE_BQ = 370e6


def tm(moment: datetime) -> str:
    return moment.strftime("%H%M%S.%f")


def da(moment: datetime) -> str:
    return moment.strftime("%Y%m%d")


def pet(
    scan: datetime | None = None,
    injected: datetime = INJECTED,
    *,
    dose: dict[str, Any] | None = None,
    **elements: Any,
) -> Header:
    """Header of a slice of an FDG scan, by default one half-life after the injection."""
    scan = injected + timedelta(seconds=F18_S) if scan is None else scan
    item = {
        "RadionuclideTotalDose": DOSE_BQ,
        "RadionuclideHalfLife": F18_S,
        "RadiopharmaceuticalStartTime": tm(injected),
        "RadionuclideCodeSequence": [{"CodeValue": "C-111A1", "CodeMeaning": "^18^Fluorine"}],
    } | (dose or {})
    values: dict[str, Any] = {
        "CorrectedImage": ("NORM", "ATTN", "DECY"),
        "DecayCorrection": "START",
        "SeriesType": ("WHOLE BODY", "IMAGE"),
        "SeriesDate": da(scan),
        "SeriesTime": tm(scan),
        "AcquisitionDate": da(scan),
        "AcquisitionTime": tm(scan),
        "PatientWeight": 70.0,
        "PatientSize": 1.75,
        "PatientSex": "M",
        "RadiopharmaceuticalInformationSequence": [
            {keyword: value for keyword, value in item.items() if value is not None}
        ],
    } | elements
    return Header.from_values({keyword: value for keyword, value in values.items() if value is not None})


def missing(*headers: Header, unit: str = "Bq/mL", kind: SuvKind = "bw") -> str:
    """The sentence with which an SUV is refused; the values then stay as they are."""
    result = suv_factors(headers, unit, kind, where="a.dcm")
    (finding,) = [finding for finding in result.findings if finding.code == "SUV_MISSING_TAG"]
    assert finding.severity == "warning"
    assert (result.unit, result.factors.tolist()) == (unit, [1.0] * len(headers))
    return finding.message


def factor(*headers: Header, kind: SuvKind = "bw") -> float:
    result = suv_factors(headers, "Bq/mL", kind)
    assert result.findings == ()
    assert len(set(result.factors.tolist())) == 1
    return float(result.factors[0])


# ------------------------------------------------------------------------------------------ missing and
# implausible


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ({"PatientWeight": None}, "PatientWeight is missing"),
        ({"PatientWeight": 0.0}, "PatientWeight is missing"),
        ({"PatientWeight": 70000.0}, "PatientWeight is 70000, which cannot be in kg"),
        ({"CorrectedImage": None}, "CorrectedImage is missing"),
        ({"CorrectedImage": ("DECY",)}, "CorrectedImage does not list ATTN"),
        ({"CorrectedImage": ("ATTN",)}, "DecayCorrection is START, CorrectedImage does not have DECY"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection is NONE, CorrectedImage has DECY"),
        ({"DecayCorrection": None}, "DecayCorrection is missing"),
        ({"DecayCorrection": "LATER"}, "DecayCorrection is LATER"),
        ({"SeriesTime": None}, "SeriesDate or SeriesTime is missing"),
        ({"SeriesDate": "20240231"}, "SeriesDate or SeriesTime is missing"),
        ({"AcquisitionDate": None}, "AcquisitionDate or AcquisitionTime is missing"),
        (
            {"RadiopharmaceuticalInformationSequence": None},
            "RadiopharmaceuticalInformationSequence is missing",
        ),
    ],
)
def test_a_tag_without_which_there_is_no_suv_is_named(elements: dict[str, Any], sentence: str) -> None:
    assert missing(pet(**elements)).startswith(sentence)
    assert missing(pet(**elements)).endswith("; values stay in Bq/mL")


@pytest.mark.parametrize(
    ("dose", "sentence"),
    [
        ({"RadionuclideTotalDose": None}, "RadionuclideTotalDose is missing"),
        (
            {"RadionuclideTotalDose": 370.0},
            "RadionuclideTotalDose is 370, which cannot be an injected dose in Bq",
        ),
        ({"RadionuclideHalfLife": None}, "RadionuclideHalfLife is missing"),
        (
            {"RadionuclideHalfLife": 109.77},
            r"RadionuclideHalfLife is 109.77, which is not the half-life of F18",
        ),
        (
            {"RadionuclideHalfLife": 4062.6},
            "RadionuclideHalfLife is 4062.6, which is not the half-life of F18",
        ),
        (
            {"RadionuclideHalfLife": 109.77, "RadionuclideCodeSequence": None},
            "RadionuclideHalfLife is 109.77, which is not the half-life of any nuclide used in PET",
        ),
        (
            {"RadiopharmaceuticalStartTime": None},
            "RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime are missing",
        ),
        (
            {"RadiopharmaceuticalStartDateTime": "20240227090000"},
            "RadiopharmaceuticalStartDateTime is 25.8 hours before the scan",
        ),
        (
            {"RadiopharmaceuticalStartDateTime": "20240228120000"},
            "RadiopharmaceuticalStartDateTime is 70 minutes after the scan began",
        ),
    ],
)
def test_an_injection_that_is_not_known_or_cannot_be_is_named(dose: dict[str, Any], sentence: str) -> None:
    assert missing(pet(dose=dose)).startswith(sentence)


def test_two_injections_are_refused_as_nobody_says_which_was_measured() -> None:
    twice = pet()
    (item,) = twice.get("RadiopharmaceuticalInformationSequence")
    header = pet(RadiopharmaceuticalInformationSequence=[item, item])
    assert missing(header).startswith("RadiopharmaceuticalInformationSequence has 2 items")


def test_slices_of_different_doses_or_corrections_are_refused() -> None:
    assert "RadiopharmaceuticalInformationSequence differs" in missing(
        pet(), pet(dose={"RadionuclideTotalDose": 200e6})
    )
    assert "DecayCorrection differs" in missing(pet(), pet(DecayCorrection="ADMIN"))


def test_a_clock_twenty_minutes_ahead_is_not_taken_for_the_evening_before() -> None:
    scan = INJECTED - timedelta(minutes=20)
    assert "hours before the scan, too long" in missing(pet(scan))


def test_a_long_lived_nuclide_needs_the_date_of_its_injection() -> None:
    dose = {"RadionuclideHalfLife": HALF_LIVES["Zr89"], "RadionuclideCodeSequence": None}
    scan = INJECTED + timedelta(days=4)
    assert missing(pet(scan, dose=dose)).startswith("RadiopharmaceuticalStartDateTime is missing")
    dated = dose | {"RadiopharmaceuticalStartDateTime": "20240228090000"}
    expected = 70000 / (DOSE_BQ * 2 ** (-4 * 86400 / HALF_LIVES["Zr89"]))
    assert factor(pet(scan, dose=dated)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("unit", ["counts", "proportional to counts/s", "", "mL/min/g"])
def test_values_of_which_no_suv_follows_stay_as_they_are(unit: str) -> None:
    assert "(Units)" in missing(pet(), unit=unit)


@pytest.mark.parametrize(
    ("elements", "kind", "sentence"),
    [
        ({"PatientSize": None}, "bsa", "PatientSize is missing"),
        ({"PatientSize": 175.0}, "lbm", "PatientSize is 175, which cannot be in m"),
        ({"PatientSex": None}, "lbm", "PatientSex is missing"),
        ({"PatientSex": "O"}, "lbm-james", "PatientSex is O"),
        ({"PatientWeight": 400.0}, "lbm-james", "PatientWeight 400 kg with PatientSize 1.75 m"),
    ],
)
def test_lean_mass_and_surface_need_height_and_sex(
    elements: dict[str, Any], kind: SuvKind, sentence: str
) -> None:
    assert missing(pet(**elements), kind=kind).startswith(sentence)


def test_a_lean_mass_suv_of_an_unnamed_formula_cannot_be_converted() -> None:
    result = suv_factors([pet()], "SUVlbm", "bw")
    assert [finding.code for finding in result.findings] == ["SUV_ALREADY", "SUV_MISSING_TAG"]
    assert (result.unit, result.factors[0]) == ("SUVlbm", 1.0)


# --------------------------------------------------------------------------------------------------- computed
# by hand


def test_one_half_life_after_the_injection_half_the_dose_is_left() -> None:
    # QIBA: 70 kg * 1000 / (370e6 Bq * 2^-1)
    assert factor(pet()) == pytest.approx(70000 / 185e6, rel=1e-9)


def test_an_hour_after_the_injection_of_fdg() -> None:
    # 370e6 * 2^(-3600 / 6586.2) = 253.31e6; 70000 / 253.31e6 = 2.7634e-4
    assert factor(pet(INJECTED + timedelta(hours=1))) == pytest.approx(2.7633e-4, rel=1e-4)


def test_values_corrected_to_the_injection_refer_to_the_whole_dose() -> None:
    assert factor(pet(DecayCorrection="ADMIN", SeriesTime=None)) == pytest.approx(70000 / 370e6, rel=1e-12)


def test_lean_masses_and_surface_by_hand() -> None:
    # 70 kg, 1.75 m: BMI 22.857; 9270 * 70 / (6680 + 216 * 22.857), / (8780 + 244 * 22.857)
    assert lean_mass_janmahasatian(70, 1.75, "M") == pytest.approx(55.857, abs=1e-3)
    assert lean_mass_janmahasatian(70, 1.75, "F") == pytest.approx(45.198, abs=1e-3)
    # 1.10 * 70 - 128 * (70 / 175)^2, 1.07 * 70 - 148 * (70 / 175)^2
    assert lean_mass_james(70, 1.75, "M") == pytest.approx(56.52, abs=1e-9)
    assert lean_mass_james(70, 1.75, "F") == pytest.approx(51.22, abs=1e-9)
    # Du Bois 1916: 70 kg and 170 cm have 1.81 m2
    assert surface_du_bois(70, 1.70) == pytest.approx(1.81, abs=0.005)


def test_kinds_differ_by_the_size_of_the_body_alone() -> None:
    by_kind = {kind: factor(pet(), kind=kind) * 185e6 for kind in ("bw", "lbm", "lbm-james", "bsa")}
    assert by_kind["bw"] == pytest.approx(70000)
    assert by_kind["lbm"] == pytest.approx(55857, abs=1)
    assert by_kind["lbm-james"] == pytest.approx(56520)
    assert by_kind["bsa"] == pytest.approx(10000 * surface_du_bois(70, 1.75))


@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        ("bw", "SUVbw"),
        ("lbm", "SUVlbm (Janmahasatian)"),
        ("lbm-james", "SUVlbm (James)"),
        ("bsa", "SUVbsa"),
    ],
)
def test_the_unit_names_the_formula(kind: SuvKind, unit: str) -> None:
    assert suv_factors([pet()], "Bq/mL", kind).unit == unit


def test_the_count_rate_is_average_just_before_the_middle_of_a_frame() -> None:
    # T / 2 - ln 2 / half-life * T^2 / 24 to first order
    assert average_count_rate_time(60.0, F18_S) == pytest.approx(30.0 - 0.0158, abs=1e-4)
    # of one half-life: T / ln 2 * ln(2 ln 2) = 0.4712 T
    assert average_count_rate_time(100.0, 100.0) == pytest.approx(47.12, abs=0.01)
    assert average_count_rate_time(1e-3, 1e9) == 5e-4


# --------------------------------------------------------------------------------------------------- which
# moment


def test_beds_after_the_first_refer_to_the_start_of_the_series() -> None:
    scan = INJECTED + timedelta(hours=1)
    later = pet(scan, AcquisitionTime=tm(scan + timedelta(minutes=12)))
    assert factor(pet(scan), later) == pytest.approx(factor(pet(scan)))


def test_a_series_made_later_takes_the_scanner_s_private_start() -> None:
    scan = INJECTED + timedelta(hours=1)
    made = {"SeriesTime": tm(scan + timedelta(hours=5))}
    stated = (scan - timedelta(minutes=1)).strftime("%Y%m%d%H%M%S.%f")
    for private in ("GE.ScanDateTime", "Siemens.DecayCorrectionDateTime"):
        found = factor(pet(scan, **made, **{private: stated}))
        assert found == pytest.approx(factor(pet(scan - timedelta(minutes=1))), rel=1e-9)


@pytest.mark.parametrize("manufacturer", ["SIEMENS", "GE MEDICAL SYSTEMS"])
def test_a_series_made_later_is_dated_back_by_its_frame_times(manufacturer: str) -> None:
    start = INJECTED + timedelta(hours=1)
    headers = []
    for bed in range(3):
        began, seconds = start + timedelta(seconds=130 * bed), 120.0
        to_average = 0.0 if "GE" in manufacturer else average_count_rate_time(seconds, F18_S)
        headers.append(
            pet(
                began,
                SeriesTime=tm(start + timedelta(hours=7)),
                Manufacturer=manufacturer,
                FrameReferenceTime=1000.0 * (130 * bed + 5 + to_average),
                ActualFrameDuration=int(1000 * seconds),
            )
        )
    assert factor(*headers) == pytest.approx(factor(pet(start - timedelta(seconds=5))), rel=1e-7)


def test_frame_times_that_contradict_each_other_are_refused() -> None:
    scan = INJECTED + timedelta(hours=1)
    made: dict[str, Any] = {"SeriesTime": tm(scan + timedelta(hours=5)), "ActualFrameDuration": 60000}
    headers = [pet(scan, **made, FrameReferenceTime=time) for time in (30000.0, 90000.0)]
    assert "FrameReferenceTime differs on the start" in missing(*headers)


def test_a_series_made_later_without_frame_times_starts_with_its_first_frame() -> None:
    scan = INJECTED + timedelta(hours=1)
    made = {"SeriesTime": tm(scan + timedelta(hours=5))}
    later = pet(scan, **made, AcquisitionTime=tm(scan + timedelta(minutes=3)))
    assert factor(later, pet(scan, **made)) == pytest.approx(factor(pet(scan)), rel=1e-9)


def test_uncorrected_values_refer_to_when_each_frame_was_measured() -> None:
    began = [INJECTED + timedelta(minutes=minutes) for minutes in (60, 90)]
    raw: dict[str, Any] = {
        "DecayCorrection": "NONE",
        "CorrectedImage": ("ATTN",),
        "ActualFrameDuration": 600000,
    }
    result = suv_factors([pet(moment, **raw) for moment in began], "Bq/mL", "bw")
    middle = average_count_rate_time(600.0, F18_S)
    expected = [70000 / (DOSE_BQ * 2 ** (-(60 * minutes + middle) / F18_S)) for minutes in (60, 90)]
    np.testing.assert_allclose(result.factors, expected, rtol=1e-9)
    assert "ActualFrameDuration is missing" in missing(pet(**(raw | {"ActualFrameDuration": None})))


def test_enhanced_pet_says_to_which_moment_it_is_corrected() -> None:
    scan = INJECTED + timedelta(hours=1)
    enhanced: dict[str, Any] = {
        "DecayCorrection": None,
        "CorrectedImage": None,
        "AttenuationCorrected": "YES",
        "DecayCorrected": "YES",
    }
    stated = pet(**enhanced, DecayCorrectionDateTime="20240228100000")
    assert factor(stated) == pytest.approx(factor(pet(scan)), rel=1e-12)
    assert missing(pet(**enhanced)).startswith("DecayCorrectionDateTime is missing")


def test_a_dynamic_scan_may_begin_before_the_injection_and_a_static_one_may_not() -> None:
    scan = INJECTED - timedelta(seconds=30)
    dynamic = pet(scan, SeriesType=("DYNAMIC", "IMAGE"))
    assert factor(dynamic) == pytest.approx(70000 / (DOSE_BQ * 2 ** (30 / F18_S)), rel=1e-9)
    assert "minutes after the scan began" in missing(pet(scan))


def test_midnight_may_lie_between_injection_and_scan() -> None:
    injected = datetime(2024, 2, 29, 23, 30)
    scan = injected + timedelta(hours=1)  # 1 March
    assert factor(pet(scan, injected)) == pytest.approx(factor(pet(INJECTED + timedelta(hours=1))), rel=1e-12)


def test_an_injection_time_with_another_offset_from_utc_is_converted() -> None:
    dose = {"RadiopharmaceuticalStartDateTime": "20240228080000+0000"}
    scan = INJECTED + timedelta(hours=1)
    assert factor(pet(scan, dose=dose, TimezoneOffsetFromUTC="+0100")) == pytest.approx(factor(pet(scan)))


@settings(deadline=None)
@given(
    shift=st.integers(0, 400 * 86400),
    wait=st.integers(0, 6 * 3600),
    dated=st.booleans(),
    weight=st.floats(2, 300),
    dose=st.floats(2e6, 1e10),
)
def test_the_factor_depends_on_weight_dose_and_waiting_time_alone(
    shift: int, wait: int, dated: bool, weight: float, dose: float
) -> None:
    injected = INJECTED + timedelta(seconds=shift)
    item: dict[str, Any] = {"RadionuclideTotalDose": dose}
    if dated:
        item["RadiopharmaceuticalStartDateTime"] = injected.strftime("%Y%m%d%H%M%S.%f")
    header = pet(injected + timedelta(seconds=wait), injected, dose=item, PatientWeight=weight)
    assert factor(header) == pytest.approx(1000 * weight / (dose * 2 ** (-wait / F18_S)), rel=1e-9)


# ------------------------------------------------------------------------------------------------- SUV
# already, Philips


def test_values_that_are_suv_already_are_left_alone_and_said() -> None:
    result = suv_factors([pet(PatientWeight=None)], "SUVbw", "bw")
    assert [(f.code, f.severity) for f in result.findings] == [("SUV_ALREADY", "info")]
    assert (result.unit, result.factors[0]) == ("SUVbw", 1.0)


@pytest.mark.parametrize(
    ("unit", "kind", "expected"),
    [
        ("SUVbw", "lbm", 55857.0 / 70000),
        ("SUVlbm (James)", "bw", 70000 / 56520),
        ("SUVbsa", "bw", 70000 / (10000 * surface_du_bois(70, 1.75))),
    ],
)
def test_one_kind_of_suv_becomes_another_without_the_dose(unit: str, kind: SuvKind, expected: float) -> None:
    result = suv_factors([pet(RadiopharmaceuticalInformationSequence=None)], unit, kind)
    assert result.factors[0] == pytest.approx(expected, rel=1e-5)
    assert [finding.code for finding in result.findings] == ["SUV_ALREADY"]


def philips(kind: SuvKind = "bw", **elements: Any) -> SuvFactors:
    return suv_factors([pet(**elements)], "counts", kind)


def test_philips_private_factor_makes_counts_suv() -> None:
    result = philips(**{"Philips.SUVScaleFactor": 0.000551, "Philips.ActivityConcentrationScaleFactor": 2.0})
    assert (result.unit, result.factors[0], result.findings) == ("SUVbw", 0.000551, ())
    lean = philips("lbm", **{"Philips.SUVScaleFactor": 0.000551})
    assert lean.factors[0] == pytest.approx(0.000551 * 55857 / 70000, rel=1e-5)


def test_philips_activity_factor_makes_counts_becquerel_where_the_other_is_zero() -> None:
    result = philips(**{"Philips.SUVScaleFactor": 0.0, "Philips.ActivityConcentrationScaleFactor": 2.0})
    assert result.unit == "SUVbw"
    assert result.factors[0] == pytest.approx(2.0 * 70000 / 185e6, rel=1e-9)


def test_counts_become_becquerel_at_least_where_only_the_suv_fails() -> None:
    result = philips(**{"Philips.ActivityConcentrationScaleFactor": 2.0, "PatientWeight": None})
    assert (result.unit, result.factors[0]) == ("Bq/mL", 2.0)
    assert [finding.code for finding in result.findings] == ["SUV_MISSING_TAG"]


# ---------------------------------------------------------------------------------------------------- names
# and clocks


@pytest.mark.parametrize(
    ("meaning", "nuclide"),
    [
        ("^18^Fluorine", "F18"),
        ("F^18^", "F18"),
        ("18F", "F18"),
        ("Fluorine-18", "F18"),
        ("^68^Gallium", "Ga68"),
        ("FDG -- fluorodeoxyglucose", None),
        ("", None),
    ],
)
def test_nuclides_are_known_by_their_common_names(meaning: str, nuclide: str | None) -> None:
    assert nuclide_in(meaning) == nuclide


@pytest.mark.parametrize("text", ["", "24", "1260", "10156", "noon", "101530.", "-1"])
def test_what_is_no_time_of_day_has_no_seconds(text: str) -> None:
    assert seconds_of_time(text) is None


@pytest.mark.parametrize(("text", "seconds"), [("10", 36000.0), ("1015", 36900.0), ("10:15:30", 36930.0)])
def test_short_and_old_times_are_read(text: str, seconds: float) -> None:
    assert seconds_of_time(text) == seconds


def test_a_date_time_without_an_hour_says_no_moment() -> None:
    assert seconds_of_date_time("20240228") is None
