"""Where files are looked for: folders, links, what cannot be read, and what is not DICOM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medmtl.data.dicom.files import FileSource, SeekableSource
from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.sources import find_sources
from medmtl.types import ConfigError
from tests.helpers.small_dicom import Memory, small


def labels(*paths: Path) -> list[str]:
    return [source.label for source in find_sources(list(paths))]


def test_a_path_that_is_not_there_is_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere is not there"):
        find_sources([tmp_path, tmp_path / "nowhere"])


def test_a_link_back_to_its_own_folder_is_not_followed_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one").write_bytes(small())
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path, target_is_directory=True)
    assert labels(tmp_path) == ["a/b/one"]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "one").write_bytes(small())
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "series").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert labels(tmp_path / "study") == ["series/one"]


def test_a_dangling_link_a_pipe_and_an_empty_folder_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").write_bytes(small())
    assert labels(tmp_path) == ["one"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_and_a_file_that_may_not_be_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed.dcm").write_bytes(small())
    (tmp_path / "open.dcm").write_bytes(small(2))
    (tmp_path / "closed").chmod(0)
    (tmp_path / "closed.dcm").chmod(0)
    try:
        instances, findings = read_instances(find_sources([tmp_path]))
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert len(instances) == 1
    assert {(f.code, f.severity) for f in findings} == {("UNDECODABLE", "error")}
    assert {f.where for f in findings} == {"closed/", "closed.dcm"}


def test_a_file_that_vanishes_between_finding_and_reading_is_said(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(small(1))
    (tmp_path / "two").write_bytes(small(2))
    sources = list(find_sources([tmp_path]))
    (tmp_path / "one").unlink()
    instances, findings = read_instances(sources)
    assert [instance.source.label for instance in instances] == ["two"]
    assert [(f.code, f.where) for f in findings] == [("UNDECODABLE", "one")]


def test_names_that_are_no_text_and_control_characters_do_not_reach_a_message(tmp_path: Path) -> None:
    name = b"a\xff\x1b[31m.dcm"
    (tmp_path / os.fsdecode(name)).write_bytes(b"nothing")
    _, (finding,) = read_instances(find_sources([tmp_path]))
    assert finding.where.isprintable()
    assert finding.message.encode().isascii()


def test_files_that_are_no_dicom_are_counted_in_one_finding(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    for number in range(20):
        (tmp_path / "series" / f"note{number:02}.txt").write_bytes(b"words " * number)
    (tmp_path / "table.csv").write_text("a,b\n", encoding="utf-8")
    (tmp_path / "image.nii.gz").write_bytes(b"\x1f\x8b" + bytes(500))
    (tmp_path / "series" / "IM1").write_bytes(small())
    instances, (finding,) = read_instances(find_sources([tmp_path]))
    assert len(instances) == 1
    assert (finding.code, finding.severity) == ("NOT_AN_IMAGE", "info")
    assert finding.message.startswith("22 files are no DICOM and left out: image.nii.gz, series/note00.txt,")


def test_a_dicom_file_with_the_name_of_another_format_is_found(tmp_path: Path) -> None:
    for name in ("a.txt", "b.png", "c", "d.nii.gz", "e.zip", "f.tar", ".hidden"):
        (tmp_path / name).write_bytes(small(ord(name[0])))
    instances, findings = read_instances(find_sources([tmp_path]))
    assert len(instances) == 7
    assert findings == []


def test_files_come_in_the_order_of_their_names_whatever_the_order_on_disk(tmp_path: Path) -> None:
    for name in ("b/2", "a/1", "b/1", "c", "a.dcm", "B/9"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(small(sum(name.encode())))
    found = labels(tmp_path)
    assert found == ["a.dcm", "c", "B/9", "a/1", "b/1", "b/2"]
    instances, _ = read_instances(find_sources([tmp_path]))
    assert [instance.source.label for instance in instances] == sorted(found)


def test_labels_are_distinct_over_several_paths_of_one_name(tmp_path: Path) -> None:
    for side in ("left", "right"):
        (tmp_path / side / "study").mkdir(parents=True)
        (tmp_path / side / "study" / "one").write_bytes(small())
    assert labels(tmp_path / "left" / "study", tmp_path / "right" / "study") == ["1-study/one", "2-study/one"]
    assert labels(tmp_path / "left" / "study") == ["one"]
    assert labels(tmp_path / "left" / "study" / "one") == ["one"]


def test_what_is_found_is_counted_folder_by_folder(tmp_path: Path) -> None:
    for folder, files in (("a", 3), ("b", 200)):
        (tmp_path / folder).mkdir()
        for number in range(files):
            (tmp_path / folder / f"{number:03}").write_bytes(small(1000 * files + number))
    told: list[tuple[int, int]] = []
    read_instances(find_sources([tmp_path]), progress=lambda done, expected: told.append((done, expected)))
    assert told == [(64, 203), (128, 203), (192, 203), (203, 203)]


def test_five_thousand_other_files_take_neither_time_nor_memory(tmp_path: Path) -> None:
    import tracemalloc

    seed = tmp_path / "note.txt"
    seed.write_bytes(b"nothing to see")
    (tmp_path / "others").mkdir()
    for number in range(5_000):
        os.link(seed, tmp_path / "others" / f"note{number}.txt")
    (tmp_path / "others" / "zz").write_bytes(small())
    tracemalloc.start()
    instances, (finding,) = read_instances(find_sources([tmp_path]))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(instances) == 1
    assert "5,001 files" in finding.message
    assert most < 5_000 * 700


# --------------------------------------------------------------------------------------------- single files


@pytest.mark.parametrize(
    ("offset", "length"), [(0, None), (0, 5), (3, 4), (8, 10), (10, 1), (20, None), (5, 0)]
)
def test_a_file_is_read_from_anywhere_and_not_beyond_its_end(
    tmp_path: Path, offset: int, length: int | None
) -> None:
    content = b"0123456789"
    (tmp_path / "file").write_bytes(content)
    source = FileSource(str(tmp_path / "file"), "file")
    assert source.read(offset, length) == content[offset : None if length is None else offset + length]
    assert source.size() == 10


def test_pydicoms_view_of_a_source_never_asks_for_more_than_there_is() -> None:
    asked: list[int] = []
    data = bytes(range(256)) * 1024

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return data[offset : offset + length]

    file = SeekableSource(read, len(data))
    assert file.read(4) == data[:4]
    assert file.seek(-2, os.SEEK_END) == len(data) - 2
    assert file.read(1 << 40) == data[-2:]
    assert file.read() == b""
    assert file.seek(10) == file.tell() == 10
    assert file.read() == data[10:]
    assert max(asked) <= len(data)


def test_reading_through_memory_gives_what_reading_a_file_gives(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(small())
    (of_file,), _ = read_instances([FileSource(str(tmp_path / "one"), "one")])
    (of_memory,), _ = read_instances([Memory(small(), "one")])
    assert of_file.header.as_dict() == of_memory.header.as_dict()
    assert of_file.pixels == of_memory.pixels
