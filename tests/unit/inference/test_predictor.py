"""One case through the network: in one pass, in windows, alone or with others, as in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.data.augment import NONE
from medmtl.data.batch import collate, sample_case
from medmtl.data.dataset import Dataset
from medmtl.data.load import prepare_case
from medmtl.data.nifti import Geometry
from medmtl.data.prepare import PreparedCase
from medmtl.inference import Model
from medmtl.inference.predictor import Context, predict_prepared
from medmtl.tasks import CaseResult
from tests.helpers.study import make_job, make_ready, sections

CPU = torch.device("cpu")
DENSE, WHOLE = ("anatomy", "tissue", "t1"), ("disease", "function", "blind")


def context(model: Model, *, patch: Sequence[int] | None = None, mirror: bool = False) -> Context:
    x, y, z = patch or model.preparation.patch
    preparation = replace(model.preparation, patch=(x, y, z))
    return Context(model.network.eval(), model.tasks, preparation, CPU, mirror)


def case_of(shape: Sequence[int], frames: int = 2, seed: int = 0) -> PreparedCase:
    """Smooth noise of a shape, on a grid of its own."""
    x, y, z = shape
    image = torch.randn(frames, 1, x, y, z, generator=torch.Generator().manual_seed(seed))
    affine = np.diag([2.0, 2.0, 8.0, 1.0])
    geometry = Geometry((x, y, z), frames, affine)
    return PreparedCase("c", image, (2.0, 2.0, 8.0), geometry, frames > 1, affine)


def prepared(model: Model, study: Dataset, number: int = 7) -> PreparedCase:
    return prepare_case(study.cases[number], model.columns, model.preparation, wanted=())


def same(one: CaseResult, other: CaseResult, names: Sequence[str] | None = None, **tolerance: Any) -> None:
    for name in names if names is not None else one.dense:
        if name in one.dense:
            np.testing.assert_allclose(one.dense[name], other.dense[name], **tolerance)
    for name in names if names is not None else one.values:
        if name in one.values:
            assert one.values[name].keys() == other.values[name].keys()
            for key, value in one.values[name].items():
                expected = other.values[name][key]
                assert value == (
                    expected if isinstance(value, str) else pytest.approx(expected, rel=1e-3, abs=1e-3)
                )


def count_decodes(model: Model) -> list[int]:
    calls: list[int] = []
    model.network.backbone.decoder[0].register_forward_hook(lambda *_: calls.append(1))  # type: ignore
    return calls


def count_encodes(model: Model) -> list[int]:
    calls: list[int] = []
    model.network.backbone.encoder[0].register_forward_hook(lambda *_: calls.append(1))  # type: ignore
    return calls


def test_every_task_says_something_on_the_grid_of_the_files(model: Model, study: Dataset) -> None:
    result = predict_prepared(context(model), prepared(model, study), list(model.tasks))
    assert set(result.dense) == set(DENSE)
    assert set(result.values) == set(WHOLE)
    assert all(volume.shape == (2, 16, 16, 4) for volume in result.dense.values())
    assert len(np.unique(result.dense["anatomy"])) > 1


def test_the_outputs_are_those_of_the_network_on_the_same_sample_as_in_training(
    model: Model, study: Dataset
) -> None:
    case = prepared(model, study)
    sample = sample_case(case, (16, 16, 4), [0, 1], NONE, torch.Generator())
    batch = collate([sample], {})
    torch.testing.assert_close(batch.image, case.image, rtol=1e-5, atol=1e-5)
    with torch.inference_mode(), context(model).autocast():
        outputs = model.network(batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)
    result = predict_prepared(context(model), case, list(model.tasks), on_source_grid=False)
    dense: dict[str, np.ndarray] = {}
    for name in DENSE:
        task = model.tasks[name]
        dense[name] = task.decode_dense(task.stitchable(outputs[name]), dense)
        np.testing.assert_allclose(result.dense[name], dense[name], rtol=1e-4, atol=1e-2)
    for name in WHOLE:
        same(result, CaseResult(values={name: model.tasks[name].decode_case(outputs[name])[0]}), [name])


@pytest.mark.parametrize("shape", [(14, 12, 4), (16, 16, 3), (10, 16, 2)])
def test_a_smaller_volume_lies_in_the_patch_as_it_does_in_training(
    model: Model, shape: tuple[int, int, int]
) -> None:
    case = case_of(shape)
    x, y, z = ((s - 1) / 2 for s in shape)
    case.centre = (x, y, z)
    batch = collate([sample_case(case, (16, 16, 4), [0, 1], NONE, torch.Generator())], {})
    with torch.inference_mode(), context(model).autocast():
        output = model.network(batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)[
            "disease"
        ]
    result = predict_prepared(context(model), case, ["disease", "anatomy"])
    expected = model.tasks["disease"].decode_case(output)[0]
    assert result.values["disease"]["probability.large"] == pytest.approx(
        expected["probability.large"], rel=1e-4
    )
    assert result.dense["anatomy"].shape == (2, *shape)


@pytest.mark.parametrize("shape", [(16, 16, 4), (14, 12, 3)])
def test_windows_and_one_pass_agree_where_the_volume_fits(model: Model, shape: tuple[int, int, int]) -> None:
    """Mirroring goes through windows; averaging the four mirror images by hand goes through one pass."""
    case = case_of(shape)
    axes: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
    stitched: list[np.ndarray] = []
    for flipped in axes:
        turned = replace(case, image=case.image.flip(flipped)) if flipped else case
        said = predict_prepared(context(model), turned, ["t1"], on_source_grid=False).dense["t1"]
        stitched.append(np.flip(said, [a - 1 for a in flipped]) if flipped else said)
    mirrored = predict_prepared(context(model, mirror=True), case, ["t1"], on_source_grid=False).dense["t1"]
    np.testing.assert_allclose(mirrored, np.mean(stitched, axis=0), rtol=1e-3)


def test_a_volume_larger_than_the_patch_is_covered_by_windows(model: Model) -> None:
    case = case_of((29, 22, 7), frames=1)
    result = predict_prepared(context(model), case, list(model.tasks))
    assert all(result.dense[name].shape == (1, 29, 22, 7) for name in DENSE)
    assert np.isfinite(result.dense["t1"]).all()
    assert set(result.values) == set(WHOLE)


def test_case_tasks_look_at_the_organ_wherever_it_lies_in_a_larger_volume(study: Dataset) -> None:
    """The same organ far off the middle gives the same values as a volume cut around it."""
    backbone = {"type": "tests.helpers.own_members:SeesThrough"}
    job = make_job(study, study.root / "run", sections("anatomy", "disease", "function"), backbone=backbone)
    model = make_ready(job).model
    for parameter in model.network.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    [organ] = model.network.head("anatomy").projections  # type: ignore
    organ.weight.data = torch.tensor([-4.0, 0, 0, 4]).reshape(4, 1, 1, 1, 1)  # background, RV, MYO, LV
    organ.bias.data = torch.tensor([20.0, -9, -9, -20])
    small, large = case_of((16, 16, 4), frames=1), case_of((40, 32, 4), frames=1)
    small.image[:, :, 4:12, 4:12, 1:3] += 30
    large.image.zero_()
    large.image[:, :, 22:38, 2:18, :] = small.image
    one = predict_prepared(context(model), small, ["disease", "function"])
    other = predict_prepared(context(model), large, ["disease", "function"])
    same(one, other, rtol=1e-3)
    large.image[:, :, 26:34, 6:14, 1:3] -= 30  # no organ any more: the middle of the image is looked at
    assert predict_prepared(context(model), large, ["disease"]).values["disease"] != one.values["disease"]


@pytest.mark.parametrize("shape", [(16, 16, 4), (24, 20, 4)])
def test_a_class_alone_never_pays_for_the_decoder_when_its_head_reads_no_masks(
    model: Model, shape: tuple[int, int, int]
) -> None:
    calls = count_decodes(model)
    alone = predict_prepared(context(model), case_of(shape), ["blind"])
    assert calls == []
    assert set(alone.values) == {"blind"}
    assert alone.dense == {}


@pytest.mark.parametrize("shape", [(16, 16, 4), (24, 20, 6)])
@pytest.mark.parametrize("name", [*DENSE, *WHOLE])
def test_a_task_says_the_same_alone_and_with_all_others(
    model: Model, shape: tuple[int, int, int], name: str
) -> None:
    case = case_of(shape)
    alone = predict_prepared(context(model), case, [name])
    together = predict_prepared(context(model), case, list(model.tasks))
    assert {*alone.dense, *alone.values} == {name}
    same(alone, together, rtol=1e-5)


def test_where_the_volume_fits_the_encoder_runs_once_for_dense_and_case_tasks(model: Model) -> None:
    calls = count_encodes(model)
    predict_prepared(context(model), case_of((16, 16, 4)), list(model.tasks))
    assert len(calls) == 1


def test_frames_may_go_through_in_chunks_of_any_size(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of((16, 16, 4), frames=5)
    whole = predict_prepared(context(model), case, list(model.tasks))
    monkeypatch.setattr(Context, "volumes_at_once", 2)
    calls = count_encodes(model)
    parts = predict_prepared(context(model), case, list(model.tasks))
    assert len(calls) == 3
    same(whole, parts, rtol=1e-4, atol=1e-2)


def test_a_full_cine_says_of_its_frames_what_the_pair_says_alone(model: Model) -> None:
    cine = case_of((16, 16, 4), frames=6)
    pair = replace(cine, image=cine.image[[0, 3]], source=replace(cine.source, frames=2))
    one = predict_prepared(context(model), cine, list(DENSE))
    other = predict_prepared(context(model), pair, list(DENSE))
    for name in DENSE:
        np.testing.assert_allclose(one.dense[name][[0, 3]], other.dense[name], rtol=1e-4, atol=1e-2)


def test_one_frame_is_enough_for_every_task(model: Model) -> None:
    result = predict_prepared(context(model), case_of((16, 16, 4), frames=1), list(model.tasks))
    assert set(result.values) == set(WHOLE)
    assert all(np.isfinite(v) for v in result.values["function"].values())


def test_mirroring_is_the_same_for_a_mirrored_image(model: Model) -> None:
    case = case_of((16, 16, 4))
    turned = replace(case, image=case.image.flip(2))
    one = predict_prepared(context(model, mirror=True), case, ["anatomy", "t1"], on_source_grid=False)
    other = predict_prepared(context(model, mirror=True), turned, ["anatomy", "t1"], on_source_grid=False)
    np.testing.assert_array_equal(one.dense["anatomy"], other.dense["anatomy"][:, ::-1])
    np.testing.assert_allclose(one.dense["t1"], other.dense["t1"][:, ::-1], rtol=1e-4, atol=1e-2)


def test_tissue_lies_inside_its_structure_in_windows_too(model: Model) -> None:
    bias = model.network.head("anatomy").projections[0].bias.detach()  # type: ignore[index, union-attr]
    before = bias.clone()
    bias[2] += 1  # untrained weights may see no myocardium at all
    result = predict_prepared(context(model), case_of((24, 20, 6)), ["anatomy", "tissue"])
    bias.copy_(before)
    myocardium = result.dense["anatomy"] == 2
    assert myocardium.any()
    assert ((result.dense["tissue"] > 0) == myocardium).all()
