"""A network that nnU-Net v2 trained, as a medmtl model: the same logits, open to further tasks.

Read are ``plans.json``, ``dataset.json`` and one checkpoint of a results folder; nothing in them is executed.
nnU-Net sees volumes as (z, y, x), transposed by its plans, and medmtl as (x, y, z): kernels are transposed
once, here, so that nothing is at run time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medmtl.data.dataset import Column
from medmtl.data.normalize import Normalization, Normalizations, parse_normalization
from medmtl.data.prepare import Preparation
from medmtl.inference.model import Model
from medmtl.inference.numbers import load_numbers
from medmtl.plan import Plan, plan_text_of_network
from medmtl.tasks import build_network, build_task
from medmtl.types import ConfigError

TASK = "anatomy"
_NETWORKS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
_NORMALIZATIONS = {"ZScoreNormalization": "zscore", "NoNormalization": "none"}
_HARMLESS: list[Any] = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)),
]
"""What a checkpoint of nnU-Net may hold besides tensors and plain data: NumPy's numbers, in its log."""


def read_nnunet(folder: Path | str, *, fold: int | str = 0, checkpoint: str = "final") -> Model:
    """Read what nnU-Net v2 left in ``nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.

    The model has one segmentation task, ``anatomy``. Its logits are nnU-Net's for the same input; how an
    image becomes input is medmtl's own preparation, with nnU-Net's spacing and patch.

    Args:
        folder: with ``plans.json``, ``dataset.json`` and ``fold_0``.
        fold: ``0`` to ``4`` or ``all``.
        checkpoint: ``final``, ``best`` or ``latest``.

    Raises:
        ConfigError: a file is missing or damaged, or the network is none that medmtl can continue.
    """
    root = Path(folder)
    plans, dataset = _json(root / "plans.json"), _json(root / "dataset.json")
    weights_file = root / f"fold_{fold}" / f"checkpoint_{checkpoint}.pth"
    configuration = _configuration(plans, root.name.rpartition("__")[2], root / "plans.json")
    labels = _labels(dataset, root / "dataset.json")
    channels = tuple(
        str(name) for _, name in sorted(_channels(dataset).items(), key=lambda item: int(item[0]))
    )
    order = _axes(plans)
    backbone = _backbone(configuration, order, root / "plans.json")
    supervised = min(4, len(backbone["widths"]) - 2)
    section = {"type": "segmentation", "target": TASK, "deep_supervision": supervised}
    columns = {TASK: Column(TASK, "mask", labels=labels)}
    tasks = {TASK: build_task(TASK, section, columns)}
    network = build_network(backbone, tasks, in_channels=len(channels))
    found = _weights(weights_file)
    network.load_state_dict(_renamed(found, network.state_dict(), order, weights_file))
    return Model(
        network=network.eval(),
        tasks=tasks,
        task_sections={TASK: section},
        backbone=backbone,
        preparation=Preparation(
            spacing_mm=_floats(_ours(configuration["spacing"], order)),
            patch=_ints(_ours(configuration["patch_size"], order)),
            normalization=_normalizations(plans, configuration, len(channels), root / "plans.json"),
        ),
        channels=channels,
        columns=columns,
        metadata={
            "made from": f"nnU-Net v2, {root.name}, fold {fold}, {checkpoint} checkpoint",
            "volumes per step": int(configuration.get("batch_size", 2)),
        },
    )


