from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydicom.sr._concepts_dict import concepts

from medmtl.data.dicom.seg import Code
from medmtl.inference.dicom import Codes, plain_codes
from medmtl.inference.dicom import concepts as ours
from medmtl.inference.dicom.concepts import (
    ALTERED,
    ANATOMY,
    LEFT_VENTRICLE,
    LV_MYOCARDIUM,
    NORMAL_MYOCARDIUM,
    TISSUE,
    UNITS,
    structure_concept,
    unit_code,
    value_concept,
)
from medmtl.types import ConfigError

BUILT_IN = [
    *(value for value in vars(ours).values() if isinstance(value, Code)),
    *ours.PHASES.values(),
    *(code for pair in ours.STRUCTURES.values() for code in pair),
    *(code for code, _ in ours._VALUES.values()),
    *ours._EJECTION_FRACTION.values(),
]


def test_every_built_in_code_is_in_the_standards_dictionary_with_that_meaning() -> None:
    known: dict[tuple[str, str], set[str]] = {}
    for scheme, of_scheme in concepts.items():
        for of_keyword in of_scheme.values():
            for value, (meaning, _) in of_keyword.items():
                known.setdefault((scheme, value), set()).add(meaning.lower())
    wrong = [
        code
        for code in set(BUILT_IN)
        if code.scheme != ours.PRIVATE_SCHEME
        and not any(code.meaning.lower() in meaning for meaning in known.get((code.scheme, code.value), ()))
    ]
    assert len(set(BUILT_IN)) > 50
    assert wrong == []


def test_codes_fit_the_elements_that_hold_them() -> None:
    for code in [*BUILT_IN, *UNITS.values()]:
        assert 0 < len(code.meaning) <= 64
        assert len(code.scheme) <= 16


@pytest.mark.parametrize("name", ["LV", "lv", "Left ventricle", "LV cavity", "lv_cavity", "left-ventricle"])
def test_a_structure_is_known_by_its_usual_names(name: str) -> None:
    assert structure_concept(name) == (ANATOMY, LEFT_VENTRICLE)


def test_tissue_classes_are_what_they_are_inside_of() -> None:
    assert structure_concept("healthy", "MYO") == (TISSUE, NORMAL_MYOCARDIUM)
    assert structure_concept("healthy", "liver") == (ANATOMY, TISSUE)
    healthy, scar = Codes().segments({"healthy": 1, "scar": 2}, inside="MYO")
    assert healthy.site == scar.site == LV_MYOCARDIUM
    assert scar.category == ALTERED


def test_a_structure_that_is_not_known_is_an_anatomical_structure_under_its_own_name() -> None:
    [segment] = Codes().segments({"left thingamajig": 1})
    assert (segment.category, segment.code, segment.name) == (ANATOMY, TISSUE, "left thingamajig")


@pytest.mark.parametrize(
    ("name", "modality", "expected"),
    [
        ("LV_EF", "MR", ("8811-2", LEFT_VENTRICLE, "")),
        ("LV_EF", "CT", ("8810-4", LEFT_VENTRICLE, "")),
        ("LV_EF", "", ("70822001", LEFT_VENTRICLE, "")),
        ("LV_EDV", "MR", ("8821-1", LEFT_VENTRICLE, "ED")),
        ("LV_ESV", "MR", ("8823-7", LEFT_VENTRICLE, "ES")),
        ("MYO_mass", "MR", ("18087-7", LV_MYOCARDIUM, "ED")),
        ("liver_volume", "CT", ("118565006", structure_concept("liver")[1], "")),
        ("MYO_EDV", "MR", ("118565006", LV_MYOCARDIUM, "ED")),
        ("age", "MR", ("age", None, "")),
    ],
)
def test_a_value_has_code_site_and_phase(name: str, modality: str, expected: tuple[Any, ...]) -> None:
    code, site, phase = value_concept(name, modality)
    assert (code.value, site, phase) == expected


def test_units_are_ucums() -> None:
    told = [unit_code(unit).value for unit in ("mL", "bpm", "HU", "", "mmol/L", "a strange unit")]
    assert told == ["mL", "/min", "[hnsf'U]", "1", "mmol/L", "a strange unit"]
    assert unit_code("mmol/L").scheme == "UCUM"
    assert unit_code("a strange unit").scheme == ours.PRIVATE_SCHEME


def test_a_model_says_what_its_structures_values_and_classes_are() -> None:
    text = """
      structures:
        LV: {type: {value: "1", scheme: SCT, meaning: one}, color: [1, 2, 3]}
      values:
        LV_EF: {code: {value: "2", scheme: LN, meaning: two}, unit: "1"}
      classes:
        disease: {code: {value: "3", scheme: SCT, meaning: three}, A: {value: 4, scheme: SCT, meaning: four}}
    """
    codes = Codes.from_plain(yaml.safe_load(text))
    [segment] = codes.segments({"LV": 3})
    assert (segment.code, segment.color) == (Code("1", "SCT", "one"), (1, 2, 3))
    measurement = codes.measurement("LV_EF", 0.5, "%", modality="MR")
    assert (measurement.code, measurement.unit.value) == (Code("2", "LN", "two"), "1")
    evaluation = codes.evaluation("disease", "A", {"A": 1.0, "NOR": 0.0})
    assert evaluation.code.value == "3"
    assert evaluation.value_code == Code("4", "SCT", "four")
    assert evaluation.codes["NOR"].scheme == ours.PRIVATE_SCHEME


def test_the_section_that_shows_the_built_in_codes_reads_back_as_them() -> None:
    section = plain_codes({"LV": "", "healthy": "MYO"}, ["LV_EF", "LV_EDV", "age"], "MR")
    again = Codes.from_plain(yaml.safe_load(yaml.safe_dump(section)))
    assert again.segments({"LV": 1}) == Codes().segments({"LV": 1})
    assert again.segments({"healthy": 1}, "MYO") == Codes().segments({"healthy": 1}, "MYO")
    for name in ("LV_EF", "LV_EDV", "age"):
        assert again.measurement(name, 1.0, "%") == Codes().measurement(name, 1.0, "%", modality="MR")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"colours": {}}, "a section of structures, values and classes"),
        (["LV"], "a section of structures, values and classes"),
        ({"structures": ["LV"]}, r"codes\.structures: has to be a section per name"),
        ({"structures": {"LV": "87878005"}}, r"codes\.structures: has to be a section per name"),
        ({"structures": {"LV": {"type": "87878005"}}}, r"codes\.structures\.LV\.type: has to be a code"),
        ({"structures": {"LV": {"color": [0, 0, 300]}}}, "three numbers from 0 to 255"),
        ({"values": {"EF": {"code": {"value": "1"}}}}, r"codes\.values\.EF\.code: has to be a code"),
        (
            {"classes": {"d": {"A": {"value": "1", "scheme": "SCT", "meaning": ""}}}},
            r"codes\.classes\.d\.A: value, scheme",
        ),
    ],
)
def test_a_wrong_section_is_named(section: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Codes.from_plain(section)
