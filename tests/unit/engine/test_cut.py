"""The cut: gradients that agree with those of the uncut graph, compared where the comparison is sound."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry

from medmtl.data.dataset import Dataset
from medmtl.engine import train_step
from medmtl.engine.comparison import (
    nearest_weights,
    reached_parameters,
    rows,
    weight_gradient,
)
from medmtl.engine.cut import Cut
from medmtl.engine.setup import Ready
from medmtl.engine.sketch import Sketch, _per_sample, _side_by_side, inner_products, projection, sketched
from medmtl.models import CaseHead, DenseHead, Features, MultiTaskNetwork, UNet
from medmtl.tasks import build_network, task_losses
from medmtl.types import Batch, ConfigError
from medmtl.weighting import WEIGHTINGS, Gradients, GradientWeighting, Weighting, build_weighting
from tests.helpers.study import SECTIONS, make_batches, make_job, make_ready

UNET: dict[str, Any] = {
    "widths": [4, 6, 8],
    "kernels": [[3, 3, 1], [3, 3, 1], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 1]],
}
MANY: dict[str, dict[str, Any]] = {
    **{name: SECTIONS[name] for name in ("tissue", "t1", "disease", "function")},
    "anatomy": {"type": "segmentation", "target": "anatomy", "deep_supervision": 1},
}
"""Two dense tasks beside one with deep supervision, and two of cases that read the masks."""

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GRADIENT = sorted(name for name in WEIGHTINGS if issubclass(WEIGHTINGS.get(name), GradientWeighting))


@pytest.fixture(scope="module")
def ready(study: Dataset) -> Ready:
    return make_ready(make_job(study, study.root / "run", MANY))


@pytest.fixture(scope="module")
def batch(ready: Ready) -> Batch:
    return make_batches(ready).batch(0)


def network_of(ready: Ready, *, decoders: str = "shared", residual: bool = True) -> MultiTaskNetwork:
    """Without dropout, so that two ways to the same gradient can be told apart from two gradients."""
    backbone = {"type": "unet", **UNET, "decoders": decoders, "residual": residual}
    network = build_network(backbone, ready.model.tasks, in_channels=1, cycle=ready.model.cycle, seed=3)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, CaseHead):  # it starts at zero; here it has to pull at the encoder
            nn.init.normal_(module.mlp[-1].weight, generator=torch.Generator().manual_seed(0))
    return network.train()


def stepped(
    network: MultiTaskNetwork,
    ready: Ready,
    batch: Batch | Sequence[Batch],
    weighting: Weighting,
    **options: Any,
) -> dict[str, Tensor | None]:
    """The gradients of a step that moves nothing."""
    optimizer = torch.optim.SGD([*network.parameters(), *weighting.parameters()], lr=0.0)
    train_step(network, batch, ready.model.tasks, weighting, optimizer, **options)
    named = [*network.named_parameters(), *weighting.named_parameters(prefix="weighting")]
    return {name: None if p.grad is None else p.grad.clone() for name, p in named}


def assert_same(one: Mapping[str, Tensor | None], other: Mapping[str, Tensor | None]) -> None:
    """Equal up to float32's rounding, which gradients near 0 (biases before a norm) consist of."""
    assert one.keys() == other.keys()
    largest = max(float(g.abs().max()) for g in one.values() if g is not None)
    for name, gradient in one.items():
        theirs = other[name]
        assert (gradient is None) == (theirs is None), name
        if gradient is not None and theirs is not None:
            assert torch.allclose(gradient, theirs, rtol=1e-3, atol=2e-5 * largest), name


def weighting_of(method: str, tasks: Sequence[str] = tuple(MANY), **options: Any) -> Weighting:
    needed = {"uw-so": {"temperature": 5.0}}
    return build_weighting(method, tuple(tasks), **needed.get(method, {}), **options)


def own_losses(
    network: MultiTaskNetwork, ready: Ready, batch: Batch, cut: Cut | None = None
) -> dict[str, Tensor]:
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)
    outputs = network(*inputs, cut=cut, opened=cut is not None and cut.opened)
    return task_losses(ready.model.tasks, outputs, batch)[0]


def full_gradients(network: MultiTaskNetwork, ready: Ready, batch: Batch) -> dict[str, dict[str, Tensor]]:
    """Each task's gradient by a whole backward of its own on the uncut graph."""
    found = {}
    for task in ready.model.tasks:
        network.zero_grad(set_to_none=True)
        own_losses(network, ready, batch)[task].backward()
        found[task] = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    return found


