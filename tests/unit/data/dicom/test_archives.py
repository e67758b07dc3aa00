"""Archives: read in place, within limits, whatever they claim."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from struct import pack

import pytest

from medmtl.data.dicom.archives import kind_of_archive, open_archive
from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.members import ArchiveError, Limits, leads_outside
from medmtl.data.dicom.sources import find_sources
from medmtl.types import Finding
from tests.helpers.small_dicom import small

MIB = 1 << 20
SMALL = Limits(members=50, directory=1 << 20, ratio=10, free=MIB, total=64 * MIB, in_memory=1 << 16)
TARS = {"tar": "w:", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def zipped(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path


def tarred(path: Path, members: Mapping[str, bytes]) -> Path:
    mode = TARS[path.name.partition(".")[2]]
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def packed(path: Path, members: Mapping[str, bytes]) -> Path:
    return zipped(path, members) if path.suffix == ".zip" else tarred(path, members)


def codes(findings: list[Finding] | tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in findings]


KINDS = pytest.mark.parametrize("kind", ["zip", *TARS])

# --------------------------------------------------------------------------------------------- hostile ones


@pytest.mark.parametrize(
    "name",
    [
        "../up.dcm",
        "a/../../up.dcm",
        "/etc/up.dcm",
        "C:/up.dcm",
        "C:up.dcm",
        "..\\up.dcm",
        "\\\\host\\up",
        "a/..",
    ],
)
def test_a_name_that_leads_outside_is_told_on_any_system(name: str) -> None:
    assert leads_outside(name)
    assert not leads_outside("a/b..c/..d")


@KINDS
def test_members_whose_names_lead_outside_are_left_out_and_said(tmp_path: Path, kind: str) -> None:
    members = {"../up.dcm": small(1), "/root.dcm": small(2), "in/side.dcm": small(3)}
    packed(tmp_path / f"study.{kind}", members)
    instances, (finding,) = read_instances(find_sources([tmp_path]))
    assert [instance.source.label for instance in instances] == [f"study.{kind}/in/side.dcm"]
    assert (finding.code, finding.severity, finding.where) == ("UNDECODABLE", "warning", f"study.{kind}")
    assert (
        finding.message
        == f"study.{kind} holds 2 files that would lead outside of it: ../up.dcm, /root.dcm; left out"
    )
    assert [path.name for path in tmp_path.rglob("*")] == [f"study.{kind}"]


@KINDS
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = packed(tmp_path / f"bomb.{kind}", {f"{n}.dcm": bytes(MIB) for n in range(12)})
    if kind == "tar":  # nothing is packed: it is what it says
        assert len(open_archive(path, "bomb", SMALL).members) == 12
        return
    with pytest.raises(ArchiveError, match="would unpack to more than 1 MiB"):
        open_archive(path, "bomb", SMALL)


def test_a_zip_whose_members_overlap_is_not_opened(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bomb.zip", {"a": bytes(MIB)})
    data = path.read_bytes()
    start = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    entry = data[start:end]
    many = b"".join(entry[:46] + f"{n:01}".encode() + entry[47:] for n in range(10)) * 3
    tail = b"PK\5\6" + pack("<4xHHIIH", 30, 30, len(many), start, 0)
    path.write_bytes(data[:start] + many + tail)
    with pytest.raises(ArchiveError, match="would unpack"):
        open_archive(path, "bomb", SMALL)


@KINDS
def test_an_archive_of_too_many_files_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = packed(tmp_path / f"many.{kind}", {str(n): b"" for n in range(51)})
    with pytest.raises(ArchiveError, match="holds more than 50 files"):
        open_archive(path, "many", SMALL)


def test_a_zip_with_a_huge_table_of_contents_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {f"{n:04}" + "x" * 60_000: b"" for n in range(20)})
    with pytest.raises(ArchiveError, match="table of contents of 1 MiB"):
        open_archive(path, "a", SMALL)


def test_a_tar_with_a_huge_header_is_not_read_into_memory(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 8 * MIB
    path = tmp_path / "a.tar"
    path.write_bytes(entry.tobuf(tarfile.USTAR_FORMAT) + bytes(8 * MIB + 1024))
    archive = open_archive(path, "a", SMALL)
    assert archive.members == ()
    assert codes(archive.findings) == [("TRUNCATED", "error")]


def test_encrypted_members_are_left_out_and_said(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"one": small(1), "two": small(2)}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1
    path.write_bytes(data)
    instances, (finding,) = read_instances(find_sources([path]))
    assert [instance.source.label for instance in instances] == ["a.zip/two"]
    assert finding.message == "a.zip holds 1 file that are encrypted: one; left out"


def test_links_in_a_tar_are_left_out_and_said(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("passwords")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    instances, findings = read_instances(find_sources([tmp_path]))
    assert instances == []
    assert codes(findings) == [("UNDECODABLE", "warning")]


@KINDS
def test_archives_in_archives_are_not_opened_and_said(tmp_path: Path, kind: str) -> None:
    inner = zipped(tmp_path / "inner.zip", {"one": small()}).read_bytes()
    path = packed(tmp_path / f"outer.{kind}", {"inner.zip": inner, "two": small(2)})
    instances, findings = read_instances(find_sources([path]))
    assert [instance.source.label for instance in instances] == [f"outer.{kind}/two"]
    assert "are archives themselves: inner.zip" in findings[0].message


@KINDS
def test_an_archive_that_breaks_off_gives_what_is_whole_and_a_finding(tmp_path: Path, kind: str) -> None:
    import random

    noise = random.Random(0).randbytes  # shrinks little, so that half of the archive is half of the members
    path = packed(tmp_path / f"a.{kind}", {f"{n:02}": small(n) + noise(3000) for n in range(40)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    instances, findings = read_instances(find_sources([tmp_path]))
    assert {f.severity for f in findings} == {"error"}
    assert {f.code for f in findings} <= {"TRUNCATED", "UNDECODABLE"}
    if kind == "zip":  # its table of contents is at the end
        assert instances == []
    if kind in ("tar", "tar.gz"):
        assert 10 < len(instances) < 30


@pytest.mark.parametrize("start", [b"PK\3\4", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0"])
def test_a_broken_archive_is_a_finding(tmp_path: Path, start: bytes) -> None:
    names = {b"PK\3\4": "a.zip", b"\x1f\x8b": "a.tgz", b"BZh9": "a.tbz2", b"\xfd7zXZ\0": "a.txz"}
    (tmp_path / names[start]).write_bytes(start + b"nonsense" * 100)
    (tmp_path / "one").write_bytes(small())
    instances, findings = read_instances(find_sources([tmp_path]))
    assert len(instances) == 1
    assert [finding.severity for finding in findings] == ["error"]
    assert findings[0].where == names[start]


def test_a_member_that_is_damaged_is_a_finding_and_the_others_are_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"1": small(1), "2": small(2), "3": small(3)})
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\3\4", 10)
    data[second + 40 : second + 60] = b"\xaa" * 20
    path.write_bytes(data)
    instances, findings = read_instances(find_sources([path]))
    assert [instance.source.label for instance in instances] == ["a.zip/1", "a.zip/3"]
    assert [(finding.code, finding.where) for finding in findings] == [("UNDECODABLE", "a.zip/2")]


def test_members_of_one_name_have_labels_of_their_own(tmp_path: Path) -> None:
    tarred_path = tmp_path / "a.tar"
    with tarfile.open(tarred_path, "w") as archive:
        for number in (1, 2):
            entry = tarfile.TarInfo("IM")
            entry.size = len(small(number))
            archive.addfile(entry, io.BytesIO(small(number)))
    instances, _ = read_instances(find_sources([tarred_path]))
    assert [instance.source.label for instance in instances] == ["a.tar/IM", "a.tar/IM#2"]


# ---------------------------------------------------------------------------------------------- honest ones


@KINDS
@pytest.mark.parametrize("named", [True, False], ids=["named", "found in a folder"])
def test_files_of_an_archive_are_those_of_its_folder(tmp_path: Path, kind: str, named: bool) -> None:
    members = {f"study/series {n % 2}/IM{n:02}": small(n) for n in range(6)}
    folder = tmp_path / "plain"
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (tmp_path / "there").mkdir()
    path = packed(tmp_path / "there" / f"study.{kind}", {"study/readme.txt": b"hello", **members})
    expected, _ = read_instances(find_sources([folder]))
    instances, findings = read_instances(find_sources([path if named else path.parent]))
    assert [i.source.label for i in instances] == [f"study.{kind}/{i.source.label}" for i in expected]
    assert [i.header.as_dict() for i in instances] == [i.header.as_dict() for i in expected]
    assert codes(findings) == [("NOT_AN_IMAGE", "info")]
    for one, other in zip(instances, expected, strict=True):
        assert one.pixels == other.pixels
        assert one.source.read() == other.source.read()
        assert one.source.size() == other.source.size()
        assert one.pixels is not None
        assert one.source.read(one.pixels.offset, 5) == other.source.read(one.pixels.offset, 5)
        assert one.source.read(10**9, 5) == b""


@KINDS
def test_members_can_be_read_by_several_threads_at_once(tmp_path: Path, kind: str) -> None:
    contents = {str(n): small(n, PixelData=bytes([n]) * 20_000, Rows=100, Columns=100) for n in range(20)}
    archive = open_archive(packed(tmp_path / f"a.{kind}", contents), "a")
    wrong: list[str] = []

    def read() -> None:
        wrong.extend(m.label for m in archive.members if m.read(300) != contents[m.name][300:])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_large_compressed_tar_goes_through_a_temporary_file_that_vanishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc
    import random
    import tempfile

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    content = random.Random(0).randbytes(400_000)
    path = tarred(tmp_path / "a.tar.gz", {"one": content})
    archive = open_archive(path, "a", SMALL)
    assert archive.members[0].read(5, 100) == content[5:105]
    del archive
    gc.collect()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_archives_are_told_by_what_is_in_them(tmp_path: Path) -> None:
    import gzip

    zipped(tmp_path / "no suffix", {"a": b"b"})
    tarred(tmp_path / "a.tar.gz", {"a": b"b"}).rename(tmp_path / "study.gz")
    (tmp_path / "image.nii.gz").write_bytes(gzip.compress(bytes(1000)))
    (tmp_path / "dicom.zip").write_bytes(b"PK\3\4" + small()[4:])
    (tmp_path / "text.tar").write_bytes(b"words")
    kinds = {path.name: kind_of_archive(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "no suffix": "zip",
        "study.gz": "gz",
        "image.nii.gz": None,
        "dicom.zip": None,
        "text.tar": None,
    }
    assert kind_of_archive(tmp_path / "nothing") is None
    with pytest.raises(ArchiveError, match="no archive"):
        open_archive(tmp_path / "text.tar", "text.tar")
