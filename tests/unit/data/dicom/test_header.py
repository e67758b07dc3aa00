"""Values of a header: right type, right number, or None; equal to pydicom's; no patient in them."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from pydicom._private_dict import private_dictionaries
from pydicom.datadict import dictionary_VM, dictionary_VR, private_dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from medmtl.data.dicom.elements import ELEMENTS, PRIVATE_BLOCKS, TAGS
from medmtl.data.dicom.header import Header, patient_key_of_id
from medmtl.data.dicom.opened import open_source
from tests.helpers.small_dicom import Memory, dataset, element, encoded, file_of, implicit_file_of, small

UID = element(0x00080018, b"UI", b"1.2.3\0")


def header_of(data: bytes) -> Header:
    return open_source(Memory(data)).instance.header


# ------------------------------------------------------------------------------------ values that are wrong


@pytest.mark.parametrize(
    "value",
    [b"abc ", b"1.5abc", b"1_000 ", b"nan ", b"inf ", b"1\\2 ", b"1e999 ", b"--1 ", b"\xff\xfe", b"1,5 "],
)
def test_a_number_that_is_none_is_absent_and_named(value: bytes) -> None:
    header = header_of(file_of(UID, element(0x00181060, b"DS", value)))
    assert header.get("TriggerTime") is None
    assert header.has("TriggerTime")
    assert header.undecodable() == ("TriggerTime",)
    assert header.raw("TriggerTime") == value


@pytest.mark.parametrize("value", [b"", b"  ", b"\0\0"])
def test_an_empty_number_is_absent_without_a_complaint(value: bytes) -> None:
    header = header_of(file_of(UID, element(0x00181060, b"DS", value)))
    assert header.get("TriggerTime") is None
    assert header.undecodable() == ()


@pytest.mark.parametrize("value", [b"1\\2 ", b"1\\2\\3\\4 ", b"1\\2\\x ", b"1\\\\3"])
def test_a_position_of_any_other_number_of_values_than_three_is_absent_and_named(value: bytes) -> None:
    header = header_of(file_of(UID, element(0x00200032, b"DS", value)))
    assert header.get("ImagePositionPatient") is None
    assert header.undecodable(["ImagePositionPatient", "Rows"]) == ("ImagePositionPatient",)


@pytest.mark.parametrize("value", [b"\1", b"\1\0\2", b"\1\0\2\0"])
def test_a_binary_number_of_the_wrong_length_is_absent_and_named(value: bytes) -> None:
    header = header_of(file_of(UID, element(0x00280010, b"US", value)))
    assert header.get("Rows") is None
    assert header.undecodable() == ("Rows",)


def test_a_binary_number_that_is_not_finite_is_absent_and_named() -> None:
    header = header_of(file_of(UID, element(0x00189087, b"FD", pack("<d", float("nan")))))
    assert header.get("DiffusionBValue") is None
    assert header.undecodable() == ("DiffusionBValue",)


def test_a_number_with_the_representation_of_another_number_or_of_text_is_understood() -> None:
    header = header_of(
        file_of(
            UID,
            element(0x00181060, b"LO", b"46.5"),
            element(0x00280010, b"IS", b"256 "),
            element(0x00280011, b"UL", pack("<I", 192)),
            element(0x00280030, b"FD", pack("<2d", 1.5, 1.25)),
        )
    )
    assert header.get("TriggerTime") == 46.5
    assert (header.get("Rows"), header.get("Columns")) == (256, 192)
    assert header.get("PixelSpacing") == (1.5, 1.25)
    assert header.undecodable() == ()


@pytest.mark.parametrize(
    ("tag", "vr", "value", "keyword"),
    [
        (0x00181060, b"SQ", b"", "TriggerTime"),
        (0x00181060, b"OB", b"12", "TriggerTime"),
        (0x0008103E, b"US", b"\1\0", "SeriesDescription"),
        (0x0008103E, b"PN", b"Doe^Jane", "SeriesDescription"),
        (0x52009230, b"LO", b"no sequence ", "PerFrameFunctionalGroupsSequence"),
        (0x52009230, b"FD", b"12345678", "PerFrameFunctionalGroupsSequence"),
        (0x52009230, b"DS", b"12", "PerFrameFunctionalGroupsSequence"),
    ],
)
def test_a_representation_that_cannot_hold_the_value_gives_none(
    tag: int, vr: bytes, value: bytes, keyword: str
) -> None:
    header = header_of(file_of(UID, element(tag, vr, value)))
    assert header.get(keyword) is None
    assert keyword not in header.as_dict()


def test_an_element_that_is_not_read_is_a_slip_of_the_pen() -> None:
    with pytest.raises(KeyError, match="PatientName"):
        header_of(small()).get("PatientName")
    with pytest.raises(KeyError, match="ImagePosition_"):
        Header.from_values({"ImagePosition_": 1})


# ------------------------------------------------------------------------------------ values that are right


def test_values_have_the_type_and_number_that_the_standard_says() -> None:
    header = header_of(small(SeriesDescription=" cine\\SA ", EchoNumbers=2, TriggerTime="46.5"))
    assert header.get("SeriesDescription") == "cine\\SA"
    assert header.get("ImageType") == ("ORIGINAL", "PRIMARY")
    assert header.get("EchoNumbers") == (2,)
    assert header.get("InstanceNumber") == 1
    assert type(header.get("InstanceNumber")) is int
    assert type(header.get("SliceThickness")) is float
    assert header.get("PixelSpacing") == (1.5, 1.25)
    assert header.get("EchoTime") is None


def test_a_whole_number_written_with_a_fraction_is_a_number() -> None:
    header = header_of(
        file_of(UID, element(0x00181062, b"IS", b"857.5 "), element(0x00200013, b"IS", b"3.0 "))
    )
    assert header.get("NominalInterval") == 857.5
    assert header.get("InstanceNumber") == 3
    assert type(header.get("InstanceNumber")) is int


@pytest.mark.parametrize(
    ("charset", "stored"),
    [
        ("ISO_IR 192", "Herz – kurze Achse".encode()),
        ("ISO_IR 100", "Herz: Übersicht ".encode("latin-1")),
        ("\\ISO 2022 IR 87", b"\x1b$B?4B!\x1b(B"),
        ("GB18030", "心脏".encode("gb18030")),
    ],
)
def test_text_is_read_in_the_files_character_set(charset: str, stored: bytes) -> None:
    data = file_of(
        element(0x00080005, b"CS", charset.encode() + b" " * (len(charset) % 2)),
        UID,
        element(0x0008103E, b"LO", stored + b" " * (len(stored) % 2)),
    )
    header = header_of(data)
    assert header.get("SeriesDescription") == Header.from_pydicom(_read(data)).get("SeriesDescription")
    assert header.get("SeriesDescription").isprintable()
    assert "?" not in header.get("SeriesDescription")


def test_text_in_a_character_set_that_nobody_knows_does_no_harm() -> None:
    data = file_of(element(0x00080005, b"CS", b"KLINGON "), UID, element(0x0008103E, b"LO", b"\xe9t\xe9 "))
    assert isinstance(header_of(data).get("SeriesDescription"), str)


def test_items_of_a_sequence_inherit_the_character_set() -> None:
    code = element(0x00080104, b"LO", "Größe".encode())
    items = element(0xFFFEE000, b"", code)
    data = file_of(element(0x00080005, b"CS", b"ISO_IR 192"), UID, element(0x00089092, b"SQ", items))
    (item,) = header_of(data.replace(b"\x08\0\x92\x90", b"\x54\0\x16\0")).get(
        "RadiopharmaceuticalInformationSequence"
    )
    assert item.get("CodeMeaning") == "Größe"


def test_whether_pixels_are_signed_decides_what_an_ambiguous_element_means() -> None:
    padding = element(0x00280120, b"", pack("<H", 0x8000))
    for signed, value in ((1, -32768), (0, 32768)):
        data = implicit_file_of(
            element(0x00080018, b"", b"1.2.3\0"), element(0x00280103, b"", pack("<H", signed)), padding
        )
        assert header_of(data).get("PixelPaddingValue") == value


def test_private_elements_are_found_by_their_creator_and_not_by_their_block() -> None:
    data = file_of(
        UID,
        element(0x70530010, b"LO", b"SOMEBODY ELSE "),
        element(0x70530011, b"LO", b"Philips PET Private Group "),
        element(0x70531000, b"DS", b"9.0 "),
        element(0x70531100, b"DS", b"0.00025 "),
    )
    assert header_of(data).get("Philips.SUVScaleFactor") == 0.00025


def test_a_private_element_without_its_creator_is_not_taken() -> None:
    assert header_of(file_of(UID, element(0x70531000, b"DS", b"9.0 "))).get("Philips.SUVScaleFactor") is None


def test_a_private_element_of_unknown_representation_is_understood() -> None:
    creator, value = b"Philips PET Private Group ", b"0.00025 "
    explicit = file_of(UID, element(0x70530010, b"LO", creator), element(0x70531000, b"UN", value))
    implicit = implicit_file_of(
        element(0x00080018, b"", b"1.2.3\0"),
        element(0x70530010, b"", creator),
        element(0x70531000, b"", value),
    )
    for data in (explicit, implicit):
        assert header_of(data).get("Philips.SUVScaleFactor") == 0.00025
        assert Header.from_pydicom(_read(data)).get("Philips.SUVScaleFactor") == 0.00025


@pytest.mark.parametrize("kind", ["MOSAIC", "M"])
def test_the_ten_kilobytes_of_a_csa_header_are_kept_for_mosaics_only(kind: str) -> None:
    data = file_of(
        element(0x00080008, b"CS", f"ORIGINAL\\{kind:6}".encode()),
        UID,
        element(0x00290010, b"LO", b"SIEMENS CSA HEADER"),
        element(0x00291010, b"OB", b"SV10"),
    )
    assert header_of(data).get("Siemens.CSAImageHeaderInfo") == (b"SV10" if kind == "MOSAIC" else None)


def test_nested_sequences_are_tuples_of_headers() -> None:
    group, position = Dataset(), Dataset()
    position.ImagePositionPatient = [1, 2, 3]
    group.PlanePositionSequence = [position]
    header = header_of(small(PerFrameFunctionalGroupsSequence=[group, Dataset()]))
    first, second = header.get("PerFrameFunctionalGroupsSequence")
    assert first.get("PlanePositionSequence")[0].get("ImagePositionPatient") == (1.0, 2.0, 3.0)
    assert second.get("PlanePositionSequence") is None
    assert header.get("PerFrameFunctionalGroupsSequence")[0] is first
    assert header.get("SharedFunctionalGroupsSequence") is None


# -------------------------------------------------------------------------------------------- other origins


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_encoding_of_a_file_changes_nothing(syntax: str) -> None:
    plain = header_of(small(TriggerTime="46.5")).as_dict()
    ds = dataset(TriggerTime="46.5")
    if syntax == ExplicitVRBigEndian:
        ds.set_original_encoding(False, False)
    assert header_of(encoded(ds, syntax)).as_dict() == plain


def test_a_dataset_made_in_memory_gives_the_header_of_its_file() -> None:
    values = {"TriggerTime": "46.5", "RescaleSlope": 2.5, "FrameTimeVector": [1, 2, 3]}
    assert Header.from_pydicom(dataset(**values)).as_dict() == header_of(small(**values)).as_dict()


def test_a_header_made_of_values_returns_them() -> None:
    values: dict[str, Any] = {
        "Rows": 4,
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "SharedFunctionalGroupsSequence": [{"PixelMeasuresSequence": [{"PixelSpacing": (1.0, 2.0)}]}],
    }
    header = Header.from_values(values)
    assert header.get("Rows") == 4
    assert header.get("ImageType") == ("ORIGINAL", "PRIMARY")
    (shared,) = header.get("SharedFunctionalGroupsSequence")
    assert shared.get("PixelMeasuresSequence")[0].get("PixelSpacing") == (1.0, 2.0)
    assert header.get("Columns") is None
    assert header.raw("Rows") is None


def test_a_header_that_shares_with_another_is_the_same_header() -> None:
    first, second = header_of(small(1)), header_of(small(2, TriggerTime="46.5"))
    upon = second.upon(first)
    assert upon.as_dict() == second.as_dict()
    assert upon.get("Rows") == 4
    assert upon.get("InstanceNumber") == 2
    less = header_of(small(3, PixelSpacing=None)).upon(first)
    assert less.get("PixelSpacing") is None
    assert first.as_dict() == header_of(small(1)).as_dict()


# ------------------------------------------------------------------------------------------------- patients


def test_the_patients_key_is_equal_for_one_patient_and_says_nothing_else() -> None:
    key = header_of(small(1)).get("Patient.Key")
    assert key == header_of(small(2, ImplicitVRLittleEndian)).get("Patient.Key")
    assert key == Header.from_pydicom(dataset()).get("Patient.Key")
    assert key == patient_key_of_id("P-17")
    assert key != header_of(small(PatientID="P-18")).get("Patient.Key")
    by_name = header_of(small(PatientID="")).get("Patient.Key")
    assert by_name not in (None, key)
    assert by_name != header_of(small(PatientID="", PatientName="Roe^Jane")).get("Patient.Key")
    assert header_of(small(PatientID="", PatientName="")).get("Patient.Key") is None


def test_no_header_holds_a_name_or_a_patient_id() -> None:
    header = header_of(small())
    kept = repr([header.layers, header.as_dict()])
    assert "P-17" not in kept
    assert "Doe" not in kept
    assert not {"PatientName", "PatientID", "PatientBirthDate", "InstitutionName"} & set(ELEMENTS)


# ------------------------------------------------------------------------------------ the table of elements


def test_every_standard_element_of_the_table_is_the_standards() -> None:
    for keyword, tag in TAGS.items():
        _, vr, number = ELEMENTS[keyword]
        assert tag_for_keyword(keyword) == tag
        assert vr.replace("|", " or ") == dictionary_VR(tag)
        many = dictionary_VM(tag)
        assert number == (int(many) if many.isdigit() else 0), keyword


def test_every_private_element_of_the_table_has_its_vendors_representation() -> None:
    for name, (group, creator, low) in PRIVATE_BLOCKS.items():
        if creator in private_dictionaries:
            assert private_dictionary_VR(group << 16 | 0x1000 | low, creator) == ELEMENTS[name].vr, name


def _read(data: bytes) -> Dataset:
    from io import BytesIO

    from pydicom import dcmread

    return dcmread(BytesIO(data))
