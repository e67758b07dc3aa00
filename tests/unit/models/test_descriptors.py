from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medmtl.models import Ring, describe_cycle, describe_frames, descriptors, extreme_frames, ring_of
from medmtl.models.descriptors import SECTORS, cycle_size
from medmtl.models.frames import attention_over_frames, extreme_values, mean_over_frames

SPACING = (1.25, 1.25, 8.0)
SHAPE = (64, 64, 10)


def grid(spacing: tuple[float, float, float] = SPACING, shape: tuple[int, int, int] = SHAPE) -> list[Tensor]:
    axes = [(torch.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    return list(torch.meshgrid(*axes, indexing="ij"))


def ring(inner: float, outer: float, slices: int = 6) -> Tensor:
    """Wall and cavity of a cylinder of radii in mm: ``(2, X, Y, Z)``."""
    x, y, z = grid()
    radius, inside = torch.hypot(x, y), z.abs() < slices * SPACING[2] / 2
    cavity = (radius < inner) & inside
    wall = (radius >= inner) & (radius < outer) & inside
    return torch.stack([wall, cavity]).float()


def spacing(n: int) -> Tensor:
    return torch.tensor([SPACING] * n)


# ----------------------------------------------------------------------------------- analytic shapes


def test_a_cylinder_has_its_volume_area_thickness_and_radius_of_gyration() -> None:
    inner, outer, length = 22.0, 32.0, 48.0
    shapes = describe_frames(ring(inner, outer)[None], spacing(1), Ring(0, 1))
    wall, cavity = math.pi * (outer**2 - inner**2), math.pi * inner**2
    assert shapes.volume_ml[0].tolist() == pytest.approx(
        [wall * length / 1000, cavity * length / 1000], rel=0.02
    )
    d = shapes.descriptors[0]
    assert d[:2].tolist() == pytest.approx(shapes.volume_ml[0].tolist())
    assert d[2:4].tolist() == pytest.approx([wall / 100, cavity / 100], rel=0.02)
    # radius of gyration: sqrt((a^2 + b^2) / 2) of a ring; of n slices d apart, d sqrt((n^2 - 1) / 12)
    planar = [math.sqrt((inner**2 + outer**2) / 2), math.sqrt(inner**2 / 2)]
    assert d[4:6].tolist() == pytest.approx(planar, rel=0.02)
    assert d[6:8].tolist() == pytest.approx([8 * math.sqrt(35 / 12)] * 2, rel=1e-3)
    assert shapes.thickness_mm is not None
    known = shapes.thickness_mm[0].isfinite()
    assert known.any(1).sum() == 6
    assert shapes.thickness_mm[0][known].mean().item() == pytest.approx(outer - inner, rel=0.03)
    assert (shapes.thickness_mm[0][known] - 10).abs().max() < 1.5


def test_an_ellipsoid_has_its_volume_and_radius_of_gyration() -> None:
    size, shape, axes = (1.0, 1.0, 1.5), (80, 80, 60), (30.0, 24.0, 38.0)
    x, y, z = grid(size, shape)
    inside = ((x / axes[0]) ** 2 + (y / axes[1]) ** 2 + (z / axes[2]) ** 2 < 1).float()
    shapes = describe_frames(inside[None, None], torch.tensor([size]))
    volume, area, planar, along = shapes.descriptors[0].tolist()
    assert volume == pytest.approx(4 / 3 * math.pi * math.prod(axes) / 1000, rel=0.01)
    assert area == pytest.approx(math.pi * axes[0] * axes[1] / 100, rel=0.02)
    assert planar == pytest.approx(math.sqrt((axes[0] ** 2 + axes[1] ** 2) / 5), rel=0.01)
    assert along == pytest.approx(axes[2] / math.sqrt(5), rel=0.01)
    assert shapes.thickness_mm is None


def test_soft_masks_are_measured_by_their_probabilities() -> None:
    hard = ring(22, 32)[None]
    assert torch.allclose(
        describe_frames(0.5 * hard, spacing(1)).volume_ml, 0.5 * describe_frames(hard, spacing(1)).volume_ml
    )


def test_volumes_scale_with_the_voxel_and_not_with_the_place() -> None:
    hard = ring(16, 22)[None]
    wide = describe_frames(hard, spacing(1) * torch.tensor([2.0, 2.0, 1.0]))
    plain = describe_frames(hard, spacing(1))
    moved = describe_frames(hard.roll((5, -7, 1), (2, 3, 4)), spacing(1), Ring(0, 1))
    assert torch.allclose(wide.volume_ml, 4 * plain.volume_ml)
    assert torch.allclose(moved.descriptors, plain.descriptors, rtol=1e-3)


def test_a_thin_sector_of_the_wall_is_found() -> None:
    both = ring(22, 34)
    x, y, _ = grid()
    thin = (x > 0) & (y.abs() < 0.6 * x) & (torch.hypot(x, y) > 27)
    both[0][thin] = 0
    shapes = describe_frames(both[None], spacing(1), Ring(0, 1))
    known = shapes.thickness_mm[0, 5] if shapes.thickness_mm is not None else torch.empty(0)
    assert known.min().item() == pytest.approx(5, abs=1)
    assert known.max().item() == pytest.approx(12, abs=1)


# --------------------------------------------------------------------------------------------- cycle


def test_the_cycle_says_ejected_fractions_and_thickening() -> None:
    frames = torch.stack([ring(24, 32), ring(16, 28)])
    shapes = describe_frames(frames, spacing(2), Ring(0, 1))
    cycle = describe_cycle(shapes, torch.tensor([0]), torch.tensor([1]))
    assert cycle.shape == (1, cycle_size(2, Ring(0, 1)))
    assert cycle[0, :8].tolist() == shapes.descriptors[0].tolist()
    assert cycle[0, 8:16].tolist() == shapes.descriptors[1].tolist()
    assert cycle[0, 17].item() == pytest.approx(1 - (16 / 24) ** 2, abs=0.01)
    mean_ed, mean_es, thickening = cycle[0, 18].item(), cycle[0, 22].item(), cycle[0, 26].item()
    assert (mean_ed, mean_es, thickening) == pytest.approx((8, 12, 4), abs=0.4)


def test_an_absent_structure_is_zero_and_never_nan() -> None:
    frames = torch.stack([torch.zeros(2, *SHAPE), ring(20, 26), torch.full((2, *SHAPE), 1e-9)])
    frames[1, 0] = 0
    shapes = describe_frames(frames, spacing(3), Ring(0, 1))
    assert (shapes.descriptors[0] == 0).all()
    assert shapes.descriptors.isfinite().all()
    assert shapes.descriptors[2].abs().max() < 1e-3
    for ed, es in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 2)):
        cycle = describe_cycle(shapes, torch.tensor([ed]), torch.tensor([es]))
        assert cycle.isfinite().all()
    nothing = describe_cycle(shapes, torch.tensor([0]), torch.tensor([0]))
    assert (nothing == 0).all()