def plan_of(model: Model) -> str:
    """The plan that further tasks are trained by, so that images and backbone stay what they were.

    Args:
        model: from `read_nnunet`.
    """
    volumes = model.metadata["volumes per step"]
    reasons = {key: ["nnU-Net's."] for key in ("spacing_mm", "patch", "normalization", "backbone")}
    reasons["batch_size"] = [f"Cases, of one frame or several; nnU-Net took {volumes} volumes per step."]
    plan = Plan(model.preparation, dict(model.backbone), max(2, volumes // 2), reasons)
    return plan_text_of_network(plan, model.channels, model.metadata["made from"])


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: is missing; name a folder such as nnUNet_results/Dataset027_ACDC/nnUNetTrainer__..."
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: is no JSON object")
    return found


def _configuration(plans: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """The named configuration with what it inherits."""
    known = plans.get("configurations", {})
    if name not in known:
        raise ConfigError(f"{path}: has no configuration {name!r} (the folder's name ends with it)")
    found = dict(known[name])
    parent = found.pop("inherits_from", None)
    if parent is not None:
        found = {**_configuration(plans, parent, path), **found}
    if len(found.get("patch_size", ())) != 3:
        raise ConfigError(f"{path}: configuration {name!r} is not 3D; medmtl takes 3d_fullres or 3d_lowres")
    return found


def _labels(dataset: Mapping[str, Any], path: Path) -> dict[str, int]:
    labels = dict(dataset.get("labels", {}))
    labels.pop("background", None)
    labels.pop("ignore", None)
    if any(isinstance(value, list) for value in labels.values()) or "regions_class_order" in dataset:
        raise ConfigError(
            f"{path}: trains overlapping regions, and medmtl's segmentation has one class per voxel"
        )
    ordered = dict(sorted(((str(n), int(v)) for n, v in labels.items()), key=lambda item: item[1]))
    if list(ordered.values()) != list(range(1, len(ordered) + 1)) or not ordered:
        raise ConfigError(f"{path}: labels are not 1, 2, ... without gaps: {labels}")
    return ordered


def _channels(dataset: Mapping[str, Any]) -> dict[str, str]:
    return dict(dataset.get("channel_names") or dataset.get("modality") or {"0": "image"})


def _axes(plans: Mapping[str, Any]) -> tuple[int, int, int]:
    """Which of nnU-Net's network axes each of our axes x, y, z is."""
    forward = [int(axis) for axis in plans.get("transpose_forward", (0, 1, 2))]
    x, y, z = (forward.index(axis) for axis in (2, 1, 0))
    return (x, y, z)


def _ours(values: Sequence[Any], order: Sequence[int]) -> tuple[Any, Any, Any]:
    x, y, z = (values[axis] for axis in order)
    return (x, y, z)


def _floats(values: tuple[Any, Any, Any]) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))


def _ints(values: tuple[Any, Any, Any]) -> tuple[int, int, int]:
    return (int(values[0]), int(values[1]), int(values[2]))


def _backbone(configuration: Mapping[str, Any], order: Sequence[int], path: Path) -> dict[str, Any]:
    architecture = configuration.get("architecture")
    if architecture is None:
        raise ConfigError(
            f"{path}: was written by an old nnU-Net without `architecture`; plan again with 2.4+"
        )
    name = str(architecture["network_class_name"]).rpartition(".")[2]
    arguments = architecture["arch_kwargs"]
    if name not in _NETWORKS:
        raise ConfigError(f"{path}: its network is {name}; medmtl continues {' and '.join(_NETWORKS)}")
    usual = {
        "conv_op": "Conv3d",
        "norm_op": "InstanceNorm3d",
        "nonlin": "LeakyReLU",
        "dropout_op": "None",
    }
    for key, wanted in usual.items():
        found = str(arguments.get(key)).rpartition(".")[2]
        if found != wanted:
            raise ConfigError(f"{path}: its network has {key} = {found}; medmtl continues {wanted} only")
    if not arguments.get("conv_bias") or arguments.get("nonlin_first"):
        raise ConfigError(f"{path}: its convolutions are not those of nnU-Net's default plans")
    stages = int(arguments["n_stages"])
    blocks = arguments.get("n_blocks_per_stage") or arguments.get("n_conv_per_stage")

    def per_stage(values: Any, n: int) -> list[int]:
        return [int(v) for v in ([values] * n if isinstance(values, int) else values)]

    def triples(values: Sequence[Any]) -> list[list[int]]:
        return [list(_ints(_ours([v] * 3 if isinstance(v, int) else v, order))) for v in values]

    return {
        "type": "nnunet",
        "widths": per_stage(arguments["features_per_stage"], stages),
        "kernels": triples(arguments["kernel_sizes"]),
        "strides": triples(arguments["strides"]),
        "encoder": _NETWORKS[name],
        "encoder_blocks": per_stage(blocks, stages),
        "decoder_convolutions": per_stage(arguments["n_conv_per_stage_decoder"], stages - 1),
    }


def _normalizations(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], channels: int, path: Path
) -> Normalizations:
    """One entry per channel, or a single one where all are the same."""
    schemes = [str(scheme) for scheme in configuration.get("normalization_schemes", ())]
    if len(schemes) != channels:
        raise ConfigError(f"{path}: has {len(schemes)} normalization_schemes for {channels} channels")
    measured = plans.get("foreground_intensity_properties_per_channel", {})
    found = [_normalization(scheme, measured.get(str(i), {}), path) for i, scheme in enumerate(schemes)]
    return tuple(found if len(set(found)) > 1 else found[:1])


