"""The walk over a file's elements: equal to pydicom on whatever it accepts, reading no more than needed."""

from __future__ import annotations

from pathlib import Path
from struct import pack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ImplicitVRLittleEndian

from medmtl.data.dicom.by_pydicom import Slow, read_slowly
from medmtl.data.dicom.files import SeekableSource
from medmtl.data.dicom.plain import BLOCK, Plain, file_meta, looks_like_a_data_set, walk_file
from medmtl.data.dicom.wanted import StrangeError
from tests.helpers.small_dicom import SHIPPED, Memory, element, file_of, implicit_file_of, small

UID = element(0x00080018, b"UI", b"1.2.3\0")
PIXELS = element(0x7FE00010, b"OW", b"\0" * 24)
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF

BROKEN = [
    "CT_small",
    "MR_small",
    "MR_small_implicit",
    "rtstruct",
    "rtplan",
    "UN_sequence",
    "priv_SQ",
    "nested_priv_SQ",
    "liver_1frame",
    "reportsi",
    "test-SR",
    "JPEG2000-embedded-sequence-delimiter",
    "SC_rgb_jpeg_dcmtk",
]
"""Small files of many kinds, to be broken in all ways."""


def fast(data: bytes) -> Plain:
    """What the walk makes of a file."""
    first = data[:BLOCK]
    start = 132 if data[128:132] == b"DICM" else 0
    if not start and not looks_like_a_data_set(data[:8]):
        raise StrangeError
    return walk_file(Memory(data).read, len(data), first, file_meta(first, start))