def test_no_gradient_flows_through_a_description() -> None:
    masks = ring(22, 32)[None].requires_grad_()
    shapes = describe_frames(masks, spacing(1), Ring(0, 1))
    assert not shapes.volume_ml.requires_grad
    assert not describe_cycle(shapes, torch.tensor([0]), torch.tensor([0])).requires_grad


def test_a_ring_needs_both_wall_and_cavity() -> None:
    assert ring_of(("RV", "MYO", "LV"), "MYO", "LV") == Ring(1, 2)
    assert ring_of(("RV", "LV"), "MYO", "LV") is None
    assert ring_of(("RV", "LV"), None, "LV") is None


# -------------------------------------------------------------------------------------------- frames

CASE_OF_FRAME = torch.tensor([0, 0, 0, 1, 2, 2])


def test_extreme_frames_are_the_largest_and_smallest_of_each_case() -> None:
    largest, smallest = extreme_frames(torch.tensor([5.0, 9.0, 2.0, 1.0, 0.0, 7.0]), CASE_OF_FRAME, 3)
    assert largest.tolist() == [1, 3, 5]
    assert smallest.tolist() == [2, 3, 4]


def test_values_are_pooled_over_the_frames_of_their_own_case() -> None:
    values = torch.tensor([[1.0, -1.0], [2.0, 5.0], [6.0, 2.0], [4.0, 4.0], [8.0, 0.0], [10.0, 2.0]])
    assert mean_over_frames(values, CASE_OF_FRAME, 3).tolist() == [[3, 2], [4, 4], [9, 1]]
    largest, smallest = extreme_values(values, CASE_OF_FRAME, 3)
    assert largest.tolist() == [[6, 5], [4, 4], [10, 2]]
    assert smallest.tolist() == [[1, -1], [4, 4], [8, 0]]
    scores = torch.tensor([0.0, 50.0, 0.0, -3.0, 1.0, 1.0])
    expected = torch.tensor([[2.0, 5.0], [4.0, 4.0], [9.0, 1.0]])
    assert torch.allclose(attention_over_frames(values, scores, CASE_OF_FRAME, 3), expected, atol=1e-4)


def test_sums_by_sector_are_the_same_however_many_slices_are_held_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    values, sector = torch.rand(3, 2, 6, 5, 4), torch.randint(0, SECTORS, (3, 6, 5, 4), dtype=torch.uint8)
    expected = torch.stack(
        [torch.where(sector[:, None] == s, values, 0.0).sum((2, 3)).transpose(1, 2) for s in range(SECTORS)],
        -1,
    )
    for at_once in (descriptors.AT_ONCE, 5 * 6 * 5 * SECTORS, 1):
        monkeypatch.setattr(descriptors, "AT_ONCE", at_once)
        torch.testing.assert_close(descriptors._sums_by_sector(values, sector), expected)