# ----------------------------------------------------------------------------------------------- refused


def test_what_needs_opened_convolutions_is_refused_where_the_backbone_does_not_open_them() -> None:
    network = build_network({"type": "tests.helpers.own_members:TwoLevels"}, {}, in_channels=1)
    with pytest.raises(ConfigError, match=r"TwoLevels does not open .* or set weighting.on to shared_param"):
        Cut(network, "last_layers", sketch=8)
    assert Cut(network, "shared_parameters").opened is False
    assert Cut(network).opened is False
    network.compile_trunk(backend="eager")
    with pytest.raises(ConfigError, match=r"which a sketch and a compiled trunk need"):
        Cut(network)


def test_feature_gradients_of_tasks_that_label_different_samples_are_refused(
    ready: Ready, batch: Batch
) -> None:
    weighting = weighting_of("pcgrad", on="features")
    network = network_of(ready)
    stepped(network, ready, batch, weighting)
    mask = batch.targets["anatomy"].clone()
    mask[1] = 255
    one_frame_less = replace(batch, targets={**batch.targets, "anatomy": mask})
    with pytest.raises(
        ConfigError, match=r"label different ones \(1 of 4 frames in this batch\).*last_layers"
    ):
        stepped(network, ready, one_frame_less, weighting)
    one_case_less = replace(batch, targets={**batch.targets, "disease": torch.tensor([-1, 1])})
    with pytest.raises(ConfigError, match="'disease' label different ones"):
        stepped(network, ready, one_case_less, weighting)


# --------------------------------------------------------------------- the update is the joint backward's


@pytest.mark.parametrize("decoders", ["shared", "separate"])
@pytest.mark.parametrize("method", ["ew", "uw-so", "uw", "gls", "balanced"])
def test_comparing_gradients_does_not_change_the_update(
    ready: Ready, batch: Batch, method: str, decoders: str
) -> None:
    """With skips, deep supervision, three dense tasks, heads that read soft masks, and learned weights."""
    network = network_of(ready, decoders=decoders)
    joint = stepped(network, ready, batch, weighting_of(method))
    cut = stepped(network, ready, batch, weighting_of(method), compare=True)
    assert_same(joint, cut)


def test_plain_blocks_are_cut_as_residual_ones_are(ready: Ready, batch: Batch) -> None:
    network = network_of(ready, residual=False)
    joint = stepped(network, ready, batch, weighting_of("ew"))
    assert_same(joint, stepped(network, ready, batch, weighting_of("ew"), compare=True))


@pytest.mark.parametrize(
    "how", [{"on": "last_layers"}, {"sketch": 4}, {"on": "features"}, {"on": "shared_parameters"}], ids=str
)
@pytest.mark.parametrize("method", ["pcgrad", "mgda", "gradnorm"])
def test_the_encoder_gets_the_weighted_sum_and_heads_what_the_method_says(
    ready: Ready, batch: Batch, method: str, how: dict[str, Any]
) -> None:
    network = network_of(ready)
    weighting = weighting_of(method, **how)
    if method == "gradnorm":
        weighting.weight.copy_(torch.tensor([0.5, 1.5, 1.0, 0.25, 1.75]))  # type: ignore[operator]
    found = stepped(network, ready, batch, weighting)
    each = full_gradients(network, ready, batch)
    weights = weighting.weights
    assert len({round(w.item(), 4) for w in weights.values()}) > 1
    expected: dict[str, Tensor | None] = {}
    for name in found:
        weighted = name.startswith("backbone.encoder") or method == "gradnorm"
        parts = [each[t][name] * (weights[t] if weighted else 1.0) for t in each if name in each[t]]
        expected[name] = torch.stack(parts).sum(0) if parts else None
    assert_same(expected, found)


@pytest.mark.parametrize("method", GRADIENT)
def test_an_absent_task_keeps_no_gradient(ready: Ready, batch: Batch, method: str) -> None:
    without = replace(batch, counts={**batch.counts, "t1": 0, "disease": 0})
    found = stepped(network_of(ready, decoders="separate"), ready, without, weighting_of(method))
    for name, gradient in found.items():
        own = name.startswith(("heads.t1.", "heads.disease.", "decoders.t1."))
        assert (gradient is None) == own, name


