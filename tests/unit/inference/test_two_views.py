"""Prediction sees whole volumes as training does, and runs no view that nobody asked for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from medmtl.data.augment import NONE
from medmtl.data.batch import collate, sample_case
from medmtl.data.dataset import Dataset
from medmtl.data.load import prepare_case
from medmtl.data.prepare import PreparedCase
from medmtl.inference import Model, load_model
from medmtl.inference.context import Context
from medmtl.inference.patch import one_pass, place, whole_pass
from medmtl.inference.predictor import predict_prepared
from medmtl.types import ConfigError
from tests.helpers.study import SECTIONS, make_job, make_ready

PATCH = (8, 8, 4)
TASKS: dict[str, dict[str, Any]] = {
    "anatomy": SECTIONS["anatomy"],
    "disease": {**SECTIONS["disease"], "masks": [], "view": "global"},
    "function": {**SECTIONS["function"], "view": "global"},
    "near": {**SECTIONS["disease"], "view": "local"},
}


@pytest.fixture(scope="module")
def _wide(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Model:
    job = make_job(study, tmp_path_factory.mktemp("wide") / "run", TASKS, patch=PATCH)
    model = make_ready(job).model
    generator = torch.Generator().manual_seed(5)
    for parameter in model.network.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def model(_wide: Model) -> Model:
    return copy.deepcopy(_wide)


def prepared(model: Model, study: Dataset, number: int = 7) -> PreparedCase:
    return prepare_case(study.cases[number], model.columns, model.preparation, wanted=())


def context_of(model: Model) -> Context:
    return model.context(torch.device("cpu"))


@torch.inference_mode()
def test_what_the_overview_says_is_what_training_computes_to_the_last_bit(
    model: Model, study: Dataset
) -> None:
    context, case = context_of(model), prepared(model, study)
    sample = sample_case(case, PATCH, [0, 1], NONE, torch.Generator(), overview=PATCH)
    batch = collate([sample], {})
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates, ["disease"])
    with context.autocast():
        trained = model.network(*inputs, overview=batch.overview)["disease"]
    assert torch.equal(whole_pass(context, case, ["disease"])["disease"], trained)
    said = predict_prepared(context, case, ["disease"]).values["disease"]
    assert said == model.tasks["disease"].decode_case(trained)[0]


@torch.inference_mode()
def test_a_head_that_reads_masks_reads_them_in_the_patch_and_features_in_the_whole(
    model: Model, study: Dataset
) -> None:
    context, case = context_of(model), prepared(model, study)
    sample = sample_case(case, PATCH, [0, 1], NONE, torch.Generator(), (7.5, 7.5, 1.5), PATCH)
    batch = collate([sample], {})
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates, ["function", "near"])
    with context.autocast():
        trained = model.network(*inputs, overview=batch.overview)
    middle = place(PATCH, case.shape, (7.5, 7.5, 1.5))
    _, outputs = one_pass(context, case, middle, [], ["function", "near"])
    for task in ("function", "near"):
        torch.testing.assert_close(outputs[task], trained[task], rtol=1e-4, atol=1e-5)


def test_a_case_task_alone_runs_the_encoder_once_a_frame_and_no_decoder(model: Model, study: Dataset) -> None:
    case = prepared(model, study)
    encodes, decodes = [], []
    model.network.backbone.encoder[0].register_forward_hook(lambda _m, x, _y: encodes.append(x[0].shape))  # type: ignore
    model.network.backbone.decoder[0].register_forward_hook(lambda *_: decodes.append(1))  # type: ignore
    predict_prepared(context_of(model), case, ["disease"])
    assert (encodes, decodes) == ([(2, 1, *PATCH)], [])


def test_what_a_task_says_does_not_depend_on_which_others_are_asked(model: Model, study: Dataset) -> None:
    context, case = context_of(model), prepared(model, study)
    together = predict_prepared(context, case, list(TASKS))
    for name in ("disease", "function", "near"):
        alone = predict_prepared(context, case, [name]).values[name]
        for key, value in alone.items():
            expected = together.values[name][key]
            assert value == (expected if isinstance(value, str) else pytest.approx(expected, rel=1e-4))


def test_frames_in_chunks_say_what_they_say_together(model: Model, study: Dataset) -> None:
    context, case = context_of(model), prepared(model, study)
    whole = predict_prepared(context, case, ["disease"]).values["disease"]
    chunks = predict_prepared(context.adapted(at_once=1), case, ["disease"]).values["disease"]
    assert whole["probability.large"] == pytest.approx(chunks["probability.large"], rel=1e-4)


def test_a_case_that_fits_the_patch_is_seen_there_whatever_the_view(model: Model, study: Dataset) -> None:
    case = prepared(model, study)
    case.image = case.image[:, :, 4:12, 4:12].clone()
    case.coarse = None
    small = predict_prepared(context_of(model), case, ["disease"]).values["disease"]
    middle = place(PATCH, (8, 8, 4), (3.5, 3.5, 1.5))
    with torch.inference_mode():
        _, outputs = one_pass(context_of(model), case, middle, [], ["disease"])
    assert small == model.tasks["disease"].decode_case(outputs["disease"])[0]


def test_a_saved_model_says_the_same(model: Model, study: Dataset, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    case = prepared(model, study)
    one, other = (predict_prepared(context_of(m), case, list(TASKS)).values for m in (model, again))
    assert one == other
    assert again.preparation == model.preparation


def test_a_global_view_without_whole_volumes_is_refused(study: Dataset, tmp_path: Path) -> None:
    from dataclasses import replace

    job = replace(make_job(study, tmp_path / "run", TASKS, patch=PATCH), overview="none")
    with pytest.raises(ConfigError, match=r"task 'disease': view: global needs preparation\.overview"):
        make_ready(job)


def test_pooling_by_masks_is_refused_in_the_view_that_has_none(study: Dataset, tmp_path: Path) -> None:
    tasks = {**TASKS, "function": {**TASKS["function"], "pooling": "mask"}}
    with pytest.raises(ConfigError, match=r"task 'function': pooling: mask .* its view is global"):
        make_ready(make_job(study, tmp_path / "run", tasks, patch=PATCH))


def test_a_task_that_reads_no_features_has_no_view_of_its_own(study: Dataset, tmp_path: Path) -> None:
    tasks = {
        "anatomy": TASKS["anatomy"], "function": {**SECTIONS["function"], "features": False},
        "disease": TASKS["disease"],
    }  # fmt: skip
    network = make_ready(make_job(study, tmp_path / "run", tasks, patch=PATCH)).model.network
    assert network.head("function").sees_whole is False
    assert network.head("disease").sees_whole is True
