"""Ways to take a training step on one network: medmtl's with each method, K backward passes, TorchJD's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch

from medmtl.data.columns import Column
from medmtl.engine import train_step
from medmtl.engine.comparison import reached_parameters
from medmtl.models import Features, MultiTaskNetwork
from medmtl.tasks import Task, build_network, build_task, task_losses
from medmtl.types import Batch
from medmtl.weighting import Gradients, Weighting, build_weighting

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"widths": [4, 8], "shape": (16, 16, 4), "cases": 2},
    "small": {"widths": [16, 32, 64], "shape": (48, 48, 8), "cases": 2},
    "acdc": {"widths": [32, 64, 128, 256, 256], "shape": (128, 128, 16), "cases": 4},
    # What `medmtl plan` makes of ACDC for a GPU of 8 GiB (results/plan.json).
    "plan": {"widths": [32, 64, 128, 256, 320, 320], "shape": (224, 224, 18), "cases": 2, "flat": 3},
}
COLUMNS = {
    "anatomy": Column("anatomy", "mask", labels={"RV": 1, "MYO": 2, "LV": 3}),
    "t1": Column("t1", "map", unit="ms"),
    "ecv": Column("ecv", "map", unit="%"),
    "disease": Column("disease", "category", classes=("NOR", "DCM", "HCM")),
    "LV_EF": Column("LV_EF", "value", unit="%"),
}
SECTIONS = {
    "anatomy": {"type": "segmentation", "target": "anatomy", "deep_supervision": 2},
    "t1": {"type": "dense_regression", "target": "t1"},
    "ecv": {"type": "dense_regression", "target": "ecv"},
    "disease": {"type": "classification", "target": "disease"},
    "function": {"type": "regression", "targets": ["LV_EF"]},
}
ONE_DENSE = ("anatomy", "disease", "function")
THREE_DENSE = ("anatomy", "t1", "ecv")
LOSS_BASED = (
    "ew", "balanced", "uw-o", "uw-so", "uw", "uw-revised", "imtl-l", "gls", "dwa", "rlw", "scalarization",
    "handcrafted", "dynamic-scaling", "weight-learning",
)  # fmt: skip
NEEDED: Mapping[str, Callable[[tuple[str, ...]], dict[str, Any]]] = {
    "uw-so": lambda _: {"temperature": 20.0},
    "scalarization": lambda tasks: {"weights": dict.fromkeys(tasks, 1 / len(tasks))},
    "handcrafted": lambda tasks: {"reference": tasks[0]},
    "dynamic-scaling": lambda tasks: {"reference": tasks[0]},
}
METHODS = ("gradnorm", "mgda", "pcgrad", "cagrad", "imtl-g", "aligned-mtl", "nash-mtl", "upgrad")
Step = Callable[[], None]


@dataclass
class Bench:
    """A network, a batch, and how to step.

    Attributes:
        network: on the device.
        tasks: by name.
        batch: on the device.
        autocast: mixed precision, or None.
    """

    network: MultiTaskNetwork
    tasks: Mapping[str, Task]
    batch: Batch
    autocast: torch.dtype | None

    def losses(self, pyramid: list[torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """Of every task; the pyramid is kept in the list."""
        b = self.batch
        device = b.image.device.type

        def keep(features: Features) -> Features:
            if pyramid is None:
                return features
            # Clones: a level feeds the next one, and a library that stops at one must not cut off the other.
            pyramid.extend(level.clone() for level in features.pyramid)
            return replace(features, pyramid=pyramid)

        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            outputs = self.network(b.image, b.case_of_frame, b.spacing_mm, b.covariates, cut=keep)
        return task_losses(self.tasks, outputs, b)[0]


def make_bench(names: Sequence[str], decoders: str, size: str, device: torch.device, compiled: bool) -> Bench:
    """The network and a batch of noise in which everything is labelled; its content does not matter."""
    how = SIZES[size]
    levels, flat = len(how["widths"]), how.get("flat", 1)
    backbone = {
        "type": "unet", "widths": how["widths"], "decoders": decoders,
        "kernels": [*[[3, 3, 1]] * flat, *[[3, 3, 3]] * (levels - flat)],
        "strides": [[1, 1, 1], *[[2, 2, 1]] * (levels - 1)],
    }  # fmt: skip
    tasks = {name: build_task(name, SECTIONS[name], COLUMNS) for name in names}
    network = build_network(backbone, tasks, in_channels=1).to(device).train()
    if compiled:
        network.compile_trunk(tasks_apart=True)
    cases, shape = how["cases"], how["shape"]
    frames = 2 * cases
    torch.manual_seed(0)
    targets = {
        "anatomy": torch.randint(0, 4, (frames, *shape)),
        "t1": torch.randn(frames, *shape),
        "ecv": torch.randn(frames, *shape),
        "disease": torch.arange(cases) % 3,
        "LV_EF": torch.randn(cases),
    }
    counts = {name: len(target) for name, target in targets.items()}
    batch = Batch(
        image=torch.randn(frames, 1, *shape).to(device),
        case_of_frame=torch.arange(cases).repeat_interleave(2).to(device),
        spacing_mm=torch.full((cases, 3), 1.5).to(device),
        covariates=torch.empty(cases, 0).to(device),
        targets={name: target.to(device) for name, target in targets.items()},
        counts=counts,
    )
    return Bench(network, tasks, batch, torch.bfloat16 if device.type == "cuda" else None)


def optimizer_of(bench: Bench, weighting: Weighting | None = None) -> torch.optim.Optimizer:
    """As training has it."""
    parameters = [*bench.network.parameters(), *([] if weighting is None else weighting.parameters())]
    return torch.optim.AdamW(parameters, lr=1e-5, fused=bench.batch.image.device.type == "cuda")


def stepper(bench: Bench, method: str, *, compare_every: int = 0, **options: Any) -> Step:
    """medmtl's step with a method."""
    given = options or NEEDED.get(method, lambda _: {})(tuple(bench.tasks))
    weighting = build_weighting(method, tuple(bench.tasks), **given).to(bench.batch.image.device)
    optimizer = optimizer_of(bench, weighting)
    steps = count()

    def step() -> None:
        train_step(
            bench.network,
            bench.batch,
            bench.tasks,
            weighting,
            optimizer,
            autocast=bench.autocast,
            max_gradient_norm=5.0,
            compare=compare_every > 0 and next(steps) % compare_every == 0,
        )

    return step