def test_a_task_that_is_not_due_keeps_no_gradient(ready: Ready, batch: Batch) -> None:
    weighting = weighting_of("pcgrad", every={"t1": 3})
    network = network_of(ready, decoders="separate")
    stepped(network, ready, batch, weighting)
    found = stepped(network, ready, batch, weighting)
    assert found["heads.t1.projections.0.weight"] is None
    assert found["heads.disease.mlp.0.weight"] is not None


class Pooled(DenseHead):
    """A head that reads the coarsest level alone, in whatever precision it comes."""

    def forward(self, features: Features) -> list[Tensor]:
        return [projection(features.pyramid[-1]).mean((2, 3, 4)) for projection in self.projections]


@pytest.mark.parametrize("decoders", ["shared", "separate"])
def test_in_double_precision_the_cut_is_exact_to_1e_13(decoders: str) -> None:
    """Two dense heads, one of them with deep supervision, and one on the coarsest level."""
    torch.manual_seed(0)
    trunk = UNet(1, **UNET, decoders=decoders)  # type: ignore[arg-type]
    heads = {
        "deep": DenseHead(trunk.decoded_channels, 3, deep_supervision=1),
        "fine": DenseHead(trunk.decoded_channels, 1),
        "case": Pooled(trunk.pyramid_channels[-1:], 2),
    }
    network = MultiTaskNetwork(trunk, heads).double().train()
    inputs = (torch.randn(3, 1, 16, 16, 4, dtype=torch.float64), torch.arange(3), torch.ones(3, 3))
    weights = {"deep": torch.tensor(0.3), "fine": torch.tensor(1.7), "case": torch.tensor(12.0)}

    def losses(cut: Cut | None) -> dict[str, Tensor]:
        outputs = network(*inputs, torch.zeros(3, 0), cut=cut)
        return {n: torch.stack([(part**2).mean() for part in output]).sum() for n, output in outputs.items()}

    torch.stack([weights[name] * loss for name, loss in losses(None).items()]).sum().backward()
    joint = {name: p.grad for name, p in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    cut = Cut(network)
    cut.pull(losses(cut))
    cut.push(weights, weigh_heads=True)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, joint[name], rtol=1e-10, atol=1e-13, msg=name)


# ------------------------------------------------------------------------------------- what is compared


def test_on_last_layers_each_gradient_is_autograds_along_the_direct_path(ready: Ready, batch: Batch) -> None:
    network = network_of(ready)
    cut = Cut(network)
    cut.pull(own_losses(network, ready, batch, cut))
    found_rows = rows(cut, list(MANY))
    levels = [network.backbone.last_convolution(level).weight for level in range(3)]
    for task, found in cut.found.items():
        for level, (weight, row) in enumerate(zip(levels, found_rows[task], strict=True)):
            gradient = found.at_cut[level]
            if gradient is None:
                assert not row.any()
                continue
            (expected,) = torch.autograd.grad(cut.pyramid[level], weight, gradient, retain_graph=True)
            torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-6)
    assert [c is None for c in cut.found["disease"].at_cut] == [True, True, False]
    assert [c is None for c in cut.found["anatomy"].at_cut] == [False, False, False]


def test_at_the_coarsest_level_the_direct_path_is_the_whole_gradient(ready: Ready, batch: Batch) -> None:
    network = network_of(ready)
    cut = Cut(network)
    cut.pull(own_losses(network, ready, batch, cut))
    found_rows = rows(cut, list(MANY))
    each = full_gradients(network, ready, batch)
    for task in MANY:
        whole = each[task]["backbone.encoder.2.conv2.conv.weight"]
        torch.testing.assert_close(found_rows[task][2], whole, rtol=1e-4, atol=1e-6)


def test_on_shared_parameters_the_gramian_is_that_of_whole_backwards(ready: Ready, batch: Batch) -> None:
    network = network_of(ready)
    cut = Cut(network, "shared_parameters")
    cut.pull(own_losses(network, ready, batch, cut))
    found = cut.compare(list(MANY))
    each = full_gradients(network, ready, batch)
    names = [n for n, _ in network.named_parameters() if n.startswith("backbone.encoder")]
    rows = torch.stack([torch.cat([each[t][n].flatten() for n in names]) for t in MANY])
    torch.testing.assert_close(found.gramian, rows @ rows.T, rtol=1e-4, atol=1e-6)
    assert {id(p) for p in reached_parameters(cut.pyramid)} == {
        id(p)
        for p in network.backbone.encoder.parameters()  # type: ignore[union-attr]
    }


