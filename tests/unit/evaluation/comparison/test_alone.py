"""How a task is trained alone, and tissue put where its host's network sees the structure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medmtl.data.dataset import Dataset, open_dataset
from medmtl.data.nifti import Geometry, Volume, read_volume, write_volume
from medmtl.engine import Job
from medmtl.evaluation.comparison.alone import alone
from medmtl.evaluation.comparison.tissue_alone import TYPE, TissueAlone, confine
from medmtl.tasks import build_task
from medmtl.types import ConfigError, OutputError
from tests.helpers.study import COLUMNS, make_job, sections, write_study

SHAPE = (4, 3, 2)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset", splits=("train", "test")))


def job(study: Dataset, **changes: Any) -> Job:
    return make_job(study, study.root / "unused", sections(**changes))


@pytest.mark.parametrize("task", ["anatomy", "t1"])
def test_a_task_that_reads_nothing_is_trained_as_it_is(study: Dataset, task: str) -> None:
    base = job(study)
    found = alone(base, task)
    assert found.sections == {task: base.tasks[task]}
    assert (found.host, found.note) == ("", "")


@pytest.mark.parametrize("options", [{}, {"masks": ["anatomy"]}, {"pooling": "mask"}])
def test_a_case_level_task_has_no_masks_to_read(study: Dataset, options: dict[str, Any]) -> None:
    found = alone(job(study, disease=options), "disease")
    section = found.sections["disease"]
    assert "masks" not in section
    assert section.get("pooling") in (None, "attention")
    assert "alone has no masks to read" in found.note
    assert build_task("disease", section, study.columns).reads == ()


def test_a_head_that_never_read_masks_loses_none(study: Dataset) -> None:
    assert alone(job(study, disease={"masks": []}), "disease").note == ""


def test_a_head_that_would_read_nothing_is_refused_unless_there_are_covariates(study: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"reads nothing but other tasks' masks.*--metric function=none"):
        alone(job(study, function={"features": False}), "function")
    tasks = sections(function={"features": False})
    with_height = make_job(study, study.root / "unused", tasks, covariates=["height"])
    assert alone(with_height, "function").sections["function"]["features"] is False


def test_tissue_is_trained_alone_with_its_host_named(study: Dataset) -> None:
    found = alone(job(study), "tissue")
    assert found.sections == {"tissue": {**sections("tissue")["tissue"], "type": TYPE}}
    assert (found.host, found.structure) == ("anatomy", "MYO")
    task = build_task("tissue", found.sections["tissue"], study.columns)
    assert isinstance(task, TissueAlone)
    assert task.reads == task.structures == ()


def write_predictions(root: Path, task: str, labels: dict[str, int], file: str, **cases: np.ndarray) -> Path:
    root.mkdir()
    outputs = {"tasks": {task: {"kind": "segmentation", "labels": labels, "file": file}}}
    (root / "outputs.yaml").write_text(yaml.safe_dump(outputs))
    for name, array in cases.items():
        (root / name).mkdir()
        write_volume(root / name / file, Volume(array, Geometry(SHAPE, 1, np.diag([2.0, 2, 8, 1]))))
    return root


def test_tissue_stays_where_the_structure_was_predicted_and_nowhere_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tissue, anatomy = (rng.integers(1, 3, SHAPE).astype(np.uint8), rng.integers(0, 4, SHAPE).astype(np.uint8))
    own = write_predictions(tmp_path / "own", "tissue", {"healthy": 1, "scar": 2}, "tissue.nii.gz", a=tissue)
    host = write_predictions(
        tmp_path / "host", "anatomy", COLUMNS["anatomy"]["labels"], "segmentation.nii.gz", a=anatomy
    )
    confine(own, "tissue", host, "anatomy", "MYO")
    kept = read_volume(own / "a" / "tissue.nii.gz")
    np.testing.assert_array_equal(kept.array, np.where(anatomy == 2, tissue, 0))
    np.testing.assert_array_equal(kept.geometry.affine, np.diag([2.0, 2, 8, 1]))


def test_a_case_without_a_host_loses_its_tissue(tmp_path: Path) -> None:
    ones = np.ones(SHAPE, np.uint8)
    own = write_predictions(tmp_path / "own", "tissue", {"scar": 1}, "tissue.nii.gz", a=ones, b=ones)
    host = write_predictions(tmp_path / "host", "anatomy", {"MYO": 1}, "segmentation.nii.gz", a=ones)
    confine(own, "tissue", host, "anatomy", "MYO")
    assert (own / "a" / "tissue.nii.gz").is_file()
    assert not (own / "b" / "tissue.nii.gz").exists()


def test_predictions_of_something_else_are_refused(tmp_path: Path) -> None:
    ones = np.ones(SHAPE, np.uint8)
    own = write_predictions(tmp_path / "own", "tissue", {"scar": 1}, "tissue.nii.gz", a=ones)
    host = write_predictions(tmp_path / "host", "anatomy", {"LV": 1}, "segmentation.nii.gz", a=ones)
    with pytest.raises(OutputError, match="the predictions of anatomy have no MYO"):
        confine(own, "tissue", host, "anatomy", "MYO")
    with pytest.raises(OutputError, match="holds no predictions of heart"):
        confine(own, "tissue", host, "heart", "MYO")
