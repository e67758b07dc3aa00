from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from medmtl.models import BACKBONES
from medmtl.plan.memory import FIXED, PER_WEIGHT, training_need

PLAIN = {
    "type": "unet",
    "residual": False,
    "widths": [32, 64, 128, 256, 320, 320],
    "kernels": [[3, 3, 1]] + [[3, 3, 3]] * 5,
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1], [2, 2, 1]],
}
SMALL = {"type": "unet", "widths": [4, 8], "kernels": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]]}


def test_a_backbone_that_needs_values_has_no_estimate() -> None:
    backbone = {"type": "tests.helpers.own_members:LooksAtValues"}
    assert training_need(backbone, (16, 16, 16), channels=1) is None


def test_a_mistake_in_a_backbone_is_not_taken_for_a_need_of_values() -> None:
    with pytest.raises(RuntimeError, match="channel"):
        training_need({"type": "tests.helpers.own_members:LosesItsChannels"}, (16, 16, 16), channels=1)


def test_what_autograd_keeps_is_what_is_counted() -> None:
    backbone = BACKBONES.get("unet")(
        in_channels=2, widths=[4, 8], kernels=[[3, 3, 3]] * 2, strides=SMALL["strides"]
    )  # type: ignore[call-arg]
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone.decode(backbone.encode(torch.randn(1, 2, 16, 16, 8)))
    own = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    size = sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in own)
    need = training_need(SMALL, (16, 16, 8), channels=2)
    assert need is not None
    assert need.kept == pytest.approx(size, rel=0.01)
    assert need.weights == sum(p.numel() for p in backbone.parameters())
    assert need.fixed == FIXED + PER_WEIGHT * need.weights


def test_mixed_precision_takes_half_and_twice_the_voxels_take_twice_as_much() -> None:
    full = training_need(PLAIN, (128, 128, 16), channels=1, value_bytes=4)
    half = training_need(PLAIN, (128, 128, 16), channels=1, value_bytes=2)
    double = training_need(PLAIN, (256, 128, 16), channels=1, value_bytes=4)
    assert full is not None
    assert half is not None
    assert double is not None
    assert half.kept / full.kept == pytest.approx(0.5, abs=0.01)
    assert double.kept / full.kept == pytest.approx(2, abs=0.02)


def test_nnunets_reference_network_takes_nnunets_reference_memory() -> None:
    # nnU-Net plans 8 GB as two volumes of 560 million convolution outputs each; on ACDC's patch this network
    # has 306 million, and nnU-Net rounds 3.7 volumes up to its published batch of 4.
    need = training_need(PLAIN, (256, 224, 20), channels=1, value_bytes=2, dense_channels=4)
    assert need is not None
    assert need.volumes_in(8 * 2**30) == 4


def test_a_decoder_per_task_is_counted_for_each() -> None:
    separate = {**SMALL, "decoders": "separate"}
    one = training_need(separate, (16, 16, 8), channels=1, decoders=1)
    three = training_need(separate, (16, 16, 8), channels=1, decoders=3)
    assert one is not None
    assert three is not None
    assert three.kept > 1.5 * one.kept
    assert three.weights > one.weights


PEAK = """
import pathlib, re, torch
from medmtl.models import BACKBONES
torch.set_num_threads(1)
net = BACKBONES.get("unet")(in_channels=1, widths=[16, 32, 64], kernels=[[3, 3, 3]] * 3,
                            strides=[[1, 1, 1], [2, 2, 2], [2, 2, 2]])
optimizer = torch.optim.AdamW(net.parameters())
def step(side):
    out = net.decode(net.encode(torch.randn(1, 1, side, side, 32)))[0]
    optimizer.zero_grad(); out.mean().backward(); optimizer.step()
def peak():  # not ru_maxrss, which a child takes over from its parent
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
step(16)
before = peak()
step(96)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read as Linux counts it")
def test_a_real_step_stays_below_the_estimate_and_near_it() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    backbone = {
        "type": "unet",
        "widths": [16, 32, 64],
        "kernels": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    }
    need = training_need(backbone, (96, 96, 32), channels=1)
    assert need is not None
    peak = int(done.stdout)
    assert 0.5 * need.per_volume < peak < need.per_volume + FIXED