@pytest.mark.parametrize("residual", [True, False])
def test_by_its_graph_a_network_is_compared_on_the_same_weights(
    ready: Ready, batch: Batch, residual: bool
) -> None:
    """What is done with a backbone that does not open its convolutions, on one that does."""
    network = network_of(ready, residual=residual)
    found = []
    for opened in (True, False):
        cut = Cut(network)
        cut.opened = opened
        cut.pull(own_losses(network, ready, batch, cut))
        found.append(rows(cut, list(MANY)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    levels = [network.backbone.last_convolution(level).weight for level in range(3)]
    assert [id(w) for w in nearest_weights(cut.pyramid)] == [id(w) for w in levels]


def test_features_without_a_weight_of_their_own_have_none() -> None:
    """The first level is the image itself, the second what a convolution makes of it, the third its pool."""
    convolution = nn.Conv3d(1, 2, 1)
    image = torch.randn(1, 1, 4, 4, 4)
    features = convolution(image)
    pooled = nn.functional.avg_pool3d(features, 2)
    found = nearest_weights([image, features, pooled])
    assert [w is convolution.weight for w in found] == [False, True, False]
    assert found[2] is None


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [(3, 1, 1, 1, 1), ((3, 3, 1), (2, 2, 1), (1, 1, 0), 1, 1), (3, 1, 2, 2, 2), (1, 2, 0, 1, 1)],
)
def test_the_gradient_of_a_convolutions_weight_is_autograds(
    kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    convolution = nn.Conv3d(4, 6, kernel, stride, padding, dilation, groups, bias=False).double()
    x = torch.randn(2, 4, 9, 8, 7, dtype=torch.float64)
    y = convolution(x)
    gradient = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, convolution.weight, gradient)
    torch.testing.assert_close(weight_gradient(convolution, x, gradient), expected)


def test_a_sketch_has_nearly_the_inner_products_of_the_gradients_themselves() -> None:
    """Of unlike tasks, on a layer of 64 channels, by 8 numbers per filter: off by 1 / sqrt(64 x 8) or so."""
    torch.manual_seed(0)
    convolution = nn.Conv3d(64, 64, 3, padding=1, bias=False)
    errors: dict[str, list[Tensor]] = {"norms": [], "cosines": [], "norms of filters": []}
    for _ in range(16):
        inner, common = torch.randn(2, 2, 64, 12, 12, 8).unbind()
        at_outputs = [torch.randn_like(common) + factor * common for factor in (0.5, 2.0, -1.0)]
        z = projection(convolution, inner, 8)
        exact = [weight_gradient(convolution, inner, g) for g in at_outputs]
        sketched = [inner_products(g, z).sum(0)[:, :, None] for g in at_outputs]
        whole, short = (Gradients.of({str(i): [g] for i, g in enumerate(gs)}) for gs in (exact, sketched))
        errors["norms"].append(short.norms() / whole.norms() - 1)
        errors["cosines"].append((short.cosines() - whole.cosines())[torch.triu_indices(3, 3, 1).unbind()])
        errors["norms of filters"].append(short.filter_norms.mean(1) / whole.filter_norms.mean(1) - 1)
    for name, found in errors.items():
        assert torch.stack(found).square().mean().sqrt() <= 0.05, name


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 1), (3, 3, 3)])
def test_random_filters_keep_inner_products_on_average(kernel: tuple[int, int, int]) -> None:
    """Of constant kernels, which neighbours' gradients are nearly, and of any others."""
    torch.manual_seed(0)
    constant = torch.randn(2, 4, 1, 1, 1).expand(-1, -1, *kernel)
    for pair in (constant, torch.randn(2, 4, *kernel)):
        pair = pair / pair.flatten(1).norm(dim=1)[:, None, None, None, None]
        filters = nn.Conv3d(4, 1, kernel, bias=False)
        projected = projection(filters, pair, 20_000)[..., 0, 0, 0]
        found, expected = projected @ projected.T, pair.flatten(1) @ pair.flatten(1).T
        torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("size", [1, 5, 8, 16])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((1, 1, 1), 1, 0, 1),
        ((3, 3, 1), 1, (1, 1, 0), 1),
        ((3, 3, 3), (2, 2, 1), 1, 1),
        ((3, 2, 5), (1, 2, 3), (2, 0, 1), (1, 3, 1)),
    ],
)
def test_a_projection_is_a_convolution_with_its_filters(
    kernel: tuple[int, int, int], stride: Any, padding: Any, dilation: Any, size: int
) -> None:
    """The filters are what it makes of every entry of a kernel alone."""
    entries = 4 * math.prod(kernel)
    alone = torch.eye(entries, dtype=torch.float64).view(entries, 4, *kernel)
    filters = projection(nn.Conv3d(4, 6, kernel), alone, size).flatten(1).T.reshape(size, 4, *kernel)
    convolution = nn.Conv3d(4, 6, kernel, stride, padding, dilation)
    inner = torch.randn(2, 4, 11, 10, 9, dtype=torch.float64)
    expected = nn.functional.conv3d(inner, filters, None, stride, padding, dilation)
    torch.testing.assert_close(projection(convolution, inner, size), expected)
    assert ((filters != 0).sum((1, 2, 3, 4)) == 4).all()  # one place each


