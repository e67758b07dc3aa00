"""What nnU-Net trained says the same here; the reference is in functions on nnU-Net's own tensors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from medmtl.cli import run
from medmtl.inference import load_model
from medmtl.inference.nnunet import read_nnunet
from medmtl.types import ConfigError
from tests.helpers.study import write_study

WIDTHS, KERNELS = [4, 6, 8], [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
RESIDUAL_BLOCKS = [1, 2, 1]
Edit = Callable[[dict[str, Any], dict[str, Any]], None]


def weights_of(residual: bool, seed: int = 0, channels: int = 2) -> dict[str, Tensor]:
    """Random tensors under nnU-Net's names, in its (z, y, x) order."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}

    def block(name: str, inputs: int, outputs: int, kernel: list[int], bias: bool = True) -> None:
        weights[f"{name}.conv.weight"] = 0.3 * torch.randn(outputs, inputs, *kernel, generator=generator)
        if bias:
            weights[f"{name}.conv.bias"] = torch.randn(outputs, generator=generator)
        weights[f"{name}.norm.weight"] = 1 + 0.3 * torch.randn(outputs, generator=generator)
        weights[f"{name}.norm.bias"] = 0.3 * torch.randn(outputs, generator=generator)

    if residual:
        block("encoder.stem.convs.0", channels, WIDTHS[0], KERNELS[0])
    inputs = [WIDTHS[0] if residual else channels, *WIDTHS[:-1]]
    for stage, (i, o, kernel) in enumerate(zip(inputs, WIDTHS, KERNELS, strict=True)):
        for number in range(RESIDUAL_BLOCKS[stage] if residual else 2):
            first = i if number == 0 else o
            if not residual:
                block(f"encoder.stages.{stage}.0.convs.{number}", first, o, kernel)
                continue
            name = f"encoder.stages.{stage}.blocks.{number}"
            block(f"{name}.conv1", first, o, kernel)
            block(f"{name}.conv2", o, o, kernel)
            if first != o:
                pooled = number == 0 and max(STRIDES[stage]) > 1
                block(f"{name}.skip.{int(pooled)}", first, o, [1, 1, 1], bias=False)
    for step, level in enumerate((2, 1)):
        below, here = WIDTHS[level], WIDTHS[level - 1]
        shape = (below, here, *STRIDES[level])
        weights[f"decoder.transpconvs.{step}.weight"] = 0.3 * torch.randn(shape, generator=generator)
        weights[f"decoder.transpconvs.{step}.bias"] = torch.randn(here, generator=generator)
        block(f"decoder.stages.{step}.convs.0", 2 * here, here, KERNELS[level - 1])
        block(f"decoder.stages.{step}.convs.1", here, here, KERNELS[level - 1])
        weights[f"decoder.seg_layers.{step}.weight"] = torch.randn(4, here, 1, 1, 1, generator=generator)
        weights[f"decoder.seg_layers.{step}.bias"] = torch.randn(4, generator=generator)
    return weights


