"""Contour text files: those that are none first, then what is read, and whose they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medmtl.data.dicom.contour_fit import border_fit
from medmtl.data.dicom.contours import is_contour_name, read_contour, shared_contours
from medmtl.types import CaseError

NAME = "IM-0001-0048-icontour-manual.txt"


def written(folder: Path, text: str | bytes, name: str = NAME) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("", "LABEL_VALUES", "has 0 point(s), and an outline needs three"),
        ("1 2\n3 4\n", "LABEL_VALUES", "has 2 point(s)"),
        ("1 2\n3 4\n1 2\n", "LABEL_VALUES", "has 2 point(s)"),
        ("1 2\n3 4 5\n6 7\n", "UNDECODABLE", "line 2: found '3 4 5'; a line is the two numbers x y"),
        ("1 2\nx y\n6 7\n", "UNDECODABLE", "line 2: found 'x y'"),
        ("1 2\n3 nan\n6 7\n", "LABEL_VALUES", "line 2: found '3 nan'; that is on no image"),
        ("1 2\n3 1e9\n6 7\n", "LABEL_VALUES", "that is on no image"),
        ("1 2\n3 inf\n6 7\n", "LABEL_VALUES", "that is on no image"),
        (b"\xff\xfe1\x00", "UNDECODABLE", "is not plain text"),
        (b"1 2\n" * 2_000_000, "UNDECODABLE", "is longer than any contour"),
    ],
)
def test_a_file_that_is_no_contour_is_refused(
    tmp_path: Path, text: str | bytes, code: str, expected: str
) -> None:
    with pytest.raises(CaseError) as caught:
        read_contour(written(tmp_path, text))
    assert caught.value.code == code
    assert str(caught.value).startswith(NAME)
    assert expected in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_is_missing_or_named_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="cannot be read"):
        read_contour(tmp_path / NAME)
    with pytest.raises(CaseError, match=r"not named like IM-0001-0048-icontour-manual\.txt"):
        read_contour(written(tmp_path, "1 2\n3 4\n5 6\n", "contour.txt"))


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        ("IM-0001-0048-icontour-manual.txt", 48, "inner"),
        ("IM-0001-0220-ocontour-manual.txt", 220, "outer"),
        ("IM-0001-0060-p1contour-manual.txt", 60, "papillary"),
        ("IM-0001-0060-p2-contour-manual.txt", 60, "papillary"),
        ("im-0009-0007-ICONTOUR-manual.TXT", 7, "inner"),
    ],
)
def test_the_name_says_image_and_kind(tmp_path: Path, name: str, number: int, kind: str) -> None:
    contour = read_contour(written(tmp_path, "1 2\n3 4\n5 7\n", name))
    assert (contour.number, contour.kind, contour.name) == (number, kind, name)


def test_points_count_from_the_centre_of_the_first_pixel(tmp_path: Path) -> None:
    contour = read_contour(written(tmp_path, "117.50 136.50\r\n118,137.25\n\n119 138\n117.50 136.50\n"))
    assert contour.points.tolist() == [[117.0, 136.0], [117.5, 136.75], [118.5, 137.5]]


def test_only_contours_drawn_by_hand_count() -> None:
    assert is_contour_name(NAME)
    assert is_contour_name("IM-0001-0009-ocontour-manual.txt")
    others = ("IM-0001-0048-icontour-auto.txt", "notes.txt", "IM-0001-0048-icontour-manual.pgm")
    assert not any(map(is_contour_name, (*others, "IM-0001-icontour-manual.txt")))


def test_files_that_two_patients_have_byte_for_byte_are_shared(tmp_path: Path) -> None:
    same, other = "1 2\n3 4\n5 7\n", "1 2\n3 4\n5 7.0\n"
    by_patient = {
        "one": [
            read_contour(written(tmp_path / "one", same)),
            read_contour(written(tmp_path / "one", same, "IM-0001-0068-icontour-manual.txt")),
        ],
        "two": [read_contour(written(tmp_path / "two", same, "IM-0001-0020-icontour-manual.txt"))],
        "three": [read_contour(written(tmp_path / "three", other))],
    }
    shared = shared_contours(by_patient)
    assert {
        patient: {other: len(found) for other, found in by.items()} for patient, by in shared.items()
    } == {
        "one": {"two": 2},
        "two": {"one": 1},
    }


# ---- whether contours fit their images


def picture(x: float, y: float, radius: float) -> np.ndarray:
    """Blood in a ring of muscle in fat, ``(X, Y)``."""
    columns, rows = np.meshgrid(np.arange(128), np.arange(128), indexing="ij")
    distance = np.hypot(columns - x, rows - y)
    noise = np.random.default_rng(0).normal(0, 15, distance.shape)
    return np.where(distance < radius, 300, np.where(distance < radius + 7, 90, 180)) + noise


def circle(x: float, y: float, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 150, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])


def test_contours_in_place_fit_and_contours_of_elsewhere_do_not() -> None:
    image = picture(70, 60, 15)
    assert border_fit([(image, circle(70, 60, 15))], (1.4, 1.4)) == pytest.approx(1.0, abs=0.02)
    away = border_fit([(image, circle(82, 52, 15))], (1.4, 1.4))
    assert away is not None
    assert away < 0.5


def test_where_nothing_can_be_seen_there_is_no_fit() -> None:
    assert border_fit([], (1.0, 1.0)) is None
    assert border_fit([(np.full((64, 64), 7.0), circle(30, 30, 9))], (1.0, 1.0)) is None
