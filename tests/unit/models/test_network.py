from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medmtl.data import Column
from medmtl.data.columns import Cycle
from medmtl.models import (
    BACKBONES,
    Backbone,
    CaseHead,
    CaseInputs,
    DenseHead,
    FrameSummary,
    Head,
    MultiTaskNetwork,
    Ring,
    SegmentationHead,
    TissueHead,
)
from medmtl.models.descriptors import FrameShapes
from medmtl.tasks import build_network, build_task
from medmtl.types import ConfigError

SHAPE = (16, 16, 4)
UNET = {"widths": [4, 8], "kernels": [[3, 3, 1], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 1]]}
STRUCTURES = ("RV", "MYO", "LV")


def trunk() -> Backbone:
    cls: Any = BACKBONES.get("unet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(in_channels=1, **UNET)


def case_head(features: bool = True, masks: bool = True, covariates: int = 2, **options: Any) -> CaseHead:
    structures: Mapping[str, Sequence[str]] = {"anatomy": STRUCTURES} if masks else {}
    inputs = CaseInputs(
        8 if features else 0, structures, covariates, Ring(1, 2) if masks else None, 2 if masks else None
    )
    head = CaseHead(inputs, 3, **options)
    nn.init.normal_(head.mlp[-1].weight)  # it starts at zero; here it has to say something
    return head


def network(**heads: Head) -> MultiTaskNetwork:
    torch.manual_seed(0)
    made = MultiTaskNetwork(trunk(), heads or full())
    return made.eval()


def full() -> dict[str, Head]:
    """Every kind of head; those that read masks come first on purpose."""
    torch.manual_seed(1)
    return {
        "disease": case_head(),
        "tissue": TissueHead((4,), 2, ("anatomy", 1)),
        "t1": DenseHead((4,), 1),
        "anatomy": SegmentationHead((4,), 4),
        "function": case_head(temporal="attention"),
    }


def batch(frames: Sequence[int] = (2, 3, 1), seed: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((sum(frames), 1, *SHAPE), generator=generator)
    owner = torch.repeat_interleave(torch.arange(len(frames)), torch.tensor(frames))
    spacing = torch.tensor([[1.5 + i, 1.5 + i, 8.0] for i in range(len(frames))])
    covariates = torch.randn((len(frames), 2), generator=generator)
    covariates[0, 1] = math.nan
    return image, owner, spacing, covariates


def count_calls(made: MultiTaskNetwork) -> dict[str, int]:
    """Counts how often encoder and decoder run."""
    calls = {"encode": 0, "decode": 0}

    def counted(name: str, inner: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
        def run(*args: Any) -> list[Tensor]:
            calls[name] += 1
            return inner(*args)

        return run

    made._encode = counted("encode", made.backbone.encode)
    made._decode = counted("decode", made.backbone.decode)
    return calls


def finest(output: Tensor | list[Tensor]) -> Tensor:
    return output[0] if isinstance(output, list) else output


# ---------------------------------------------------------------------------------- what is computed


def test_every_task_has_its_output_in_its_shape() -> None:
    outputs = network()(*batch())
    assert set(outputs) == {"disease", "tissue", "t1", "anatomy", "function"}
    assert finest(outputs["anatomy"]).shape == (6, 4, *SHAPE)
    assert finest(outputs["tissue"]).shape == (6, 2, *SHAPE)
    assert finest(outputs["t1"]).shape == (6, 1, *SHAPE)
    assert outputs["disease"].shape == outputs["function"].shape == (3, 3)


def test_heads_run_after_those_whose_masks_they_read() -> None:
    made = network()
    assert made.needed(["disease"]) == ("anatomy", "disease")
    assert made.needed(["tissue", "t1"]) == ("anatomy", "tissue", "t1")
    assert made.needed(["t1"]) == ("t1",)
    assert made.needed([]) == ()
    order = made.needed(full())
    assert sorted(order) == sorted(full())
    assert order.index("anatomy") < min(order.index(reader) for reader in ("disease", "tissue", "function"))


def test_a_chain_of_readers_is_followed_to_its_end() -> None:
    inputs = CaseInputs(0, {"tissue": ("healthy", "scar")})
    made = network(
        burden=CaseHead(inputs, 1),
        tissue=TissueHead((4,), 2, ("anatomy", 1)),
        anatomy=SegmentationHead((4,), 4),
    )
    assert made.needed(["burden"]) == ("anatomy", "tissue", "burden")
    image, owner, spacing, _ = batch()
    assert made(image, owner, spacing, torch.zeros(3, 0))["burden"].shape == (3, 1)


def test_tasks_that_read_each_other_in_a_circle_are_refused() -> None:
    heads = {"a": TissueHead((4,), 2, ("b", 0)), "b": TissueHead((4,), 2, ("a", 0))}
    with pytest.raises(ConfigError, match="in a circle: 'a' reads 'b' reads 'a'; remove one"):
        network(**heads)


def test_the_decoder_does_not_run_for_a_head_that_reads_only_features() -> None:
    made = network(anatomy=SegmentationHead((4,), 4), disease=case_head(masks=False))
    calls = count_calls(made)
    assert list(made(*batch(), tasks=["disease"])) == ["disease"]
    assert calls == {"encode": 1, "decode": 0}


def test_encoder_and_decoder_run_once_for_any_number_of_heads() -> None:
    made = network()
    calls = count_calls(made)
    made(*batch())
    assert calls == {"encode": 1, "decode": 1}


def test_a_task_says_the_same_whether_asked_alone_or_with_others() -> None:
    made = network()
    together = made(*batch())
    for task in full():
        alone = made(*batch(), tasks=[task])
        assert torch.equal(finest(alone[task]), finest(together[task]))


def test_coarser_levels_are_only_supervised_while_training() -> None:
    made = MultiTaskNetwork(trunk(), {"anatomy": SegmentationHead((4, 8), 4, deep_supervision=0)})
    cls: Any = BACKBONES.get("unet")
    deeper = cls(
        in_channels=1, widths=[4, 6, 8], kernels=[[3, 3, 3]] * 3, strides=[[1, 1, 1], [2, 2, 1], [2, 2, 2]]
    )
    deep = MultiTaskNetwork(
        deeper, {"anatomy": SegmentationHead(deeper.decoded_channels, 4, deep_supervision=1)}
    )
    assert len(made.train()(*batch())["anatomy"]) == 1
    assert [tuple(level.shape[2:]) for level in deep.train()(*batch())["anatomy"]] == [SHAPE, (8, 8, 4)]
    assert len(deep.eval()(*batch())["anatomy"]) == 1


# -------------------------------------------------------------------------------------- independence


@pytest.mark.parametrize("temporal", ["extremes", "mean", "attention"])
@pytest.mark.parametrize("pooling", ["mean", "attention", "mask"])
def test_a_case_alone_gives_what_it_gives_in_a_batch(temporal: str, pooling: str) -> None:
    made = network(anatomy=SegmentationHead((4,), 4), disease=case_head(temporal=temporal, pooling=pooling))
    image, owner, spacing, covariates = batch()
    together = made(image, owner, spacing, covariates)
    for case in range(3):
        own = owner == case
        zeros = torch.zeros(int(own.sum()), dtype=torch.int64)
        alone = made(image[own], zeros, spacing[case : case + 1], covariates[case : case + 1])
        assert torch.allclose(alone["disease"][0], together["disease"][case], atol=1e-4)
        assert torch.allclose(finest(alone["anatomy"]), finest(together["anatomy"])[own], atol=1e-5)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("temporal", ["extremes", "mean", "attention"])
def test_the_order_of_frames_does_not_matter(temporal: str, masks: bool) -> None:
    made = network(anatomy=SegmentationHead((4,), 4), disease=case_head(masks=masks, temporal=temporal))
    image, _, spacing, covariates = batch([7])
    owner = torch.zeros(7, dtype=torch.int64)
    expected = made(image, owner, spacing, covariates)["disease"]
    for seed in range(3):
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(made(image[order], owner, spacing, covariates)["disease"], expected, atol=1e-4)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("temporal", ["extremes", "mean", "attention"])
def test_every_frame_of_a_cine_has_a_say_without_masks_to_choose_from(temporal: str, masks: bool) -> None:
    made = network(
        anatomy=SegmentationHead((4,), 4), disease=case_head(masks=masks, temporal=temporal, covariates=0)
    )
    image, owner, spacing, _ = batch([5])
    nothing = torch.zeros(1, 0)
    expected = made(image, owner, spacing, nothing)["disease"]
    heard = 0
    for frame in range(5):
        changed = image.clone()
        changed[frame] = changed[frame].flip(0, 1) * 2 - 1
        heard += not torch.allclose(made(changed, owner, spacing, nothing)["disease"], expected, atol=1e-4)
    assert heard >= (1 if masks and temporal == "extremes" else 3)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("temporal", ["extremes", "mean", "attention"])
def test_a_cine_of_seven_frames_in_chunks_gives_what_it_gives_at_once(temporal: str, masks: bool) -> None:
    head = case_head(temporal=temporal, masks=masks)
    made = network(anatomy=SegmentationHead((4,), 4), disease=head)
    image, owner, spacing, covariates = batch([7])
    expected = made(image, owner, spacing, covariates)["disease"]
    summaries = []
    for chunk in image.split(3):
        features = made.features(chunk, torch.zeros(len(chunk), dtype=torch.int64), spacing, covariates)
        made.run_dense(features, made.needed(["disease"]))
        summaries.append(head.frame_summary(features))
    shapes = None
    if masks:
        found = [s.shapes for s in summaries if s.shapes is not None]
        thick = [f.thickness_mm for f in found if f.thickness_mm is not None]
        shapes = FrameShapes(
            torch.cat([f.volume_ml for f in found]),
            torch.cat([f.descriptors for f in found]),
            torch.cat(thick),
        )
    whole = FrameSummary(
        torch.cat([s.pooled for s in summaries]), torch.cat([s.score for s in summaries]), shapes
    )
    assert torch.allclose(head.from_frames(whole, owner, spacing, covariates), expected, atol=1e-4)


# ----------------------------------------------------------------------------------------- case head


def test_case_level_losses_leave_the_outlines_alone() -> None:
    heads = {
        "anatomy": SegmentationHead((4,), 4),
        "disease": case_head(),
        "pooled": case_head(pooling="mask"),
        "shapes": case_head(features=False),
    }
    made = network(**heads).train()
    outputs = made(*batch())
    sum(outputs[task].sum() for task in ("disease", "pooled", "shapes")).backward()
    assert all(p.grad is None for p in made.head("anatomy").parameters())
    assert all(p.grad is None for p in made.backbone.decoder.parameters())  # type: ignore
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in made.backbone.encoder.parameters())  # type: ignore


def test_an_unknown_covariate_counts_as_average_and_says_so() -> None:
    head = case_head(features=False, masks=False).eval()
    head.set_statistics(torch.zeros(3, 0), torch.tensor([[170.0, 70.0], [180.0, math.nan], [160.0, 90.0]]))
    assert head.covariate_mean.tolist() == [170, 80]
    assert head.covariate_std.tolist() == pytest.approx([math.sqrt(200 / 3), 10])
    made = network(disease=head)
    image, owner, spacing, _ = batch([1, 1])
    known = made(image, owner, spacing, torch.tensor([[170.0, 80.0], [170.0, math.nan]]))["disease"]
    assert known.isfinite().all()
    assert not torch.allclose(known[0], known[1])


def test_statistics_of_values_that_never_change_or_are_never_known_do_not_divide_by_zero() -> None:
    head = case_head(features=False, masks=False)
    head.set_statistics(torch.zeros(2, 0), torch.tensor([[5.0, math.nan], [5.0, math.nan]]))
    assert head.covariate_mean.tolist() == [5, 0]
    assert head.covariate_std.tolist() == [1, 1]


def test_a_new_head_is_linear_in_what_it_knows() -> None:
    head = CaseHead(CaseInputs(8, {}, 2), 3)
    made = network(disease=head)
    image, owner, spacing, covariates = batch()
    first = made(image, owner, spacing, covariates)["disease"]
    assert torch.allclose(made(image * 3 + 1, owner, spacing, covariates)["disease"], first)


def test_extreme_shapes_do_not_blow_up_the_output() -> None:
    head = case_head(features=False)
    made = network(anatomy=SegmentationHead((4,), 4), disease=head)
    image, owner, spacing, covariates = batch()
    outputs = made(image, owner, spacing * 1000, covariates)["disease"]
    assert outputs.isfinite().all()
    assert outputs.abs().max() < 1e3


# ----------------------------------------------------------------------------- precision and weights


def test_mixed_precision_gives_finite_outputs_and_float32_cases() -> None:
    made = network()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = made(*batch())
    for task in ("disease", "function"):
        assert outputs[task].dtype == torch.float32
    assert all(finest(output).isfinite().all() for output in outputs.values())


def test_weights_survive_a_round_trip() -> None:
    first, torch_seed = network(), 99
    first.head("disease").set_statistics(torch.randn(4, 39), torch.randn(4, 2))  # type: ignore
    torch.manual_seed(torch_seed)
    second = MultiTaskNetwork(trunk(), full()).eval()
    for parameter in second.parameters():
        nn.init.normal_(parameter)
    second.load_state_dict(first.state_dict())
    a, b = first(*batch()), second(*batch())
    assert all(torch.equal(finest(a[task]), finest(b[task])) for task in a)


COLUMNS = {
    "anatomy": Column("anatomy", "mask", labels={"RV": 1, "MYO": 2, "LV": 3}),
    "disease": Column("disease", "category", classes=("NOR", "DCM")),
}


def build(seed: int) -> MultiTaskNetwork:
    tasks = {
        "anatomy": build_task("anatomy", {"type": "segmentation", "target": "anatomy"}, COLUMNS),
        "disease": build_task("disease", {"type": "classification", "target": "disease"}, COLUMNS),
    }
    return build_network(
        {"type": "unet", **UNET}, tasks, in_channels=1, cycle=Cycle("anatomy", "LV"), seed=seed
    )


def test_initial_weights_follow_the_seed_and_leave_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    first = build(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    second, other = build(1), build(2)
    same = [
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    ]
    assert all(same)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