def reference(weights: dict[str, Tensor], x: Tensor, residual: bool) -> Tensor:
    """nnU-Net's forward pass on ``(N, C, Z, Y, X)``, in functions."""

    def block(name: str, x: Tensor, stride: list[int] | int = 1, activate: bool = True) -> Tensor:
        kernel = weights[f"{name}.conv.weight"]
        padding = [(k - 1) // 2 for k in kernel.shape[2:]]
        x = F.conv3d(x, kernel, weights.get(f"{name}.conv.bias"), stride, padding)
        x = F.instance_norm(x, weight=weights[f"{name}.norm.weight"], bias=weights[f"{name}.norm.bias"])
        return F.leaky_relu(x, 0.01) if activate else x

    skips = []
    if residual:
        x = block("encoder.stem.convs.0", x)
    for stage, stride in enumerate(STRIDES):
        for number in range(RESIDUAL_BLOCKS[stage] if residual else 2):
            step = stride if number == 0 else [1, 1, 1]
            if not residual:
                x = block(f"encoder.stages.{stage}.0.convs.{number}", x, step)
                continue
            name = f"encoder.stages.{stage}.blocks.{number}"
            short = F.avg_pool3d(x, step, step) if max(step) > 1 else x
            for place in (0, 1):
                if f"{name}.skip.{place}.conv.weight" in weights:
                    short = block(f"{name}.skip.{place}", short, activate=False)
            inner = block(f"{name}.conv2", block(f"{name}.conv1", x, step), activate=False)
            x = F.leaky_relu(inner + short, 0.01)
        skips.append(x)
    for step, level in enumerate((2, 1)):
        up = weights[f"decoder.transpconvs.{step}.weight"], weights[f"decoder.transpconvs.{step}.bias"]
        x = torch.cat([F.conv_transpose3d(x, *up, stride=STRIDES[level]), skips[level - 1]], 1)
        x = block(f"decoder.stages.{step}.convs.1", block(f"decoder.stages.{step}.convs.0", x))
    return F.conv3d(x, weights["decoder.seg_layers.1.weight"], weights["decoder.seg_layers.1.bias"])


def results(
    folder: Path, residual: bool = False, edit: Edit | None = None, channels: int = 2
) -> tuple[Path, dict[str, Tensor]]:
    """A results folder as nnU-Net v2 leaves it."""
    arguments: dict[str, Any] = {
        "n_stages": 3,
        "features_per_stage": WIDTHS,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": KERNELS,
        "strides": STRIDES,
        "n_conv_per_stage_decoder": [2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        ("n_blocks_per_stage" if residual else "n_conv_per_stage"): RESIDUAL_BLOCKS
        if residual
        else [2, 2, 2],
    }
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    plans: dict[str, Any] = {
        "transpose_forward": [0, 1, 2],
        "configurations": {
            "parent": {
                "patch_size": [8, 16, 12],
                "spacing": [5.0, 1.5, 1.25],
                "normalization_schemes": ["ZScoreNormalization", "ZScoreNormalization"],
                "architecture": {
                    "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
                    "arch_kwargs": arguments,
                },
            },
            "3d_fullres": {"inherits_from": "parent"},
        },
    }
    dataset: dict[str, Any] = {
        "channel_names": {"0": "cine", "1": "T1"},
        "labels": {"background": 0, "LV": 3, "RV": 1, "MYO": 2},
    }
    if edit is not None:
        edit(plans, dataset)
    root = folder / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (root / "fold_0").mkdir(parents=True)
    (root / "plans.json").write_text(json.dumps(plans))
    (root / "dataset.json").write_text(json.dumps(dataset))
    weights = weights_of(residual, channels=channels)
    doubled = {f"decoder.{key}": value for key, value in weights.items() if key.startswith("encoder.")}
    checkpoint = {
        "network_weights": {**weights, **doubled},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)]},
        "_best_ema": np.float64(0.75),
        "init_args": {"plans": plans},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, root / "fold_0" / "checkpoint_final.pth")
    return root, weights


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("forward", [[0, 1, 2], [2, 0, 1], [1, 0, 2]])
def test_the_logits_are_nnunets(tmp_path: Path, residual: bool, forward: list[int]) -> None:
    def edit(plans: dict[str, Any], _: dict[str, Any]) -> None:
        plans["transpose_forward"] = forward

    root, weights = results(tmp_path, residual, edit)
    model = read_nnunet(root)
    theirs = torch.randn(1, 2, 8, 16, 12, generator=torch.Generator().manual_seed(1))
    expected = reference(weights, theirs, residual)
    back = [2 + axis for axis in np.argsort(forward).tolist()]
    image = theirs.permute(0, 1, *back).permute(0, 1, 4, 3, 2)
    one = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        features = model.network.features(image, one, torch.ones(1, 3), torch.zeros(1, 0))
        found = model.network.run_dense(features, ["anatomy"])["anatomy"][0]
    expected = expected.permute(0, 1, *back).permute(0, 1, 4, 3, 2)
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    sizes = dict(zip((forward.index(axis) for axis in (2, 1, 0)), model.preparation.spacing_mm, strict=True))
    assert [sizes[axis] for axis in range(3)] == [5.0, 1.5, 1.25]


def test_labels_channels_spacing_and_patch_are_taken_over(tmp_path: Path) -> None:
    model = read_nnunet(results(tmp_path)[0])
    assert model.columns["anatomy"].labels == {"RV": 1, "MYO": 2, "LV": 3}
    assert model.channels == ("cine", "T1")
    assert model.preparation.spacing_mm == (1.25, 1.5, 5.0)
    assert model.preparation.patch == (12, 16, 8)


def test_the_command_line_writes_a_model_folder_that_loads_without_nnunet(tmp_path: Path) -> None:
    root, _ = results(tmp_path, residual=True)
    assert run(["import", str(root), "-o", str(tmp_path / "model")]) == 0
    model = load_model(tmp_path / "model")
    own = read_nnunet(root).network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in model.network.state_dict().items())
    assert run(["import", str(root), "-o", str(tmp_path / "model")]) == 2


def _ct(plans: dict[str, Any], *_: Any) -> None:
    plans["configurations"]["parent"]["normalization_schemes"] = ["CTNormalization", "ZScoreNormalization"]
    measured = {
        "percentile_00_5": -950.0,
        "percentile_99_5": 1400.0,
        "mean": 60.0,
        "std": 300.0,
        "min": -1024,
    }
    plans["foreground_intensity_properties_per_channel"] = {"0": measured, "1": {}}


def test_cts_are_clipped_and_scaled_by_the_numbers_of_the_plans(tmp_path: Path) -> None:
    window, mri = read_nnunet(results(tmp_path, edit=_ct)[0]).preparation.normalizations
    assert mri.type == "zscore"
    volume = torch.tensor([-2000.0, -950.0, 60.0, 360.0, 5000.0]).reshape(1, 5, 1, 1)
    theirs = (np.clip(volume.numpy(), -950.0, 1400.0) - 60.0) / max(300.0, 1e-8)  # its CTNormalization.run
    assert np.allclose(window(volume).numpy(), theirs, atol=1e-6)


