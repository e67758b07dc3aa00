"""Training from the disk is training from memory, and says so where neither is possible."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine import train
from medmtl.engine.absent import absent_classes
from medmtl.engine.gather import gather, store_folder
from medmtl.engine.setup import set_up
from medmtl.types import ConfigError
from tests.helpers.study import make_job, sections, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


class Stopped(Exception):
    """What a person's Ctrl-C is to a test."""


def test_memory_that_is_not_there_is_said_with_the_numbers(study: Dataset, tmp_path: Path) -> None:
    job = make_job(study, tmp_path / "run", sections("anatomy"), store="memory", patch=(16, 16, 4))
    huge = replace(job, spacing_mm=(0.005, 0.005, 0.005))
    import torch

    from medmtl.data.prepare import Preparation

    with pytest.raises(
        ConfigError, match=r"training\.store: the prepared cases take .*B, and .*B of memory are free"
    ):
        gather(
            huge,
            Preparation((0.005, 0.005, 0.005), (16, 16, 4)),
            study.cases,
            study.columns,
            torch.device("cpu"),
        )
    assert not any(tmp_path.iterdir())


def test_what_fits_neither_memory_nor_disk_is_refused_before_anything_is_written(
    study: Dataset, tmp_path: Path
) -> None:
    import torch

    from medmtl.data.prepare import Preparation

    folder = tmp_path / "store"
    job = make_job(study, tmp_path / "run", sections("anatomy"), store_folder=str(folder))
    with pytest.raises(
        ConfigError, match=r"training\.store_folder: the \d+ cases still to be prepared take up to .* free at"
    ):
        gather(
            job,
            Preparation((0.001, 0.001, 0.001), (16, 16, 4)),
            study.cases,
            study.columns,
            torch.device("cpu"),
        )
    assert not (folder / "cases").exists() or not any((folder / "cases").iterdir())


def test_a_class_that_no_training_case_of_a_fold_has_is_named(
    study: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classes = {case.case_id: case.values.get("disease") for case in study.cases}
    one = next(name for name in classes.values() if name is not None)
    rest = tuple(
        replace(case, split="val") if case.values.get("disease") == one and case.split == "train" else case
        for case in study.cases
    )
    job = make_job(
        replace(study, cases=rest), tmp_path / "run", sections("disease"), epochs=1, steps_per_epoch=1
    )
    job = replace(job, resolved={**job.resolved, "fold": 3})
    with caplog.at_level(logging.WARNING):
        train(job)
    assert f"labelled training cases of fold 3 is {one}" in caplog.text
    assert "which cannot be learned" in (tmp_path / "run" / "log.txt").read_text()


def test_a_structure_that_no_case_has_is_named(study: Dataset, tmp_path: Path) -> None:
    ready = set_up(make_job(study, tmp_path / "run", sections("anatomy")), __import__("torch").device("cpu"))
    column = ready.label_columns["anatomy"]
    more = replace(column, labels={**column.labels, "PERICARDIUM": 9})
    (sentence,) = absent_classes({"anatomy": more}, ready.train, "training cases")
    assert sentence.endswith("labelled training cases has PERICARDIUM")
    assert absent_classes({"anatomy": column}, ready.train, "training cases") == []


def test_the_store_lies_beside_the_dataset_and_else_beside_the_run(study: Dataset, tmp_path: Path) -> None:
    job = make_job(study, tmp_path / "run", sections("anatomy"))
    assert store_folder(job) == study.root.with_name("dataset.store")
    named = make_job(study, tmp_path / "run", sections("anatomy"), store_folder="elsewhere")
    assert store_folder(named) == Path("elsewhere")


def test_a_model_trained_from_the_disk_is_the_model_trained_from_memory_to_the_last_bit(
    study: Dataset, tmp_path: Path
) -> None:
    weights = []
    for store in ("memory", "disk"):
        job = make_job(
            study, tmp_path / store, steps_per_epoch=3, store=store, store_folder=str(tmp_path / "store")
        )
        run = train(job)
        weights.append(load_file(run.folder / "model" / "model.safetensors"))
    assert (tmp_path / "store" / "store.json").is_file()
    assert weights[0].keys() == weights[1].keys()
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


def test_a_run_from_memory_goes_on_from_the_disk(study: Dataset, tmp_path: Path) -> None:
    options = {"epochs": 2, "steps_per_epoch": 2, "store_folder": str(tmp_path / "store")}
    whole = train(make_job(study, tmp_path / "whole", sections("anatomy"), store="memory", **options))

    def stop(what: str, done: int, total: int) -> None:
        if what == "train" and done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(
            make_job(study, tmp_path / "run", sections("anatomy"), store="memory", **options), progress=stop
        )
    again = train(
        make_job(study, tmp_path / "run", sections("anatomy"), store="disk", **options), resume=True
    )
    one, other = (load_file(run.folder / "model" / "model.safetensors") for run in (whole, again))
    assert all(bool((one[name] == other[name]).all()) for name in one)