def _normalization(scheme: str, measured: Mapping[str, Any], path: Path) -> Normalization:
    """nnU-Net's CTNormalization is our window; its constants are in the plans."""
    if scheme in _NORMALIZATIONS:
        return Normalization(_NORMALIZATIONS[scheme])
    if scheme != "CTNormalization":
        raise ConfigError(
            f"{path}: normalizes by {scheme}; medmtl takes over CTNormalization, "
            f"{' and '.join(_NORMALIZATIONS)}"
        )
    keys = {"low": "percentile_00_5", "high": "percentile_99_5", "mean": "mean", "sd": "std"}
    missing = [key for key in keys.values() if key not in measured]
    if missing:
        raise ConfigError(
            f"{path}: foreground_intensity_properties_per_channel has no {missing[0]}, which "
            "CTNormalization needs"
        )
    entry = {"type": "window", **{ours: float(measured[theirs]) for ours, theirs in keys.items()}}
    parsed = parse_normalization([entry], where=f"{path}: foreground_intensity_properties_per_channel")
    assert parsed is not None, "a list is no auto"
    return parsed[0]


def _weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"{path}: is missing; name another fold or checkpoint")
    found = load_numbers(path, harmless=_HARMLESS)
    weights = found.get("network_weights") if isinstance(found, Mapping) else None
    if not isinstance(weights, Mapping):
        raise ConfigError(f"{path}: has no network_weights; name a checkpoint of nnU-Net")
    return {str(name).removeprefix("module."): tensor for name, tensor in weights.items()}


def _renamed(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], order: Sequence[int], path: Path
) -> dict[str, Tensor]:
    """nnU-Net's tensors under medmtl's names, kernels transposed to (x, y, z)."""
    levels = len({name.split(".")[2] for name in found if name.startswith("decoder.seg_layers.")})
    result: dict[str, Tensor] = {}
    for name in wanted:
        source = _their_name(name, levels, found)
        if source is None or source not in found:
            raise ConfigError(f"{path}: has no {source or name}; is it of these plans?")
        tensor = found[source]
        if tensor.ndim == 5:
            tensor = tensor.permute(0, 1, *(2 + axis for axis in order))
        if tensor.shape != wanted[name].shape:
            raise ConfigError(
                f"{path}: {source} is {tuple(tensor.shape)}, "
                f"and the plans make it {tuple(wanted[name].shape)}"
            )
        result[name] = tensor.contiguous()
    return result


def _their_name(name: str, levels: int, found: Mapping[str, Tensor]) -> str | None:
    """Where nnU-Net keeps one of medmtl's tensors."""
    parts = name.split(".")
    if parts[0] == "heads":  # heads.anatomy.projections.LEVEL.weight, finest first
        return f"decoder.seg_layers.{levels - 1 - int(parts[3])}.{parts[4]}"
    part, rest = parts[1], parts[2:]
    if part == "stem":
        return f"encoder.stem.convs.0.{'.'.join(rest)}"
    if part == "up":
        return f"decoder.transpconvs.{'.'.join(rest)}"
    if part == "merge":
        return f"decoder.stages.{rest[0]}.convs.{'.'.join(rest[1:])}"
    assert part == "stages", name
    stage, block, *inner = rest
    if inner[0] in ("conv", "norm"):
        return f"encoder.stages.{stage}.0.convs.{block}.{'.'.join(inner)}"
    if inner[0] == "project":  # behind the pooling, where there is one
        prefix = f"encoder.stages.{stage}.blocks.{block}.skip"
        own = ".".join(inner[1:])
        return next((f"{prefix}.{i}.{own}" for i in (0, 1) if f"{prefix}.{i}.{own}" in found), None)
    return f"encoder.stages.{stage}.blocks.{block}.{'.'.join(inner)}"
