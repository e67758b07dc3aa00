"""What every dataset format has to do; a new member is picked up when a sample of it is added here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medmtl.data import check_volumes, ingest, open_dataset
from medmtl.data.formats import FORMATS, DatasetFormat, find_format
from medmtl.types import CaseError

MEMBERS = list(FORMATS)


@pytest.fixture(params=MEMBERS)
def member(request: pytest.FixtureRequest) -> DatasetFormat:
    return FORMATS.get(request.param)()


@pytest.fixture
def sample(member: DatasetFormat, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three cases in the member's layout, by the fixture of the member's name in ``tests/conftest.py``."""
    name = next(name for name in FORMATS if FORMATS.get(name) is type(member))
    write: Callable[[Path], Path] = request.getfixturevalue(name)
    return write(tmp_path / "raw")


def test_the_members_are_known() -> None:
    assert {"acdc", "bids", "emidec", "mnms", "msd", "nnunet", "phantom", "table"} <= set(MEMBERS)


def test_an_empty_folder_and_a_missing_one_are_not_recognized(member: DatasetFormat, tmp_path: Path) -> None:
    assert member.recognizes(tmp_path) is None
    assert member.recognizes(tmp_path / "gone") is None


def test_a_dataset_is_not_recognized(member: DatasetFormat, sample: Path, tmp_path: Path) -> None:
    ingest(sample, tmp_path / "out")
    assert member.recognizes(tmp_path / "out") is None


def test_its_own_layout_is_recognized_with_a_reason_and_by_no_other(
    member: DatasetFormat, sample: Path
) -> None:
    assert member.recognizes(sample)
    assert type(find_format(sample)) is type(member)
    assert member.looks_for


def test_cases_are_found_in_order_with_names_that_are_unique(member: DatasetFormat, sample: Path) -> None:
    names = [raw.case_id for raw in member.read(sample)]
    assert names == sorted(set(names))
    assert len(names) == 3


def test_a_case_follows_the_schema(member: DatasetFormat, sample: Path) -> None:
    schema = member.schema(sample)
    for raw in member.read(sample):
        case = raw.load()
        assert len(case.images) == len(schema.channels)
        assert set(case.labels) <= {name for name, c in schema.columns.items() if c.kind in ("mask", "map")}
        assert set(case.values) <= {
            name for name, c in schema.columns.items() if c.kind in ("category", "value")
        }
        assert member.stratify_by is None or schema.columns[member.stratify_by].kind == "category"


def test_reading_twice_gives_the_same(member: DatasetFormat, sample: Path) -> None:
    first, second = ([raw.load() for raw in member.read(sample)] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.values == other.values
        assert all((a.array == b.array).all() for a, b in zip(one.images, other.images, strict=True))


def image_files(sample: Path) -> list[Path]:
    return sorted([*sample.rglob("*.nii.gz"), *sample.rglob("*.dcm")])


def test_a_case_whose_files_are_gone_raises_a_case_error(member: DatasetFormat, sample: Path) -> None:
    raw_cases = list(member.read(sample))
    for path in image_files(sample):
        path.unlink()
    for raw in raw_cases:
        with pytest.raises(CaseError) as caught:
            raw.load()
        assert caught.value.code in ("NO_USABLE_SERIES", "UNDECODABLE")


@pytest.mark.parametrize("content", [b"", b"\x00" * 400, b"\x1f\x8b\x08\x00garbage"])
def test_a_case_whose_files_are_garbage_raises_a_case_error(
    member: DatasetFormat, sample: Path, content: bytes
) -> None:
    raw_cases = list(member.read(sample))
    for path in image_files(sample):
        path.write_bytes(content)
    for raw in raw_cases:
        with pytest.raises(CaseError) as caught:
            raw.load()
        assert caught.value.code in ("UNDECODABLE", "TRUNCATED")


def test_one_broken_file_refuses_its_case_and_the_others_go_on(
    member: DatasetFormat, sample: Path, tmp_path: Path
) -> None:
    files = sorted(sample.rglob("*.nii.gz"))
    if not files:
        pytest.skip("its samples are no NIfTI files")
    files[0].write_bytes(b"no image")
    result = ingest(sample, tmp_path / "out")
    [finding] = result.refused
    assert (result.cases, finding.code, finding.severity) == (2, "UNDECODABLE", "error")
    assert str(tmp_path) not in finding.message
    assert "\n" not in finding.message


def test_an_ingested_sample_opens_and_has_no_errors(
    member: DatasetFormat, sample: Path, tmp_path: Path
) -> None:
    result = ingest(sample, tmp_path / "out")
    assert (result.cases, result.refused) == (3, [])
    shutil.rmtree(sample)
    dataset = open_dataset(tmp_path / "out")
    found = [finding for case in dataset.cases for finding in check_volumes(dataset, case)]
    assert [finding for finding in found if finding.severity == "error"] == []
    assert len(dataset.targets) == 3