@pytest.mark.parametrize("products", [_per_sample, _side_by_side])
def test_products_of_channels_are_summed_over_voxels_of_each_sample(products: Any) -> None:
    a, b = torch.randn(3, 4, 32, 32, 24).double(), torch.randn(3, 2, 32, 32, 24).double()
    expected = torch.einsum("ncxyz,ndxyz->ncd", a, b)
    torch.testing.assert_close(products(a, b), expected)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-9), (torch.bfloat16, 0.02)], ids=["float64", "bfloat16"]
)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_a_sketch_past_a_norm_is_that_of_the_gradient_before_it(
    device: str, affine: bool, dtype: torch.dtype, error: float
) -> None:
    """Autograd's gradient at the convolution's output, times what was read through the same filters.

    Of two layers, one of fewer samples; in bfloat16, gradients as they are there.
    """
    torch.manual_seed(0)
    layers, expected = [], []
    for samples, filters in ((3, 5), (3, 4), (2, 4)):
        convolution = nn.Conv3d(6, filters, (3, 3, 1), padding=(1, 1, 0), bias=False).double().to(device)
        norm = nn.InstanceNorm3d(filters, affine=affine).double().to(device)
        if affine:
            nn.init.normal_(norm.weight)
        inner = (3 + torch.randn(samples, 6, 16, 16, 32, device=device)).to(dtype).double()
        y = convolution(inner).detach().to(dtype).double().requires_grad_()
        flat = y.detach().flatten(2)
        inverse = (flat.var(2, correction=0) + norm.eps).rsqrt()
        moments = (m if dtype == torch.float64 else m.float() for m in (flat.mean(2), inverse))
        found = Sketch(convolution, norm, inner.to(dtype), y.detach().to(dtype), *moments, size=8)
        z = projection(convolution, inner.to(dtype), 8).double()
        for gradient in (torch.randn_like(y), 1 + torch.randn_like(y)):
            gradient = gradient.to(dtype).double()
            (at_y,) = torch.autograd.grad(norm(y), y, gradient)
            expected.append(torch.einsum("nfxyz,nsxyz->fs", at_y, z))
            layers.append((found, found(gradient)))
    for one, other in zip(sketched(layers), expected, strict=True):
        assert float((one - other).norm()) <= error * float(other.norm())


@pytest.mark.parametrize("options", [{"sketch": -1}, {"sketch": 8, "on": "shared_parameters"}])
def test_a_sketch_of_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="sketch is a number of projections on last_layers"):
        weighting_of("mgda", **options)


