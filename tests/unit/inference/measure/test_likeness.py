"""What is unlike the training data lies further away than what is like it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from medmtl.data.dataset import open_dataset
from medmtl.data.prepare import PreparedCase
from medmtl.inference.context import Context
from medmtl.inference.measure.likeness import Likeness, fit_likeness, pooled_features, stacked
from medmtl.metrics import one_vs_rest_auc
from tests.helpers.study import make_job, make_ready, sections, write_study

RNG = np.random.default_rng(0)


def test_the_distance_is_mahalanobis_where_there_are_many_cases() -> None:
    mixing = RNG.normal(size=(3, 3))
    train = RNG.normal(size=(20000, 3)) @ mixing
    found = fit_likeness((train,))
    assert found is not None
    level = found.levels[0]
    cases = RNG.normal(size=(50, 3)) @ mixing
    exact = np.sqrt(
        (((cases - train.mean(0)) @ np.linalg.inv(np.cov(train.T))) * (cases - train.mean(0))).sum(1) / 3
    )
    assert np.allclose(level.distance(cases), exact, rtol=0.05)


def test_one_in_a_hundred_of_the_same_kind_is_beyond_the_threshold() -> None:
    mixing = RNG.normal(size=(20, 20))
    train, others = ((RNG.normal(size=(n, 20)) @ mixing,) for n in (400, 4000))
    found = fit_likeness(train)
    assert found is not None
    assert 0.003 < float((found.distance(others) > found.threshold).mean()) < 0.03


def test_fewer_cases_than_features_can_be_fitted_and_too_few_cannot() -> None:
    found = fit_likeness((RNG.normal(size=(12, 100)),))
    assert found is not None
    near, far = (
        found.distance((RNG.normal(size=(30, 100)),)),
        found.distance((5 + RNG.normal(size=(30, 100)),)),
    )
    assert near.max() < far.min()
    assert fit_likeness((RNG.normal(size=(7, 100)),)) is None


def test_a_feature_that_never_varied_and_does_now_is_seen() -> None:
    train = np.concatenate([RNG.normal(size=(40, 5)), np.ones((40, 1))], axis=1)
    found = fit_likeness((train,))
    assert found is not None
    assert found.score((train[0],)) < 1 < found.score((train[0] + np.eye(6)[5],))


def test_the_worst_level_counts() -> None:
    found = fit_likeness((RNG.normal(size=(40, 5)), RNG.normal(size=(40, 8))))
    assert found is not None
    like = (np.zeros(5), np.zeros(8))
    assert found.score(like) < 1 < found.score((np.zeros(5), np.full(8, 9.0)))
    assert found.score((np.full(5, 9.0), np.zeros(8))) > 1


def test_it_comes_back_from_its_tensors() -> None:
    found = fit_likeness((RNG.normal(size=(40, 5)), RNG.normal(size=(40, 8))))
    assert found is not None
    again = Likeness.from_tensors(found.tensors())
    case = (RNG.normal(size=5), RNG.normal(size=8))
    assert again.score(case) == pytest.approx(found.score(case), rel=1e-4)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Likeness, list[PreparedCase]]:
    """A network that was never trained, fitted to 30 small hearts, and 10 more of them."""
    folder = tmp_path_factory.mktemp("hearts")
    dataset = open_dataset(write_study(folder / "dataset", splits=["train"] * 30 + ["val"] * 10))
    ready = make_ready(
        make_job(dataset, folder / "run", sections("anatomy"), backbone={"type": "unet", "widths": [8, 16]})
    )
    context = ready.model.context(torch.device("cpu"))
    features = stacked([pooled_features(context, case, [0, 1]) for case in ready.train])
    assert features is not None
    found = fit_likeness(features)
    assert found is not None
    return context, found, ready.val


def standardized(image: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(((image - image.mean()) / image.std()).astype(np.float32))


def planted(kind: str, image: np.ndarray) -> torch.Tensor:
    """An image that the training did not have."""
    if kind == "noise":
        return standardized(image + RNG.normal(0, 1.5, image.shape))
    if kind == "other anatomy":
        return standardized(ndimage.gaussian_filter(RNG.normal(size=image.shape), (0, 0, 2, 2, 1)))
    if kind == "blur":
        return standardized(ndimage.gaussian_filter(image, (0, 0, 2, 2, 0)))
    turned = np.moveaxis(image, 4, 2)
    return standardized(ndimage.zoom(turned, (1, 1, 4, 1, 1 / 4), order=1))


@pytest.mark.parametrize("kind", ["noise", "other anatomy", "blur", "wrong orientation"])
def test_planted_shifts_are_told_from_cases_of_the_same_kind(
    kind: str, fitted: tuple[Context, Likeness, list[PreparedCase]]
) -> None:
    context, found, cases = fitted
    clean = [found.score(pooled_features(context, case, [0, 1])) for case in cases]
    moved = [replace(case, image=planted(kind, case.image.numpy())) for case in cases]
    shifted = [found.score(pooled_features(context, case, [0, 1])) for case in moved]
    scores = np.array(clean + shifted)
    truth = np.array([0] * len(clean) + [1] * len(shifted))
    assert one_vs_rest_auc(np.stack([-scores, scores], 1), truth, [0, 1])[1] > 0.95
    assert sum(score > 1 for score in clean) <= 1
