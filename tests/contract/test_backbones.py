"""The contract that every registered backbone keeps; a new one is picked up by itself."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from medmtl.models import BACKBONES, Backbone
from medmtl.registry import Registry
from medmtl.types import ConfigError

NAMES = list(BACKBONES)
SHAPE = (16, 16, 4)

ANISOTROPIC = {
    "widths": [4, 6, 8],
    "kernels": [[3, 3, 1], [3, 3, 1], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
}
ISOTROPIC = {"widths": [4, 8], "kernels": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]]}


def options(name: str) -> list[dict[str, Any]]:
    """Small networks of every shape that a backbone offers."""
    table = {"unet": [ANISOTROPIC, ISOTROPIC, {**ANISOTROPIC, "residual": False}]}
    assert name in table, f"say here how to build a small {name!r} in a few ways"
    return table[name]


def make(name: str, chosen: dict[str, Any], channels: int = 1, seed: int = 0) -> Backbone:
    cls: Any = BACKBONES.get(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(in_channels=channels, **chosen)


CASES = [
    pytest.param(name, chosen, id=f"{name}-{i}") for name in NAMES for i, chosen in enumerate(options(name))
]


def image(n: int = 2, channels: int = 1, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn((n, channels, *shape), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_features_have_the_channels_and_strides_that_the_backbone_states(
    name: str, chosen: dict[str, Any]
) -> None:
    backbone = make(name, chosen, channels=2)
    volume = image(3, channels=2)
    pyramid = backbone.encode(volume)
    assert [level.shape[1] for level in pyramid] == list(backbone.pyramid_channels)
    for level, stride in zip(pyramid, backbone.strides, strict=True):
        assert level.shape[0] == 3
        assert tuple(level.shape[2:]) == tuple(n // s for n, s in zip(SHAPE, stride, strict=True))
    decoded = backbone.decode(pyramid)
    assert [level.shape[1] for level in decoded] == list(backbone.decoded_channels)
    assert decoded[0].shape[2:] == volume.shape[2:]
    assert all(a.shape[2:].numel() >= b.shape[2:].numel() for a, b in pairwise(decoded))


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_any_multiple_of_the_divisor_is_a_fine_input(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen)
    x, y, z = (4 * d for d in backbone.divisor)
    for shape in ((x, y, z), (x, 2 * y, z)):
        assert backbone.decode(backbone.encode(image(1, shape=shape)))[0].shape[2:] == shape


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_a_volume_alone_gives_what_it_gives_among_others(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen).eval()
    volumes = image(3)
    together = backbone.decode(backbone.encode(volumes))[0]
    for index in range(3):
        alone = backbone.decode(backbone.encode(volumes[index : index + 1]))[0]
        assert torch.allclose(alone[0], together[index], atol=1e-5)


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_every_parameter_learns(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen)
    pyramid = backbone.encode(image())
    sum((level**2).mean() for level in [*backbone.decode(pyramid), *pyramid]).backward()  # type: ignore
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_a_forward_pass_changes_neither_its_input_nor_the_pyramid(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen)
    volume = image()
    before = volume.clone()
    pyramid = backbone.encode(volume)
    kept = [level.clone() for level in pyramid]
    backbone.decode(pyramid)
    assert torch.equal(volume, before)
    assert all(torch.equal(level, copy) for level, copy in zip(pyramid, kept, strict=True))


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_weights_follow_the_seed_and_survive_a_round_trip(name: str, chosen: dict[str, Any]) -> None:
    first, second, other = make(name, chosen), make(name, chosen), make(name, chosen, seed=1)

    def out(backbone: Backbone) -> torch.Tensor:
        return backbone.eval().decode(backbone.encode(image()))[0]

    assert torch.equal(out(first), out(second))
    assert not torch.allclose(out(first), out(other))
    other.load_state_dict(first.state_dict())
    assert torch.equal(out(first), out(other))


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_mixed_precision_stays_finite(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen)
    with torch.autocast("cpu", torch.bfloat16):
        features = backbone.decode(backbone.encode(image()))
    assert all(level.isfinite().all() for level in features)


def test_names_build_backbones_and_nothing_else() -> None:
    assert isinstance(BACKBONES, Registry)
    assert "unet" in NAMES
    assert all(
        issubclass(BACKBONES.get(name), Backbone) and issubclass(BACKBONES.get(name), nn.Module)
        for name in NAMES
    )
    with pytest.raises(ConfigError, match="unknown backbone 'unett'; did you mean 'unet'"):
        BACKBONES.get("unett")
    with pytest.raises(ConfigError, match=r"it must subclass medmtl\.models\.backbone\.Backbone"):
        BACKBONES.get("torch.nn:Linear")


def test_a_unet_with_levels_that_do_not_match_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"widths \(3\), kernels \(2\) and strides \(2\) must have the same"
    ):
        make("unet", {**ISOTROPIC, "widths": [4, 8, 16]})