def slow(data: bytes) -> Slow | None:
    """What pydicom makes of it."""
    return read_slowly(SeekableSource(Memory(data).read, len(data)))


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Elements that differ in value or type, those in sequences included."""
    found = []
    for keyword in sorted(one.keys() | other.keys()):
        x, y = one.get(keyword), other.get(keyword)
        if (
            isinstance(x, tuple)
            and isinstance(y, tuple)
            and len(x) == len(y)
            and x
            and isinstance(x[0], dict)
        ):
            found += [d for p, q in zip(x, y, strict=True) for d in differences(p, q)]
        elif x != y or type(x) is not type(y):
            found.append((keyword, x, y))
    return found


def assert_equal(data: bytes) -> None:
    """The walk and pydicom agree; where the file breaks off, in what comes before."""
    walked, read = fast(data), slow(data)
    if walked.cut:
        one, other = walked.header.as_dict(), read.header.as_dict() if read is not None else {}
        assert [d for d in differences(one, other) if d[1] is not None and d[0] in other] == []
        return
    assert read is not None
    assert differences(walked.header.as_dict(), read.header.as_dict()) == []
    assert (walked.transfer_syntax, walked.pixels) == (read.transfer_syntax, read.pixels)


def undefined(tag: int, vr: bytes, *items: bytes) -> bytes:
    """A sequence of undefined length; its items are given whole."""
    return element(tag, vr, b"".join(items), length=UNDEFINED) + element(SEQUENCE_END, b"", b"")


def open_item(*elements: bytes) -> bytes:
    """An item of undefined length."""
    return element(ITEM, b"", b"".join(elements), length=UNDEFINED) + element(ITEM_END, b"", b"")


def item(*elements: bytes) -> bytes:
    return element(ITEM, b"", b"".join(elements))


CODE = element(0x00080100, b"SH", b"121320")
BARE_CODE = element(0x00080100, b"", b"121320")

# ---------------------------------------------------------------------------------- what is left to pydicom


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param([UID, element(0x00181060, b"ZZ", b"12")], id="a representation that nobody knows"),
        pytest.param([UID, element(0x00181060, b"\1\2", b"12")], id="no representation"),
        pytest.param([UID, element(ITEM_END, b"", b"")], id="the end of an item outside of a sequence"),
        pytest.param([UID, element(SEQUENCE_END, b"", b"")], id="the end of a sequence outside of one"),
        pytest.param([UID, undefined(0x00081140, b"SQ", CODE)], id="a sequence without items"),
        pytest.param([UID, undefined(0x00081140, b"SQ", item(CODE)[:-2])], id="an item that is too long"),
        pytest.param([UID, undefined(0x0008103E, b"UT", item())], id="text of undefined length"),
        pytest.param(
            [
                UID,
                element(0x70531000, b"DS", b"1 "),
                element(0x70530010, b"LO", b"Philips PET Private Group "),
            ],
            id="a private block before its creator",
        ),
        pytest.param([element(0x00000002, b"UI", b"1.2\0"), UID], id="a command"),
        pytest.param([element(0x00280103, b"US", b"\1"), UID], id="half a number that decides about others"),
    ],
)
def test_what_is_not_plain_grammar_is_left_to_pydicom(elements: list[bytes]) -> None:
    with pytest.raises(StrangeError):
        fast(file_of(*elements, PIXELS))


def test_sequences_within_sequences_without_end_are_left_to_pydicom() -> None:
    nested = CODE
    for _ in range(2000):
        nested = undefined(0x00081140, b"SQ", open_item(nested))
    data = file_of(UID, nested, PIXELS)
    with pytest.raises(StrangeError):
        fast(data)
    assert slow(data) is None


def test_an_explicit_data_set_that_calls_itself_implicit_is_left_to_pydicom() -> None:
    data = implicit_file_of(UID, PIXELS)
    with pytest.raises(StrangeError):
        fast(data)
    read = slow(data)
    assert read is not None
    assert read.header.get("SOPInstanceUID") == "1.2.3"


def test_the_element_with_which_a_file_breaks_off_is_not_taken() -> None:
    data = file_of(UID, element(0x00181060, b"DS", b"46.5", length=8))
    assert fast(data).cut
    assert fast(data).header.get("TriggerTime") is None
    assert fast(data).header.get("SOPInstanceUID") == "1.2.3"


# ----------------------------------------------------------------------------------------- equal to pydicom


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param([undefined(0x00081140, b"SQ", open_item(CODE), item(CODE))], id="undefined lengths"),
        pytest.param([undefined(0x00081140, b"SQ")], id="no items"),
        pytest.param([undefined(0x00081140, b"SQ", open_item(), item())], id="empty items"),
        pytest.param([undefined(0x00081140, b"UN", open_item(BARE_CODE))], id="unknown, implicit inside"),
        pytest.param([undefined(0x00081140, b"SQ", item(BARE_CODE), item(CODE))], id="one item implicit"),
        pytest.param([element(0x00081140, b"UN", item(BARE_CODE))], id="unknown of defined length"),
        pytest.param([undefined(0x00091010, b"UN", open_item(BARE_CODE))], id="private and unknown"),
        pytest.param(
            [undefined(0x00880200, b"SQ", open_item(undefined(0x7FE00010, b"OB", item(b"jpeg"))))],
            id="an icon with compressed pixels",
        ),
        pytest.param(
            [undefined(0x00880200, b"SQ", open_item(element(0x7FE00010, b"OW", b"icon")))], id="an icon"
        ),
        pytest.param([element(0x00081140, b"SQ", undefined(0x00081140, b"SQ"))], id="a sequence for an item"),
        pytest.param([element(0x00181060, b"UN", b"46.5")], id="an unknown number"),
        pytest.param([element(0x00181060, b"DS", b"1 "), element(0x00181060, b"DS", b"2 ")], id="twice"),
        pytest.param(
            [element(0x00200013, b"IS", b"7"), element(0x00181060, b"DS", b"46.5")], id="odd, unsorted"
        ),
    ],
)
def test_the_walk_agrees_with_pydicom(elements: list[bytes]) -> None:
    assert_equal(file_of(UID, *elements, PIXELS))


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param([undefined(0x00081140, b"", open_item(BARE_CODE), item(BARE_CODE))], id="known"),
        pytest.param([undefined(0x00400275, b"", open_item(BARE_CODE))], id="a sequence that is not read"),
        pytest.param([undefined(0x00091010, b"", open_item(BARE_CODE))], id="private"),
    ],
)
def test_the_walk_agrees_with_pydicom_on_implicit_files(elements: list[bytes]) -> None:
    uid, pixels = element(0x00080018, b"", b"1.2.3\0"), element(0x7FE00010, b"", b"\0" * 24)
    assert_equal(implicit_file_of(uid, *elements, pixels))


@pytest.mark.parametrize("path", sorted(SHIPPED.rglob("*.dcm")), ids=lambda path: path.name)
def test_the_walk_agrees_with_pydicom_on_the_files_that_pydicom_ships(path: Path) -> None:
    try:
        assert_equal(path.read_bytes())
    except StrangeError:
        assert path.name in STRANGE


STRANGE = {
    "ExplVR_BigEnd.dcm",
    "ExplVR_BigEndNoMeta.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "SC_rgb_jpeg.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "image_dfl.dcm",
    "liver_expb_1frame.dcm",
    "rtdose_expb.dcm",
    "rtdose_expb_1frame.dcm",
    "no_meta.dcm",
    "UN_sequence.dcm",
    "nested_priv_SQ.dcm",
    "priv_SQ.dcm",
    "empty_charset_LEI.dcm",
    "meta_missing_tsyntax.dcm",
}
"""Big endian, deflated, mislabelled, or holding nothing that is read."""


@st.composite
def broken_files(draw: st.DrawFn) -> bytes:
    """A file of pydicom's, its header with bytes changed, inserted, removed, or its end cut off."""
    data = bytearray((SHIPPED / f"{draw(st.sampled_from(BROKEN))}.dcm").read_bytes()[:6000])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["flip", "set", "put", "insert", "remove", "cut"]))
        if how == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "set":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == "put":
            word = draw(
                st.sampled_from([b"\xff" * 4, b"\0\0", b"UN", b"SQ", b"OB", b"\xfe\xff", b"\xdd\xe0"])
            )
            data[at : at + len(word)] = word
        elif how == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif how == "remove":
            del data[at : at + draw(st.integers(1, 8))]
        elif how == "cut" and at > 400:
            del data[at:]
    return bytes(data)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(broken_files())
