"""What a training learns about its own results, and that a model keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from medmtl.data.dataset import open_dataset
from medmtl.data.nifti import frames_first, read_volume
from medmtl.engine import train
from medmtl.engine.quality import _disagreement, learn_quality
from medmtl.engine.setup import Ready
from medmtl.inference import Model, load_model
from medmtl.inference.measure import Quality
from medmtl.inference.measure.likeness import pooled_features
from medmtl.tasks.classification import Classification
from medmtl.tasks.regression import Regression
from medmtl.types import ConfigError
from tests.helpers.study import AFFINE, make_job, make_ready, sections, write_study

VOXEL_ML = abs(float(np.linalg.det(AFFINE))) / 1000
SPLITS = ["train"] * 12 + ["val"] * 12


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """Twelve training and twelve validation cases, and a network that was not trained."""
    folder = tmp_path_factory.mktemp("study")
    dataset = open_dataset(write_study(folder / "dataset", splits=SPLITS))
    found = make_ready(make_job(dataset, folder / "run", sections()))
    learn_quality(found.model, found.train, found.val, found.model.context(torch.device("cpu")))
    return found


def test_ranges_hold_all_training_cases_with_a_margin(ready: Ready) -> None:
    quality = ready.model.quality
    volumes = [
        float((case.masks["anatomy"][t] == 3).sum()) * float(np.prod(case.spacing_mm)) / 1000
        for case in ready.train
        for t in (0, 1)
    ]
    assert quality.volumes["anatomy.LV"] == pytest.approx((min(volumes) / 1.5, max(volumes) * 1.5))
    fractions = [case.values["LV_EF"] for case in ready.train]
    low, high = quality.values["LV_EF"]
    margin = 0.25 * (max(fractions) - min(fractions))
    assert (low, high) == pytest.approx((min(fractions) - margin, max(fractions) + margin))


def test_shapes_may_be_a_little_less_good_than_the_labels(ready: Ready) -> None:
    assert ready.model.quality.parts["anatomy.LV"] == 0.9
    assert ready.model.quality.enclosed == {"anatomy.LV": pytest.approx(0.9)}


def test_masks_and_heads_may_be_apart_as_in_validation_and_at_most_as_people_differ(ready: Ready) -> None:
    task = ready.model.tasks["function"]
    assert isinstance(task, Regression)
    edv, ef = task.std
    few, many = [0.0] * 4, [edv * n / 40 for n in range(21)]
    assert _disagreement([task], {"LV_EDV": many})["LV_EDV"] == pytest.approx(edv * 19 / 40)
    assert _disagreement([task], {"LV_EF": [10 * ef] * 21})["LV_EF"] == ef
    assert _disagreement([task], {"LV_EDV": few}) == {"LV_EDV": edv, "LV_EF": ef}
    assert set(ready.model.quality.disagreement) == {"LV_EDV", "LV_EF"}


def test_probabilities_are_calibrated_on_validation(ready: Ready) -> None:
    assert ready.model.quality.calibrated == ("disease",)
    assert ready.model.tasks["disease"].state()["temperature"] != 1.0
    logits = torch.tensor([[2.0, 0.0]])
    task = ready.model.tasks["disease"]
    assert isinstance(task, Classification)
    assert torch.allclose(task.probabilities(logits), (logits / task.temperature).softmax(1))


def test_training_cases_are_like_themselves(ready: Ready) -> None:
    likeness = ready.model.quality.likeness
    assert likeness is not None
    context = ready.model.context(torch.device("cpu"))
    assert all(likeness.score(pooled_features(context, case, [0, 1])) < 1 for case in ready.train)


def test_a_model_keeps_all_of_it(ready: Ready, tmp_path: Path) -> None:
    ready.model.save(tmp_path)
    again = load_model(tmp_path)
    assert again.quality.as_plain() == ready.model.quality.as_plain()
    assert again.tasks["disease"].state() == ready.model.tasks["disease"].state()
    case = ready.val[0]
    features = pooled_features(again.context(torch.device("cpu")), case, [0, 1])
    first, second = ready.model.quality.likeness, again.quality.likeness
    assert first is not None
    assert second is not None
    assert second.score(features) == pytest.approx(first.score(features), rel=1e-4)


def changed(model: Model, folder: Path, **sections: object) -> Path:
    """The model's folder with other sections in ``model.yaml``; None takes one away."""
    model.save(folder)
    path = folder / "model.yaml"
    found = {**yaml.safe_load(path.read_text()), **sections}
    path.write_text(yaml.safe_dump({key: value for key, value in found.items() if value is not None}))
    return folder


def test_a_model_of_before_is_read_without_it(ready: Ready, tmp_path: Path) -> None:
    likeness = ready.model.quality.likeness
    ready.model.quality = Quality()
    try:
        old = load_model(changed(ready.model, tmp_path, select=None, quality=None))
    finally:
        ready.model.quality = Quality(likeness=likeness)
    assert old.quality == Quality()
    assert [rule.modality for rule in old.select.channels.values()] == [()]


@pytest.mark.parametrize("quality", [{"volumes": {"anatomy.LV": [1]}}, {"parts": {"a": "b"}}, [1]])
def test_a_damaged_section_is_told(ready: Ready, tmp_path: Path, quality: object) -> None:
    with pytest.raises(ConfigError, match="quality: is damaged"):
        load_model(changed(ready.model, tmp_path, quality=quality))


def test_a_damaged_rule_is_told(ready: Ready, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"select\.modalty: unknown key"):
        load_model(changed(ready.model, tmp_path, select={"modalty": "MR"}))


def test_a_training_ends_with_it(tmp_path: Path) -> None:
    root = write_study(tmp_path / "dataset", splits=["train"] * 8 + ["val"])
    run = train(make_job(root, tmp_path / "run", sections("anatomy", "function"), epochs=1))
    assert run.model.quality.likeness is not None
    task = run.model.tasks["function"]
    assert isinstance(task, Regression)
    limits = dict(zip(task.targets, task.std, strict=True))
    assert run.model.quality.disagreement == pytest.approx(limits, rel=1e-4)
    assert set(run.model.quality.volumes) == {"anatomy.RV", "anatomy.MYO", "anatomy.LV"}
    assert run.model.select.channels["cine"].modality == ("MR",)
    mask = frames_first(read_volume(root / "volumes" / "c0" / "anatomy.nii.gz").array)
    low, high = run.model.quality.volumes["anatomy.LV"]
    assert low < np.count_nonzero(mask[0] == 3) * VOXEL_ML < high
