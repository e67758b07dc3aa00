"""The contract that every registered backbone keeps; a new one is picked up by itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from medmtl.engine.cut import Cut
from medmtl.models import BACKBONES, Backbone, DenseHead, Features, MultiTaskNetwork
from medmtl.plan.memory import training_need
from medmtl.registry import Registry
from medmtl.tasks import parse_backbone
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
    table: dict[str, list[dict[str, Any]]] = {
        "unet": [ANISOTROPIC, ISOTROPIC, {**ANISOTROPIC, "residual": False}],
        "segresnet": [{"width": 4, "groups": 2, "blocks": [1, 1, 1]}, {"width": 8, "blocks": [2, 1]}],
        "nnunet": [
            ANISOTROPIC,
            {**ISOTROPIC, "encoder": "residual", "encoder_blocks": [1, 2], "decoder_convolutions": [1]},
        ],
        "swin_unetr": [{"width": 12, "depths": [1, 1, 1, 1], "heads": [1, 1, 2, 2]}],
    }
    assert name in table, f"say here how to build a small {name!r} in a few ways"
    return table[name]


def make(name: str, chosen: dict[str, Any], channels: int = 1, seed: int = 0) -> Backbone:
    cls: Any = BACKBONES.get(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(in_channels=channels, **chosen)


def shape_for(name: str) -> tuple[int, int, int]:
    """A small input; Swin UNETR halves five times.

    SegResNet halves z too: of an axis of two voxels, a strided bfloat16 convolution of PyTorch 2.13 on a CPU
    reads memory that nobody wrote, and now and then that is NaN.
    """
    return {"swin_unetr": (32, 64, 32), "segresnet": (16, 16, 16)}.get(name, SHAPE)


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
    shape = shape_for(name)
    volume = image(3, channels=2, shape=shape)
    pyramid = backbone.encode(volume)
    assert [level.shape[1] for level in pyramid] == list(backbone.pyramid_channels)
    for level, stride in zip(pyramid, backbone.strides, strict=True):
        assert level.shape[0] == 3
        assert tuple(level.shape[2:]) == tuple(n // s for n, s in zip(shape, stride, strict=True))
    decoded = backbone.decode(pyramid)
    assert [level.shape[1] for level in decoded] == list(backbone.decoded_channels)
    assert decoded[0].shape[2:] == volume.shape[2:]
    assert all(a.shape[2:].numel() >= b.shape[2:].numel() for a, b in pairwise(decoded))


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_any_multiple_of_the_divisor_is_a_fine_input(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen)
    x, y, z = shape_for(name) if name == "swin_unetr" else (4 * n for n in backbone.divisor)
    for shape in ((x, y, z), (x, 2 * y, z)):
        assert backbone.decode(backbone.encode(image(1, shape=shape)))[0].shape[2:] == shape


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_a_volume_alone_gives_what_it_gives_among_others(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen).eval()
    volumes = image(3, shape=shape_for(name))
    together = backbone.decode(backbone.encode(volumes))[0]
    for index in range(3):
        alone = backbone.decode(backbone.encode(volumes[index : index + 1]))[0]
        assert torch.allclose(alone[0], together[index], atol=1e-5)


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_every_parameter_learns(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen)
    pyramid = backbone.encode(image(shape=shape_for(name)))
    sum((level**2).mean() for level in [*backbone.decode(pyramid), *pyramid]).backward()  # type: ignore
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_a_forward_pass_changes_neither_its_input_nor_the_pyramid(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen)
    volume = image(shape=shape_for(name))
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
        return backbone.eval().decode(backbone.encode(image(shape=shape_for(name))))[0]

    assert torch.equal(out(first), out(second))
    assert not torch.allclose(out(first), out(other))
    other.load_state_dict(first.state_dict())
    assert torch.equal(out(first), out(other))


class Pooled(DenseHead):
    """Reads the coarsest level alone."""

    def forward(self, features: Features) -> list[torch.Tensor]:
        return [self.projections[0](features.pyramid[-1])]


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_tasks_can_be_compared_at_its_pyramid_and_get_the_joint_gradient(
    name: str, chosen: dict[str, Any]
) -> None:
    trunk = make(name, chosen).eval()  # so that nothing is drawn at random
    heads = {"fine": DenseHead(trunk.decoded_channels, 1), "coarse": Pooled(trunk.pyramid_channels[-1:], 1)}
    network = MultiTaskNetwork(trunk, heads)
    inputs = (image(2, shape=shape_for(name)), torch.arange(2), torch.ones(2, 3), torch.zeros(2, 0))

    def losses(cut: Cut | None) -> dict[str, torch.Tensor]:
        outputs = network(*inputs, cut=cut, opened=cut is not None and cut.opened)
        return {task: (output[0] ** 2).mean() for task, output in outputs.items()}

    torch.stack(list(losses(None).values())).sum().backward()
    joint = {n: p.grad for n, p in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    cut = Cut(network)
    cut.pull(losses(cut))
    found = cut.compare(["fine", "coarse"])
    cut.push({task: torch.tensor(1.0) for task in heads}, weigh_heads=True)
    assert (found.norms() > 0).all()
    assert found.filter_norms.shape[1] >= len(trunk.pyramid_channels)  # every level has a weight
    largest = max(float(g.abs().max()) for g in joint.values() if g is not None)
    for n, parameter in network.named_parameters():
        assert (parameter.grad is None) == (joint[n] is None), n
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, joint[n], rtol=1e-3, atol=1e-4 * largest), n


def gradients_of(name: str, chosen: dict[str, Any], *, again: bool) -> tuple[dict[str, Any], int]:
    """Gradients of two tasks that share the trunk, and bytes that the graph holds between the passes."""
    trunk = make(name, {**chosen, "checkpointing": again}).train()
    heads = {"fine": DenseHead(trunk.decoded_channels, 1), "coarse": Pooled(trunk.pyramid_channels[-1:], 1)}
    for head in heads.values():
        for parameter in head.parameters():
            nn.init.constant_(parameter, 0.1)
    network = MultiTaskNetwork(trunk, heads)
    inputs = (image(2, shape=shape_for(name)), torch.arange(2), torch.ones(2, 3), torch.zeros(2, 0))
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(*inputs)
        total = torch.stack([(output[0] ** 2).mean() for output in outputs.values()]).sum()
    size = sum(storage.nbytes() for storage in kept.values())
    total.backward()
    return {n: p.grad for n, p in network.named_parameters()}, size


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums that several threads share are rounded in any order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_computed_again_instead_of_kept_gradients_are_the_same_to_the_last_bit(
    name: str, chosen: dict[str, Any]
) -> None:
    (kept, large), (again, small) = (gradients_of(name, chosen, again=flag) for flag in (False, True))
    assert small < 0.8 * large
    for parameter, gradient in kept.items():
        assert (again[parameter] is None) == (gradient is None), parameter
        assert gradient is None or torch.equal(again[parameter], gradient), parameter


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "chosen"), CASES)
@pytest.mark.parametrize("on", ["last_layers", "shared_parameters"])
def test_tasks_are_compared_alike_whether_blocks_are_kept_or_computed_again(
    name: str, chosen: dict[str, Any], on: str
) -> None:
    found = []
    for again in (False, True):
        trunk = make(name, {**chosen, "checkpointing": again}).eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            heads = {
                "fine": DenseHead(trunk.decoded_channels, 1),
                "coarse": Pooled(trunk.pyramid_channels[-1:], 1),
            }
        network = MultiTaskNetwork(trunk, heads)
        inputs = (image(2, shape=shape_for(name)), torch.arange(2), torch.ones(2, 3), torch.zeros(2, 0))
        cut = Cut(network, on)
        outputs = network(*inputs, cut=cut, opened=cut.opened)
        cut.pull({task: (output[0] ** 2).mean() for task, output in outputs.items()})
        compared = cut.compare(list(heads))
        cut.push({task: torch.tensor(0.5) for task in heads}, weigh_heads=True)
        found.append((compared.gramian, {n: p.grad for n, p in network.named_parameters()}))
    (gramian, kept), (gramian_again, gradients) = found
    assert torch.equal(gramian, gramian_again)
    for parameter, gradient in kept.items():
        assert gradient is None or torch.equal(gradients[parameter], gradient), parameter


@pytest.mark.parametrize("name", NAMES)
def test_a_config_may_ask_for_it_and_its_memory_is_foreseen(name: str) -> None:
    section = {"type": name, **options(name)[0]}
    parse_backbone({**section, "checkpointing": True})
    needs = [
        training_need({**section, "checkpointing": again}, (32, 64, 32), channels=1)
        for again in (False, True)
    ]
    if needs[0] is None or needs[1] is None:
        assert name == "swin_unetr", "it runs without values, so what it takes can be counted"
    else:
        assert needs[1].kept < 0.8 * needs[0].kept
        assert needs[1].weights == needs[0].weights


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_mixed_precision_stays_finite(name: str, chosen: dict[str, Any]) -> None:
    backbone = make(name, chosen)
    with torch.autocast("cpu", torch.bfloat16):
        features = backbone.decode(backbone.encode(image(shape=shape_for(name))))
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


@pytest.mark.parametrize(
    ("name", "chosen", "said"),
    [
        ("segresnet", {"blocks": [1]}, "at least two levels"),
        ("segresnet", {"width": 12, "groups": 8}, "width 12 is no multiple of the 8 groups"),
        ("swin_unetr", {"width": 16}, "a multiple of 12; found 16"),
        ("swin_unetr", {"depths": [2, 2]}, "four stages"),
    ],
)
def test_a_network_of_monai_that_cannot_be_built_is_refused(
    name: str, chosen: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        make(name, chosen)


def test_segresnet_says_what_monais_own_network_says() -> None:
    from monai.networks.nets import SegResNet

    torch.manual_seed(0)
    net = SegResNet(
        spatial_dims=3, init_filters=8, in_channels=1, out_channels=2, norm=("GROUP", {"num_groups": 8}),
        blocks_down=(1, 2), blocks_up=(1,),
    ).eval()  # fmt: skip
    backbone = make("segresnet", {"width": 8, "blocks": [1, 2]}).eval()
    theirs = net.state_dict()
    names = {"stem": "convInit", "down": "down_layers", "up": "up_samples", "blocks": "up_layers"}
    backbone.load_state_dict(
        {
            key: theirs[names[key.split(".", 1)[0]] + "." + key.split(".", 1)[1]]
            for key in backbone.state_dict()
        }
    )
    volume = image(1)
    decoded = backbone.decode(backbone.encode(volume))[0]
    assert torch.allclose(net.conv_final(decoded), net(volume), atol=1e-5)