def test_on_broken_files_the_walk_agrees_with_pydicom_or_is_not_taken(data: bytes) -> None:
    try:
        fast(data)
    except StrangeError:
        read = slow(data)
        assert read is None or isinstance(read.header.as_dict(), dict)
        return
    assert_equal(data)


# ------------------------------------------------------------------------------ no more is read than needed


def test_pixels_are_found_and_not_read() -> None:
    data = small(PixelData=b"\7" * (1 << 22), Rows=1024, Columns=2048)
    memory = Memory(data)
    walked = walk_file(memory.read, len(data), memory.read(0, BLOCK), file_meta(data[:BLOCK], 132))
    assert walked.pixels is not None
    assert walked.pixels.offset == len(data) - (1 << 22)
    assert walked.pixels.length == 1 << 22
    assert memory.bytes_read == BLOCK


@pytest.mark.parametrize("vr", [b"OB", b"UN", b"SQ"])
def test_a_large_element_that_nobody_wants_is_skipped_and_not_read(vr: bytes) -> None:
    huge = element(0x00091010, vr, b"\7" * (3 << 20))
    data = file_of(UID, huge, element(0x00181060, b"DS", b"46.5"), PIXELS)
    memory = Memory(data)
    walked = walk_file(memory.read, len(data), memory.read(0, BLOCK), file_meta(data[:BLOCK], 132))
    assert walked.header.get("TriggerTime") == 46.5
    assert memory.bytes_read <= 2 * BLOCK


@pytest.mark.parametrize("size", [BLOCK - 200, BLOCK, 2 * BLOCK, 300_000, 3 << 20])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_a_wanted_element_may_reach_over_any_number_of_blocks(size: int, syntax: str | None) -> None:
    vr = b"" if syntax else b"SQ"
    name = b"" if syntax else b"UI"
    items = item(element(0x00091011, b"" if syntax else b"OB", b"\7" * size), BARE_CODE if syntax else CODE)
    elements = [
        element(0x00080018, name, b"1.2.3\0"),
        undefined(0x00081140, vr, items),
        element(0x00181060, b"" if syntax else b"DS", b"46.5"),
        PIXELS if not syntax else element(0x7FE00010, b"", b"\0" * 24),
    ]
    data = implicit_file_of(*elements) if syntax else file_of(*elements)
    memory = Memory(data)
    walked = walk_file(memory.read, len(data), memory.read(0, BLOCK), file_meta(data[:BLOCK], 132))
    assert walked.header.get("ReferencedImageSequence")[0].get("CodeValue") == "121320"
    assert walked.header.get("TriggerTime") == 46.5
    assert walked.pixels is not None
    assert walked.pixels.length == 24
    assert memory.bytes_read < 6 * (size + BLOCK)


@pytest.mark.parametrize("padding", [10, BLOCK, 5 * BLOCK])
def test_a_private_creator_counts_however_far_its_elements_are(padding: int) -> None:
    data = file_of(
        UID,
        element(0x70530010, b"LO", b"Philips PET Private Group "),
        element(0x70530011, b"OB", b"\7" * padding),
        element(0x70531000, b"DS", b"0.00025 "),
        PIXELS,
    )
    assert fast(data).header.get("Philips.SUVScaleFactor") == 0.00025
    assert_equal(data)


@pytest.mark.parametrize("length", [0xFFFFFFFE, 10_000_000])
def test_a_length_beyond_the_file_is_not_believed(length: int) -> None:
    data = file_of(UID, element(0x00082218, b"SQ", b"", length=length), PIXELS)
    memory = Memory(data)
    walked = walk_file(memory.read, len(data), memory.read(0, BLOCK), file_meta(data[:BLOCK], 132))
    assert walked.cut
    assert walked.pixels is None
    assert memory.bytes_read <= 3 * BLOCK


def test_headers_are_walked_from_wherever_the_first_block_ends() -> None:
    for padding in range(BLOCK - 400, BLOCK - 100, 2):
        data = file_of(
            UID,
            element(0x00091010, b"OB", b"\7" * padding),
            element(0x00181060, b"DS", b"46.5"),
            element(0x00280010, b"US", pack("<H", 4)),
            PIXELS,
        )
        walked = fast(data)
        assert (walked.header.get("TriggerTime"), walked.header.get("Rows")) == (46.5, 4)
        assert walked.pixels is not None
        assert data[walked.pixels.offset - 12 :][:4] == b"\xe0\x7f\x10\0"