def test_a_model_with_a_window_is_written_and_read(tmp_path: Path) -> None:
    root, _ = results(tmp_path, edit=_ct)
    assert run(["import", str(root), "-o", str(tmp_path / "model")]) == 0
    assert load_model(tmp_path / "model").preparation == read_nnunet(root).preparation


def _ct_without_numbers(plans: dict[str, Any], *_: Any) -> None:
    _ct(plans)
    del plans["foreground_intensity_properties_per_channel"]["0"]["std"]


@pytest.mark.parametrize(
    ("residual", "frozen"), [(False, ["encoder", "decoder", "anatomy"]), (True, ["encoder"]), (True, [])]
)
def test_your_nnunet_learns_a_diagnosis_and_an_ejection_fraction(
    tmp_path: Path, residual: bool, frozen: list[str]
) -> None:
    def one_channel(plans: dict[str, Any], dataset: dict[str, Any]) -> None:
        plans["configurations"]["parent"].update(
            normalization_schemes=["ZScoreNormalization"], patch_size=[4, 16, 16], spacing=[8.0, 2.0, 2.0]
        )
        dataset["channel_names"] = {"0": "cineMRI"}

    root, _ = results(tmp_path, residual, one_channel, channels=1)
    study = write_study(tmp_path / "dataset")
    assert run(["import", str(root), "-o", str(tmp_path / "model")]) == 0
    config = {
        "tasks": {
            "anatomy": {"type": "segmentation", "target": "anatomy", "deep_supervision": 1},
            "disease": {"type": "classification", "target": "disease", "hidden": 8},
            "function": {"type": "regression", "targets": ["LV_EF"], "hidden": 8},
        },
        "backbone": {"type": "nnunet"},
        "device": "cpu",
        "training": {"epochs": 1, "steps_per_epoch": 2, "threads": 1, "warmup_steps": 1, "ema": 0},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    plan, start = f"plan={tmp_path / 'model' / 'plan.yaml'}", f"training.start_from={tmp_path / 'model'}"
    asked = [plan, start, f"training.freeze={json.dumps(frozen)}", f"dataset={study}"]
    assert run(["train", str(tmp_path / "config.yaml"), *asked, "-o", str(tmp_path / "run")]) == 0
    theirs, ours = (load_model(tmp_path / name) for name in ("model", "run"))
    assert list(ours.tasks) == ["anatomy", "disease", "function"]
    assert ours.preparation == theirs.preparation
    before, after = theirs.network.state_dict(), ours.network.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    encoder = {name for name in before if name.startswith(("backbone.stages.", "backbone.stem."))}
    expected = {"encoder": encoder, "decoder": set(before) - encoder}
    kept = set(before) if len(frozen) == 3 else expected[frozen[0]] if frozen else set()
    assert same == kept


class Harmful:
    def __reduce__(self) -> Any:
        return (os.system, ("touch harmed",))


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root, weights = results(tmp_path)
    torch.save({"network_weights": weights, "more": Harmful()}, root / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(ConfigError, match="holds more than numbers"):
        read_nnunet(root)
    assert not (tmp_path / "harmed").exists()


def _set(plans: dict[str, Any], key: str, value: Any) -> None:
    plans["configurations"]["parent"]["architecture"]["arch_kwargs"][key] = value


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda p, d: d["labels"].update(heart=[1, 2, 3]), "overlapping regions"),
        (lambda p, d: d["labels"].update(LV=7), "without gaps"),
        (lambda p, d: p["configurations"]["parent"].update(patch_size=[16, 12]), "is not 3D"),
        (lambda p, d: p["configurations"].pop("3d_fullres"), "no configuration '3d_fullres'"),
        (lambda p, d: p["configurations"]["parent"].pop("architecture"), "plan again"),
        (lambda p, d: _set(p, "norm_op", "torch.nn.BatchNorm3d"), "norm_op = BatchNorm3d"),
        (lambda p, d: _set(p, "features_per_stage", [4, 6, 9]), "and the plans make it"),
        (
            lambda p, d: p["configurations"]["parent"]["architecture"].update(network_class_name="a.MedNeXt"),
            "its network is MedNeXt",
        ),
        (
            lambda p, d: p["configurations"]["parent"].update(normalization_schemes=["RGBTo01Normalization"]),
            "has 1 normalization_schemes for 2 channels",
        ),
        (
            lambda p, d: p["configurations"]["parent"].update(
                normalization_schemes=["RGBTo01Normalization"] * 2
            ),
            "normalizes by RGBTo01Normalization",
        ),
        (_ct_without_numbers, "has no std, which CTNormalization needs"),
    ],
)
def test_what_cannot_be_continued_is_one_clear_sentence(tmp_path: Path, edit: Edit, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_nnunet(results(tmp_path, edit=edit)[0])


@pytest.mark.parametrize("name", ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
def test_missing_and_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    root, _ = results(tmp_path)
    (root / name).write_bytes((root / name).read_bytes()[:40])
    with pytest.raises(ConfigError, match=Path(name).name):
        read_nnunet(root)
    (root / name).unlink()
    with pytest.raises(ConfigError, match=f"{Path(name).name}: is missing"):
        read_nnunet(root)