@pytest.mark.parametrize("decoders", ["shared", "separate"])
@pytest.mark.parametrize(
    ("on", "sketch", "cosine"),
    [
        ("last_layers", 0, -1.0),
        ("last_layers", 8, -1.0),
        ("shared_parameters", 0, -1.0),
        ("features", 0, 0.0),
    ],
)
def test_two_opposed_tasks_on_twin_samples_have_cosine_minus_1_but_not_in_features(
    on: str, sketch: int, cosine: float, decoders: str
) -> None:
    """Two samples alike; each task labels one of them, and what one pulls up the other pulls down."""
    torch.manual_seed(0)
    trunk = UNet(1, **UNET, decoders=decoders)  # type: ignore[arg-type]
    network = MultiTaskNetwork(trunk, {t: DenseHead(trunk.decoded_channels, 1) for t in ("up", "down")})
    network.double().train()
    for part in (network.heads, network.decoders):
        if "down" in part:
            part["down"].load_state_dict(part["up"].state_dict())
    image = torch.randn(1, 1, 16, 16, 4, dtype=torch.float64).repeat(2, 1, 1, 1, 1)
    cut = Cut(network, on, sketch)
    outputs = network(
        image, torch.tensor([0, 1]), torch.ones(2, 3), torch.zeros(2, 0), cut=cut, opened=cut.opened
    )
    target = torch.randn(16, 16, 4, dtype=torch.float64)
    cut.pull({
        "up": ((outputs["up"][0][0, 0] - target) ** 2).mean(),
        "down": -((outputs["down"][0][1, 0] - target) ** 2).mean(),
    })  # fmt: skip
    found = cut.compare(["up", "down"])
    assert found.cosines()[0, 1].item() == pytest.approx(cosine, abs=1e-9)
    assert found.norms()[0].item() == pytest.approx(found.norms()[1].item(), rel=1e-9)


# ------------------------------------------------------------------ precision, checkpoints, compilation


def test_a_gradient_scaler_changes_neither_the_comparison_nor_the_update(ready: Ready, batch: Batch) -> None:
    for method in ("ew", "uw", "gradnorm", "cagrad"):
        found = []
        for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
            network, weighting = network_of(ready), weighting_of(method)
            stepped(network, ready, batch, weighting, scaler=scaler, compare=True)  # GradNorm learns from it
            gradients = stepped(network, ready, batch, weighting, scaler=scaler, compare=True)
            found.append((gradients, weighting.weights))
        assert_same(found[0][0], found[1][0])
        for task, weight in found[0][1].items():
            torch.testing.assert_close(weight, found[1][1][task], rtol=1e-4, atol=0)


@pytest.mark.parametrize("method", ["gradnorm", "cagrad"])
def test_a_step_that_overflows_is_skipped_and_the_weighting_learns_nothing_from_it(
    ready: Ready, batch: Batch, method: str
) -> None:
    network, weighting = network_of(ready), weighting_of(method)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    before = copy.deepcopy(network.state_dict())
    state = copy.deepcopy(weighting.state_dict())
    output = train_step(network, batch, ready.model.tasks, weighting, optimizer, scaler=scaler)
    assert output.may_overflow
    assert not torch.isfinite(output.gradient_norm)  # type: ignore[arg-type]
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(weighting.state_dict(), state, rtol=0, atol=0)
    assert scaler.get_scale() < 3e38


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_compares_nearly_as_single_precision_does(
    ready: Ready, batch: Batch, dtype: torch.dtype
) -> None:
    network = network_of(ready)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8) if dtype == torch.float16 else None
    found = []
    for precision, scaling in ((None, None), (dtype, scaler)):
        output = train_step(
            network, batch, ready.model.tasks, weighting_of("cagrad"), optimizer,
            autocast=precision, scaler=scaling,
        )  # fmt: skip
        assert output.task_norms is not None
        assert output.task_cosines is not None
        found.append((output.task_norms, output.task_cosines))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0.1, atol=0)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=0, atol=0.1)


class Checkpointed(UNet):
    """Keeps no activation of its encoder but the levels' features; they are computed again when needed."""

    def encode(self, image: Tensor) -> list[Tensor]:
        return checkpoint(super().encode, image, use_reentrant=False)

    def encode_opened(self, image: Tensor) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        return checkpoint(super().encode_opened, image, use_reentrant=False)

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        return checkpoint(super().decode, pyramid, use_reentrant=False)


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("cagrad", {"on": "last_layers"}),
        ("cagrad", {"on": "shared_parameters"}),
        ("gradnorm", {}),
        ("uw", {}),
        ("gls", {}),
    ],
)
def test_activation_checkpoints_change_nothing(
    ready: Ready, batch: Batch, method: str, how: dict[str, Any]
) -> None:
    network = network_of(ready)
    expected = stepped(network, ready, batch, weighting_of(method, **how))
    backbone = network.backbone
    backbone.__class__ = Checkpointed
    try:
        network._encode, network._decode = backbone.encode, backbone.decode
        network._encode_opened = backbone.encode_opened
        assert_same(expected, stepped(network, ready, batch, weighting_of(method, **how)))
    finally:
        backbone.__class__ = UNet


