"""Templates of a series' headers: they read what walking reads, and what departs from them is walked."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medmtl.data.dicom.plain import BLOCK, Plain, file_meta, walk_file
from medmtl.data.dicom.template import Templates
from medmtl.data.dicom.wanted import StrangeError
from tests.helpers.small_dicom import Memory, element, file_of, implicit_file_of

UNDEFINED = 0xFFFFFFFF


def number(value: float) -> bytes:
    text = f"{value}".encode()
    return text + b" " * (len(text) % 2)


def code(value: str) -> bytes:
    return element(0xFFFEE000, b"", element(0x00080100, b"SH", value.encode()))


def delimited(tag: int, items: bytes) -> bytes:
    return element(tag, b"SQ", items, length=UNDEFINED) + element(0xFFFEE0DD, b"", b"")


def explicit(
    n: int, *, kind: str = "M ", creator: str = "GEMS_ACQU_01", text: bytes = b"cine", more: bytes = b""
) -> bytes:
    """File ``n`` of a series with most kinds of elements, some of which vary."""
    return file_of(
        element(0x00080008, b"CS", b"ORIGINAL\\PRIMARY\\" + kind.encode()),
        element(0x00080018, b"UI", b"1.2.3." + number(n).replace(b" ", b"\0")),
        element(0x0008103E, b"LO", text),
        delimited(0x00081140, code("121320") + code(f"{n % 3:06}")),
        element(0x00081115, b"SQ", code("121320")),
        element(0x00081199, b"SQ", code(f"{n % 4:06}")),
        element(0x00100020, b"LO", b"P-17"),
        element(0x00181060, b"DS", number(46 * (n % 5))),
        element(0x00190010, b"LO", creator.encode()),
        element(0x001910D7, b"SS", pack("<h", n % 7)),
        element(0x00191001, b"OB", bytes([n % 251]) * 2000),
        element(0x0020000E, b"UI", b"1.2.3\0"),
        element(0x00200032, b"DS", b"0\\0\\" + number(8 * n)),
        more,
        element(0x00280010, b"US", pack("<H", 4)),
        element(0x00280103, b"US", pack("<H", 1)),
        element(0x00280120, b"US", pack("<H", n % 2)),
        element(0x00311010, b"OB", bytes(600)),
        element(0x7FE00010, b"OW", bytes(24)),
    )


def implicit(n: int) -> bytes:
    """The same without representations."""
    return implicit_file_of(
        element(0x00080018, b"", b"1.2.3." + number(n).replace(b" ", b"\0")),
        element(0x00181060, b"", number(46 * (n % 5))),
        element(0x0020000E, b"", b"1.2.3\0"),
        element(0x00200032, b"", b"0\\0\\" + number(8 * n)),
        element(0x00280010, b"", pack("<H", 4)),
        element(0x7FE00010, b"", bytes(24)),
    )


def walked(data: bytes) -> Plain:
    return walk_file(Memory(data).read, len(data), data[:BLOCK], file_meta(data[:BLOCK], 132))


def learned(*files: bytes) -> Templates:
    templates = Templates()
    for data in files:
        templates.learn(Memory(data).read, walked(data), file_meta(data[:BLOCK], 132).end)
    return templates


def by(templates: Templates, data: bytes) -> Plain | None:
    return templates.read(Memory(data).read, data[:BLOCK])


def assert_same(plain: Plain | None, data: bytes) -> None:
    expected = walked(data)
    assert plain is not None
    assert plain.header.as_dict() == expected.header.as_dict()
    assert plain[1:] == expected[1:]


# -------------------------------------------------------------------------------------------- what is walked


def test_nothing_is_read_before_there_were_two_files() -> None:
    assert by(Templates(), explicit(1)) is None
    assert by(learned(explicit(1)), explicit(2)) is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"text": b"scout "}, id="what never varied"),
        pytest.param({"more": element(0x00200100, b"IS", b"1 ")}, id="an element more"),
        pytest.param({"creator": "SOMEBODY ELSE "}, id="another private creator"),
        pytest.param({"more": element(0x00200032, b"DS", b"1\\2\\3 ")}, id="an element twice"),
    ],
)
def test_a_file_that_departs_is_walked(change: dict[str, bytes]) -> None:
    assert by(learned(explicit(1), explicit(2)), explicit(3, **change)) is None  # type: ignore[arg-type]


def test_a_file_that_breaks_off_in_its_header_is_walked() -> None:
    templates, data = learned(*map(explicit, range(6))), explicit(7)
    start = len(data) - 24
    for end in range(132, start, 7):
        assert by(templates, data[:end]) is None
    assert_same(by(templates, data[:start]), data[:start])


def test_what_decides_about_other_elements_is_never_taken_to_vary() -> None:
    sets = [element(0x00080005, b"CS", name) for name in (b"ISO_IR 192", b"ISO_IR 100")]
    charset = [explicit(n, more=sets[n % 2]) for n in range(9)]
    creators = [explicit(n, creator="GEMS_ACQU_01" if n % 2 else "GEMS_ACQU_02") for n in range(9)]
    for files in (charset, creators):
        templates = learned(*files)
        for data in files:
            if (plain := by(templates, data)) is not None:
                assert_same(plain, data)


def test_a_mosaic_among_other_images_is_walked() -> None:
    csa = element(0x00290010, b"LO", b"SIEMENS CSA HEADER") + element(0x00291010, b"OB", b"SV10")
    kinds = ("M ", "P ", "MOSAIC")
    files = [explicit(n, kind=kinds[n % 3], more=csa) for n in range(12)]
    templates = learned(*files)
    read = [by(templates, data) for data in files]
    assert sum(plain is not None for plain in read) > 0
    for plain, data in zip(read, files, strict=True):
        if plain is not None:
            assert_same(plain, data)


def test_a_header_in_which_an_element_comes_twice_is_not_learned() -> None:
    files = [explicit(n, more=element(0x00181060, b"DS", number(n))) for n in range(5)]
    assert by(learned(*files), files[0]) is None


# ---------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("kind", [explicit, implicit])
def test_the_files_of_a_series_are_read_as_they_are_walked(kind: Callable[[int], bytes]) -> None:
    templates = learned(*(kind(n) for n in range(8)))
    for n in range(1000, 1030):
        assert_same(by(templates, kind(n)), kind(n))


@pytest.mark.parametrize("size", [1000, 20_000, 70_000])
def test_headers_may_be_longer_than_the_first_block(size: int) -> None:
    def file(n: int) -> bytes:
        return explicit(n, more=element(0x00251001, b"OB", bytes([n]) * (size + 2 * n)))

    templates = learned(*map(file, range(6)))
    for n in range(6, 12):
        assert_same(by(templates, file(n)), file(n))


def test_several_series_are_told_apart() -> None:
    def file(series: int, n: int) -> bytes:
        return explicit(n, text=b"series %d" % series).replace(b"1.2.3\0", b"1.2.%d\0" % series)

    templates = learned(*(file(series, n) for series in (1, 2) for n in range(4)))
    for n in range(4, 10):
        for series in (1, 2):
            assert_same(by(templates, file(series, n)), file(series, n))


def test_learning_stops_where_it_is_of_no_use() -> None:
    templates = Templates()
    reads = 0
    for n in range(400):
        memory = Memory(explicit(n, text=b"x" * (2 * n)))
        templates.learn(memory.read, walked(memory.data), file_meta(memory.data[:BLOCK], 132).end)
        reads += memory.reads
    assert reads < 50


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([explicit, implicit]),
    st.integers(0, 40),
    st.lists(st.tuples(st.integers(132, 5000), st.binary(min_size=1, max_size=6), st.integers(0, 6))),
)
def test_whatever_a_template_reads_of_a_broken_file_is_what_walking_reads(
    kind: Callable[[int], bytes], n: int, changes: list[tuple[int, bytes, int]]
) -> None:
    templates = learned(*(kind(k) for k in range(6)))
    data = kind(n)
    for at, put, gone in changes:
        data = data[:at] + put + data[at + gone :]
    plain = by(templates, data)
    if plain is None:
        return
    try:
        assert_same(plain, data)
    except StrangeError:
        pytest.fail("a template read what is not plain grammar")