def k_backwards(bench: Bench, method: str = "pcgrad") -> Step:
    """The ordinary way: every task's backward through the whole network."""
    weighting: Any = build_weighting(method, tuple(bench.tasks)).to(bench.batch.image.device)
    optimizer = optimizer_of(bench)
    parameters = list(bench.network.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        pyramid: list[torch.Tensor] = []
        losses = bench.losses(pyramid)
        shared = {id(p) for p in reached_parameters(pyramid)}
        found = {
            name: torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            for name, loss in losses.items()
        }
        rows = {
            name: [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(parameters, gs, strict=True)
                if id(p) in shared
            ]
            for name, gs in found.items()
        }
        weighting(losses, gradients=Gradients.of(rows))
        for i, parameter in enumerate(parameters):
            factor = weighting.weights if id(parameter) in shared else dict.fromkeys(losses, 1.0)
            parts = [found[name][i] * factor[name] for name in losses if found[name][i] is not None]
            parameter.grad = torch.stack(parts).sum(0) if parts else None
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()

    return step


def torchjd_way(bench: Bench) -> Step:
    """TorchJD's `mtl_backward` from the pyramid with PCGrad."""
    from torchjd.aggregation import PCGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    optimizer = optimizer_of(bench)
    aggregator = PCGrad()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        pyramid: list[torch.Tensor] = []
        losses = list(bench.losses(pyramid).values())
        shared = reached_parameters(pyramid)
        mtl_backward(losses, pyramid, parallel_chunk_size=1)
        jac_to_grad(shared, aggregator)
        torch.nn.utils.clip_grad_norm_(bench.network.parameters(), 5.0)
        optimizer.step()

    return step