# PyTorch's compiler itself looks at them.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(
    ("method", "decoders"),
    [("cagrad", "shared"), ("gradnorm", "separate"), ("uw", "shared"), ("balanced", "shared")],
)
def test_a_compiled_trunk_changes_nothing(ready: Ready, batch: Batch, method: str, decoders: str) -> None:
    """By the compiler's own front end and autograd, without generated code, which would take a minute."""
    network = network_of(ready, decoders=decoders)
    expected = stepped(network, ready, batch, weighting_of(method))
    network.compile_trunk(backend="aot_eager", tasks_apart=method == "cagrad")
    assert_same(expected, stepped(network, ready, batch, weighting_of(method)))


# ---------------------------------------------------------------------------------------- accumulation


def test_micro_batches_add_up_to_their_mean_each_with_weights_of_its_own(ready: Ready) -> None:
    network = network_of(ready)
    batches = [make_batches(ready).batch(step) for step in range(2)]
    for method in ("ew", "uw", "cagrad"):
        each = [stepped(network, ready, one, weighting_of(method)) for one in batches]
        both = stepped(network, ready, batches, weighting_of(method))
        mean = {name: _mean(each[0][name], each[1][name]) for name in both}
        assert_same(mean, both)


def _mean(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    parts = [part for part in (one, other) if part is not None]
    return torch.stack(parts).sum(0) / 2 if parts else None


def test_a_micro_batch_without_labels_adds_nothing_and_losses_are_means_of_the_others(
    ready: Ready, batch: Batch
) -> None:
    empty = replace(batch, targets={}, counts=dict.fromkeys(batch.counts, 0))
    network, weighting = network_of(ready), weighting_of("pcgrad")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    alone = train_step(network, batch, ready.model.tasks, weighting, optimizer)
    both = train_step(network, [batch, empty], ready.model.tasks, weighting_of("pcgrad"), optimizer)
    assert both.losses.keys() == alone.losses.keys()
    assert both.counts == alone.counts
    torch.testing.assert_close(both.losses, alone.losses)
    assert train_step(network, [empty, empty], ready.model.tasks, weighting, optimizer).total is None


# ------------------------------------------------------------------------------------------------- cost


class CountFlops(TorchDispatchMode):
    """Counts floating-point operations; torch's own counter puts hooks on modules, which `grad` refuses."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        self.total += 0 if count is None else count(*args, **(kwargs or {}), out_val=out)
        return out


def flops(network: MultiTaskNetwork, ready: Ready, batch: Batch, names: Sequence[str], cut: bool) -> int:
    """Of forward and backward, without the comparison."""
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates, names)
    tasks = {name: ready.model.tasks[name] for name in names}
    network.zero_grad(set_to_none=True)
    with CountFlops() as counter:
        here = Cut(network) if cut else None
        losses, _ = task_losses(tasks, network(*inputs, cut=here), batch)
        if here is None:
            torch.stack(list(losses.values())).sum().backward()
        else:
            here.pull(losses)
            here.push({name: torch.ones(()) for name in names}, weigh_heads=True)
    return counter.total


@pytest.mark.parametrize(
    ("dense", "decoders", "least", "most"),
    [
        (["anatomy"], "shared", 1.0, 1.0),
        (["anatomy", "t1"], "separate", 1.0, 1.0),
        (["anatomy", "t1"], "shared", 1.3, 1.6),
        (["anatomy", "t1", "tissue"], "shared", 1.7, 2.1),
    ],
)
def test_the_cut_costs_nothing_unless_tasks_share_a_decoder(
    ready: Ready, batch: Batch, dense: list[str], decoders: str, least: float, most: float
) -> None:
    network = network_of(ready, decoders=decoders)
    joint, cut = (flops(network, ready, batch, dense, way) for way in (False, True))
    assert least - 0.005 <= cut / joint <= most + 0.005
    assert network.shared_decoder_passes(dense) == (len(dense) if decoders == "shared" else 0)


def test_a_light_decoder_costs_about_a_third(ready: Ready, batch: Batch) -> None:
    counted = []
    for decoders in ("shared", "separate"):
        network = network_of(ready, decoders=decoders)
        pyramid = network.backbone.encode(batch.image)
        with CountFlops() as counter:
            network.all_decoders()[0](pyramid)
        counted.append(counter.total)
    assert counted[1] / counted[0] == pytest.approx(1 / 3, abs=0.1)
