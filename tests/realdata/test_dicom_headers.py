"""Headers of real DICOM files: the fast walk is taken and equals pydicom; archive and cache alter nothing."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from medmtl.data.dicom.by_pydicom import read_slowly
from medmtl.data.dicom.files import SeekableSource
from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.plain import BLOCK, file_meta, walk_file
from medmtl.data.dicom.sources import find_sources
from medmtl.data.dicom.wanted import StrangeError

_LOOKED_AT = 50
"""Files of one folder that are compared with pydicom, which takes its time."""


@pytest.fixture(scope="module")
def folders(realdata: Path) -> dict[Path, list[Path]]:
    """DICOM files by folder."""
    found: dict[Path, list[Path]] = {}
    for folder, _, names in os.walk(realdata):
        files = [Path(folder, name) for name in sorted(names) if not name.endswith((".gz", ".cfg", ".md"))]
        if dicom := [path for path in files if _is_dicom(path)]:
            found[Path(folder)] = dicom
    if not found:
        pytest.skip(f"no DICOM files in {realdata}")
    return found


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def test_the_walk_is_equal_to_pydicom_on_every_real_file(folders: dict[Path, list[Path]]) -> None:
    taken = Counter[bool]()
    for files in folders.values():
        for path in files[:: max(1, len(files) // _LOOKED_AT)]:
            data = path.read_bytes()
            read = SeekableSource(lambda offset, length, data=data: data[offset : offset + length], len(data))
            slow = read_slowly(read)
            assert slow is not None, path
            try:
                first = data[:BLOCK]
                fast = walk_file(
                    lambda offset, length, data=data: data[offset : offset + length],
                    len(data),
                    first,
                    file_meta(first, 132),
                )
            except StrangeError:
                taken[False] += 1
                continue
            taken[True] += 1
            assert fast.header.as_dict() == slow.header.as_dict(), path
            assert (fast.transfer_syntax, fast.pixels) == (slow.transfer_syntax, slow.pixels), path
            assert not fast.cut, path
    assert taken[True] > 9 * taken[False]


def test_files_read_together_are_as_each_read_alone(folders: dict[Path, list[Path]]) -> None:
    for files in folders.values():
        together, _ = read_instances(find_sources(files))
        for instance in together:
            ((alone,), _) = read_instances([instance.source])
            assert instance.header.as_dict() == alone.header.as_dict(), instance.source.label
            assert instance.pixels == alone.pixels, instance.source.label


def test_every_real_file_is_read_with_its_pixels(folders: dict[Path, list[Path]]) -> None:
    for folder, files in folders.items():
        instances, findings = read_instances(find_sources(files))
        errors = [f for f in findings if f.severity == "error" and f.code != "DUPLICATE_POSITION"]
        assert errors == [], folder
        assert all(
            instance.pixels is not None for instance in instances if instance.header.get("Rows") is not None
        )


def test_a_real_series_in_a_tar_and_from_the_cache_is_the_same(
    folders: dict[Path, list[Path]], tmp_path: Path
) -> None:
    folder = max(folders, key=lambda folder: len(folders[folder]))
    with tarfile.open(tmp_path / "series.tar.gz", "w:gz", compresslevel=1) as archive:
        for path in folders[folder]:
            archive.add(path, path.name)
    expected, _ = read_instances(find_sources([folder]))
    packed, _ = read_instances(find_sources([tmp_path / "series.tar.gz"]))
    cache = tmp_path / "headers.sqlite"
    looks = [read_instances(find_sources([folder]), cache=cache)[0] for _ in range(2)]
    for found in (packed, *looks):
        assert [one.header.as_dict() for one in found] == [one.header.as_dict() for one in expected]
        assert [one.pixels for one in found] == [one.pixels for one in expected]
    for one, other in zip(packed[::20], expected[::20], strict=True):
        assert one.source.read() == other.source.read()
