from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data import Column
from medmtl.data.augment import NONE, Augmentation
from medmtl.data.batch import TrainingBatches, choose_frames, collate, sample_case, to_device
from medmtl.data.nifti import Geometry
from medmtl.data.prepare import PreparedCase, labelled_frames
from medmtl.types import Batch, ConfigError

COLUMNS = {
    "anatomy": Column("anatomy", "mask", labels={"LV": 3}),
    "tissue": Column("tissue", "mask", labels={"scar": 2}),
    "t1": Column("t1", "map", unit="ms"),
    "disease": Column("disease", "category", classes=("NOR", "DCM")),
    "LV_EF": Column("LV_EF", "value", unit="%"),
}
SHAPE = (12, 10, 4)
PATCH = (8, 8, 4)


def make_case(
    name: str,
    frames: int = 2,
    *,
    labels: tuple[str, ...] = tuple(COLUMNS),
    ed: int | None = 0,
    es: int | None = 1,
) -> PreparedCase:
    """A case of noise; mask and map of frame ``es`` are unlabelled when there are more than two frames."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    case = PreparedCase(
        case_id=name,
        image=torch.randn((frames, 1, *SHAPE), generator=generator),
        spacing_mm=(1.5, 1.5, 8.0),
        source=Geometry(SHAPE, frames, np.eye(4)),
        is_4d=True,
        affine=np.eye(4),
        frame_ed=ed,
        frame_es=es if frames > 1 else None,
        centre=(5.5, 4.5, 1.5),
        covariates=torch.tensor([170.0, math.nan]),
    )
    for column in ("anatomy", "tissue"):
        if column in labels:
            mask = torch.full((frames, *SHAPE), 255, dtype=torch.uint8)
            mask[: min(frames, 2)] = 3
            case.masks[column] = mask
    if "t1" in labels:
        case.maps["t1"] = torch.full((frames, *SHAPE), math.nan)
        case.maps["t1"][0] = 1200.0
    case.labelled = {name: labelled_frames(label) for name, label in {**case.masks, **case.maps}.items()}
    if "disease" in labels:
        case.values["disease"] = 1.0
    if "LV_EF" in labels:
        case.values["LV_EF"] = 57.5
    return case


def whole(case: PreparedCase, frames: list[int] | None = None) -> Any:
    chosen = list(range(case.n_frames)) if frames is None else frames
    return sample_case(case, PATCH, chosen, NONE, torch.Generator().manual_seed(0))


def same(a: Batch, b: Batch) -> bool:
    tensors = [(a.image, b.image), (a.case_of_frame, b.case_of_frame), (a.spacing_mm, b.spacing_mm)]
    tensors += [(a.targets[name], b.targets[name]) for name in a.targets]
    return (
        a.case_ids == b.case_ids
        and a.targets.keys() == b.targets.keys()
        and all(
            x.shape == y.shape and torch.equal(x.nan_to_num(-9.0), y.nan_to_num(-9.0)) for x, y in tensors
        )
    )


# ------------------------------------------------------------------------------------------- collate


def test_cases_with_different_numbers_of_frames_share_a_batch() -> None:
    cases = [make_case("one", 1), make_case("cine", 5), make_case("pair", 2)]
    batch = collate([whole(case) for case in cases], COLUMNS)
    assert batch.image.shape == (8, 1, *PATCH)
    assert batch.case_of_frame.tolist() == [0, 1, 1, 1, 1, 1, 2, 2]
    assert batch.n_cases == 3
    assert batch.case_ids == ("one", "cine", "pair")
    assert batch.spacing_mm.tolist() == [[1.5, 1.5, 8.0]] * 3
    assert batch.covariates[:, 0].tolist() == [170.0] * 3
    assert batch.covariates[:, 1].isnan().all()
    assert batch.targets["anatomy"].shape == (8, *PATCH)
    for value in (batch.image, *batch.targets.values()):
        assert type(value) is torch.Tensor


def test_every_kind_of_label_may_be_missing_for_any_case_and_frame() -> None:
    cases = [make_case("none", 2, labels=()), make_case("full", 3), make_case("ef", 1, labels=("LV_EF",))]
    batch = collate([whole(case) for case in cases], COLUMNS)
    assert batch.counts == {"anatomy": 2, "tissue": 2, "t1": 1, "disease": 1, "LV_EF": 2}
    anatomy, t1 = batch.targets["anatomy"], batch.targets["t1"]
    assert anatomy.dtype == torch.int64
    assert [set(frame.unique().tolist()) for frame in anatomy] == [{255}, {255}, {3}, {3}, {255}, {255}]
    assert [bool(frame.isfinite().any()) for frame in t1] == [False, False, True, False, False, False]
    assert batch.targets["disease"].tolist() == [-1, 1, -1]
    assert batch.targets["disease"].dtype == torch.int64
    ef = batch.targets["LV_EF"]
    assert ef.isnan().tolist() == [True, False, False]
    assert ef[1:].tolist() == [57.5, 57.5]


def test_a_label_that_no_case_of_the_batch_has_is_absent_and_counts_zero() -> None:
    batch = collate([whole(make_case("a", labels=("anatomy",))), whole(make_case("b", labels=()))], COLUMNS)
    assert list(batch.targets) == ["anatomy"]
    assert batch.counts == {"anatomy": 2, "tissue": 0, "t1": 0, "disease": 0, "LV_EF": 0}


def test_only_chosen_frames_are_counted() -> None:
    case = make_case("cine", 5)
    assert collate([whole(case, [1, 3, 4])], COLUMNS).counts["anatomy"] == 1
    batch = collate([whole(case, [3, 4])], COLUMNS)
    assert batch.counts["anatomy"] == 0
    assert "anatomy" not in batch.targets


def test_only_the_columns_asked_for_are_in_the_batch() -> None:
    batch = collate([whole(make_case("a"))], {"disease": COLUMNS["disease"]})
    assert list(batch.targets) == ["disease"]


def test_a_batch_moves_to_a_device_with_all_that_is_in_it() -> None:
    batch = collate([whole(make_case("a"))], COLUMNS)
    moved = to_device(batch, torch.device("meta"))
    tensors = [moved.image, moved.case_of_frame, moved.spacing_mm, moved.covariates, *moved.targets.values()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.counts == batch.counts
    assert batch.image.device.type == "cpu"


# -------------------------------------------------------------------------------------------- frames


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 30), st.integers(0, 6), st.integers(0, 2**31), st.booleans(), st.booleans())
def test_ed_and_es_are_always_among_the_frames_with_random_others(
    frames: int, others: int, seed: int, knows_ed: bool, knows_es: bool
) -> None:
    ed, es = (0 if knows_ed else None), (frames // 2 if knows_es else None)
    case = make_case("c", frames, ed=ed, es=es, labels=())
    chosen = choose_frames(case, others, torch.Generator().manual_seed(seed))
    assert {f for f in (ed, es) if f is not None} <= set(chosen)
    assert len(chosen) == len(set(chosen)) == min(frames, others + 2)
    assert all(0 <= frame < frames for frame in chosen)


def test_every_frame_of_a_cine_is_seen_sooner_or_later() -> None:
    case = make_case("c", 12, ed=0, es=5, labels=())
    generator = torch.Generator().manual_seed(0)
    seen = Counter(frame for _ in range(200) for frame in choose_frames(case, 1, generator))
    assert set(seen) == set(range(12))
    assert seen[0] == seen[5] == 200
    assert min(seen.values()) >= 5


def test_frames_of_image_and_labels_stay_together() -> None:
    case = make_case("c", 4)
    for frame in range(4):
        case.image[frame] = frame
        case.masks["anatomy"][frame] = frame
        case.maps["t1"][frame] = frame
    sample = whole(case, [1, 3])
    for index, frame in enumerate((1, 3)):
        assert torch.allclose(sample.image[index], torch.tensor(float(frame)), atol=1e-5)
        assert (sample.labels["anatomy"][index] == frame).all()
        assert torch.allclose(sample.labels["t1"][index], torch.tensor(float(frame)), atol=1e-4)


# -------------------------------------------------------------------------------------------- source


def source(n: int, batch_size: int, seed: int = 0) -> TrainingBatches:
    cases = [make_case(f"case{i:02d}", 3) for i in range(n)]
    return TrainingBatches(
        cases, COLUMNS, PATCH, batch_size=batch_size, random_frames=1, augmentation=Augmentation(), seed=seed
    )


def test_a_batch_is_a_function_of_seed_and_step_alone() -> None:
    first, second, other = source(5, 2), source(5, 2), source(5, 2, seed=1)
    forward = [first.batch(step) for step in range(6)]
    backward = [second.batch(step) for step in reversed(range(6))][::-1]
    torch.manual_seed(123)
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert all(same(a, b) for a, b in zip(second.epoch(2, 3), forward[2:5], strict=True))
    assert not any(same(a, b) for a, b in zip(forward, (other.batch(s) for s in range(6)), strict=True))
    assert len({batch.image.sum().item() for batch in forward}) == 6


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_parts_of_a_batch_are_the_batch(ranks: int) -> None:
    """Sample by sample, augmentation, random frames and seeds too, however the batch is dealt."""
    cases = [make_case(f"case{i:02d}", 3) for i in range(7)]
    options: dict[str, Any] = {"batch_size": 5, "random_frames": 1, "augmentation": Augmentation(), "seed": 4}
    whole = TrainingBatches(cases, COLUMNS, PATCH, **options)
    dealt = [TrainingBatches(cases, COLUMNS, PATCH, part=(rank, ranks), **options) for rank in range(ranks)]
    for step in range(3):
        batch, parts = whole.batch(step), [one.batch(step) for one in dealt]
        assert torch.equal(batch.image, torch.cat([part.image for part in parts]))
        assert torch.equal(batch.spacing_mm, torch.cat([part.spacing_mm for part in parts]))
        assert batch.seeds == tuple(seed for part in parts for seed in part.seeds)
        assert len(set(batch.seeds)) == 5
        assert {n: sum(part.counts[n] for part in parts) for n in batch.counts} == batch.counts


def test_more_parts_than_cases_in_a_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match="the 2 cases of a step cannot be dealt to 3 ranks"):
        TrainingBatches([make_case(str(i), 1) for i in range(2)], {}, PATCH, batch_size=8, part=(0, 3))


def test_a_batch_leaves_the_global_random_state_and_the_cases_alone() -> None:
    batches = source(3, 2)
    before = torch.get_rng_state()
    images = [case.image.clone() for case in batches.cases]
    batches.batch(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(case.image, image) for case, image in zip(batches.cases, images, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 13), st.integers(1, 9), st.integers(0, 1000))
def test_every_case_is_seen_once_per_pass(n: int, batch_size: int, seed: int) -> None:
    batches = TrainingBatches(
        [make_case(f"{i}", 1, labels=()) for i in range(n)], {}, PATCH, batch_size=batch_size, seed=seed
    )
    size = batches.batch_size
    assert size == min(n, batch_size)
    seen = (
        [name for step in range(3 * n) for name in batches.batch(step).case_ids]
        if n < 5
        else [batches.cases[i].case_id for step in range(3 * n) for i in batches._indices(step)]
    )
    for start in range(0, len(seen) - n + 1, n):
        assert sorted(seen[start : start + n]) == sorted(f"{i}" for i in range(n))
    assert batches.steps_per_epoch == max(1, round(n / size))


def test_passes_come_in_different_orders() -> None:
    batches = source(8, 8)
    assert len({batches.batch(step).case_ids for step in range(4)}) == 4


def test_without_augmentation_a_batch_is_the_centre_crop() -> None:
    case = make_case("a", 1)
    batches = TrainingBatches([case], COLUMNS, PATCH, batch_size=1)
    batch = batches.batch(0)
    assert torch.allclose(batch.image, case.image[:, :, 2:10, 1:9], atol=2e-5)
    assert batch.spacing_mm.tolist() == [[1.5, 1.5, 8.0]]


def test_a_zoomed_sample_says_its_voxel_size() -> None:
    batches = TrainingBatches(
        [make_case("a", 1)], {}, PATCH, batch_size=1, augmentation=replace(NONE, zoom=0.3)
    )
    sizes = [batches.batch(step).spacing_mm[0].tolist() for step in range(10)]
    assert all(x == pytest.approx(y) and z == 8 for x, y, z in sizes)
    assert min(x for x, _, _ in sizes) < 1.45 < 1.55 < max(x for x, _, _ in sizes)


def test_a_quarter_of_a_random_frame_is_a_frame_in_every_fourth_sample() -> None:
    case = make_case("a", frames=12, ed=0, es=5)
    chosen = [choose_frames(case, 0.25, torch.Generator().manual_seed(seed)) for seed in range(400)]
    assert all({0, 5} <= set(frames) and len(frames) in (2, 3) for frames in chosen)
    assert 70 <= sum(len(frames) == 3 for frames in chosen) <= 130
