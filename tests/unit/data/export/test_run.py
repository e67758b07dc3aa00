"""Export of what is no dataset yet: ingested on the way, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medmtl.data.export import export
from medmtl.types import ConfigError, DatasetError

Write = Callable[..., Path]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_source_that_cannot_be_read_leaves_nothing_behind(tmp_path: Path, acdc: Write) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(DatasetError, match="of a known format"):
        export(tmp_path / "raw", tmp_path / "out", to="nnunet")
    (acdc(tmp_path / "raw", [1, 2]) / "patient001/Info.cfg").unlink()
    with pytest.raises(DatasetError, match="1 of 2 cases cannot be used"):
        export(tmp_path / "raw", tmp_path / "out", to="nnunet", strict=True)
    with pytest.raises(ConfigError, match="unknown dataset format"):
        export(tmp_path / "raw", tmp_path / "out", to="nnunet", format="acdcc")
    assert names(tmp_path) == ["raw"]


def test_a_source_is_ingested_on_the_way(tmp_path: Path, acdc: Write) -> None:
    acdc(tmp_path / "raw", range(1, 7), four_d=[1])
    (tmp_path / "raw/patient002/Info.cfg").unlink()
    result = export(tmp_path / "raw", tmp_path / "out", to="nnunet")
    assert result.recognized == "acdc, because of the patient folder patient001"
    assert [(finding.case_id, finding.code) for finding in result.refused] == [("patient002", "UNDECODABLE")]
    assert (result.written.cases, result.written.volumes) == (5, 10)
    assert names(tmp_path) == ["out", "raw"]
    data = json.loads((tmp_path / "out/dataset.json").read_text())
    assert (data["name"], data["labels"]) == ("acdc", {"background": 0, "RV": 1, "MYO": 2, "LV": 3})
    assert "patient002" in (tmp_path / "out/findings.csv").read_text()


def test_progress_counts_every_case(tmp_path: Path, tiny_dataset: Write) -> None:
    seen: list[tuple[int, int]] = []
    tiny_dataset(tmp_path / "dataset")
    export(
        tmp_path / "dataset",
        tmp_path / "out",
        to="msd",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_dataset_says_that_it_is_one(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path / "dataset")
    result = export(tmp_path / "dataset", tmp_path / "deep" / "out", to="bids")
    assert result.recognized == "dataset, because of dataset.yaml"
    assert (result.path, result.layout) == (tmp_path / "deep" / "out", "bids")
