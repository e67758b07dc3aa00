"""The table of contents of a medium: what it promises is compared with what is there, no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.sources import find_sources
from tests.helpers.small_dicom import SHIPPED, element, file_of, small


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    """A medium with a DICOMDIR and three images in folders."""
    names = [("PT000000", "SE000000", f"IM{number:06}") for number in (1, 2, 3)]
    folder = tmp_path.joinpath("medium", *names[0][:2])
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        (folder / name[2]).write_bytes(small(number))
    (tmp_path / "medium" / "DICOMDIR").write_bytes(pointing_to(*names))
    return tmp_path / "medium"


def images(medium: Path) -> list[Path]:
    return sorted(path for path in medium.rglob("*") if path.is_file() and path.name != "DICOMDIR")


def pointing_to(*files: tuple[str, ...]) -> bytes:
    """A DICOMDIR that refers to files, given as names of folders and file."""
    records = []
    for names in files:
        words = "\\".join(names).encode()
        elements = element(0x00041430, b"CS", b"IMAGE ") + element(
            0x00041500, b"CS", words + b" " * (len(words) % 2)
        )
        records.append(element(0xFFFEE000, b"", elements))
    contents = element(0x00041220, b"SQ", b"".join(records))
    return file_of(element(0x00080016, b"UI", b"1.2.840.10008.1.3.10"), contents)


def test_files_that_a_medium_promises_and_lacks_are_one_finding(medium: Path) -> None:
    for path in images(medium)[:2]:
        path.unlink()
    instances, (finding,) = read_instances(find_sources([medium]))
    assert len(instances) == 1
    assert (finding.code, finding.severity, finding.where) == ("TRUNCATED", "warning", "DICOMDIR")
    assert "refers to 2 files that are not there" in finding.message


@pytest.mark.parametrize(
    "names", [("..", "secret"), (".", "secret"), ("/etc/passwd",), ("a/b",), ("IM", "IM")]
)
def test_a_reference_that_leads_elsewhere_is_broken(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "medium").mkdir()
    (tmp_path / "secret").write_bytes(small())
    (tmp_path / "medium" / "IM").write_bytes(small(2))
    (tmp_path / "medium" / "DICOMDIR").write_bytes(pointing_to(names))
    instances, (finding,) = read_instances(find_sources([tmp_path / "medium"]))
    assert [instance.source.label for instance in instances] == ["IM"]
    assert "refers to 1 file that is not there" in finding.message


@pytest.mark.parametrize("content", [b"", b"nothing", small()[:300], b"\0" * 128 + b"DICM" + b"\7" * 99])
def test_a_dicomdir_that_is_broken_does_not_keep_its_files_from_being_read(
    medium: Path, content: bytes
) -> None:
    (medium / "DICOMDIR").write_bytes(content)
    instances, findings = read_instances(find_sources([medium]))
    assert len(instances) == 3
    assert "DICOMDIR" in {finding.where for finding in findings}


@pytest.mark.parametrize("named", ["folder", "DICOMDIR"])
def test_the_files_of_a_medium_and_those_beside_them_are_found(medium: Path, named: str) -> None:
    (medium / "extra.dcm").write_bytes(small(9))
    instances, findings = read_instances(find_sources([medium if named == "folder" else medium / "DICOMDIR"]))
    assert len(instances) == 4
    assert findings == []


def test_names_that_were_copied_in_lower_case_are_found(medium: Path) -> None:
    for path in images(medium):
        path.rename(path.with_name(path.name.lower()))
    for folder in sorted((p for p in medium.rglob("*") if p.is_dir()), reverse=True):
        folder.rename(folder.with_name(folder.name.lower()))
    (medium / "DICOMDIR").rename(medium / "dicomdir")
    instances, findings = read_instances(find_sources([medium]))
    assert len(instances) == 3
    assert findings == []


@pytest.mark.parametrize("name", ["DICOMDIR", "DICOMDIR-implicit", "DICOMDIR-bigEnd"])
def test_a_dicomdir_is_no_image_whatever_its_encoding_and_name(tmp_path: Path, name: str) -> None:
    for target in ("DICOMDIR", "contents.dcm"):
        shutil.copy(SHIPPED / "dicomdirtests" / name, tmp_path / target)
    instances, findings = read_instances(find_sources([tmp_path]))
    assert instances == []
    assert [finding.code for finding in findings] == ["TRUNCATED"]
