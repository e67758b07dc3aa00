"""Times a training step at the cut beside equal weights and beside the ordinary way, K whole backwards.

python benchmarks/cut.py [--device cuda] [--size small|acdc] [--compile]    # results/cut-DEVICE-SIZE.json

One dense task and two of cases, then three dense ones with one decoder and with a light one each. All
variants of one network take turns, step by step, so that a busy machine slows them all. "K backwards" runs
every task's backward through the whole network and keeps the gradients of all shared parameters, as LibMTL
does; TorchJD's own way is `mtl_backward` from the pyramid. "x" is against equal weights' joint backward.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from record import write_result

from medmtl.data.columns import Column
from medmtl.engine import train_step
from medmtl.engine.comparison import reached_parameters
from medmtl.models import Features, MultiTaskNetwork
from medmtl.tasks import Task, build_network, build_task, task_losses
from medmtl.types import Batch
from medmtl.weighting import Gradients, build_weighting

SIZES: dict[str, dict[str, Any]] = {
    "small": {"widths": [16, 32, 64], "shape": (48, 48, 8), "cases": 2},
    "acdc": {"widths": [32, 64, 128, 256, 256], "shape": (128, 128, 16), "cases": 4},
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
METHODS = ("gradnorm", "mgda", "pcgrad", "cagrad", "nash-mtl", "imtl-g", "aligned-mtl", "upgrad")


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
    levels = len(how["widths"])
    backbone = {
        "type": "unet", "widths": how["widths"], "decoders": decoders,
        "kernels": [[3, 3, 1], *[[3, 3, 3]] * (levels - 1)],
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


def stepper(bench: Bench, method: str, *, sketch: int = 0, **options: Any) -> Callable[[], None]:
    """medmtl's step with a method."""
    how = {"sketch": sketch} if sketch else {}
    weighting = build_weighting(method, tuple(bench.tasks), **how).to(bench.batch.image.device)
    optimizer = torch.optim.AdamW(bench.network.parameters(), lr=1e-5)

    def step() -> None:
        train_step(
            bench.network, bench.batch, bench.tasks, weighting, optimizer, autocast=bench.autocast, **options
        )

    return step


def k_backwards(bench: Bench, method: str = "pcgrad") -> Callable[[], None]:
    """The ordinary way: every task's backward through the whole network."""
    weighting: Any = build_weighting(method, tuple(bench.tasks))
    optimizer = torch.optim.AdamW(bench.network.parameters(), lr=1e-5)
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


def torchjd_way(bench: Bench) -> Callable[[], None]:
    """TorchJD's `mtl_backward` from the pyramid with PCGrad."""
    from torchjd.aggregation import PCGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    optimizer = torch.optim.AdamW(bench.network.parameters(), lr=1e-5)
    aggregator = PCGrad()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        pyramid: list[torch.Tensor] = []
        losses = list(bench.losses(pyramid).values())
        shared = reached_parameters(pyramid)
        mtl_backward(losses, pyramid, parallel_chunk_size=1)
        jac_to_grad(shared, aggregator)
        optimizer.step()

    return step


def timed(steps: Mapping[str, Callable[[], None]], device: torch.device, repeats: int) -> dict[str, Any]:
    """Median seconds of each, and peak memory on a GPU; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    peaks: dict[str, int] = {}
    for turn in range(repeats + 2):
        for name, step in steps.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
                peaks[name] = torch.cuda.max_memory_allocated()
            if turn >= 2:
                taken[name].append(time.perf_counter() - began)
    reference = next(iter(steps))
    result = {}
    for name, seconds in taken.items():
        ratios = [s / b for s, b in zip(seconds, taken[reference], strict=True)]
        result[name] = {"ms": round(1e3 * median(seconds), 2), "x": round(median(ratios), 3)}
        if name in peaks:
            result[name]["peak MiB"] = round(peaks[name] / 2**20)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=20)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for title, names, decoders in (
        ("one dense task, two of cases", ONE_DENSE, "shared"),
        ("three dense tasks, one decoder", THREE_DENSE, "shared"),
        ("three dense tasks, a light decoder each", THREE_DENSE, "separate"),
    ):
        bench = make_bench(names, decoders, asked.size, device, asked.compile)
        steps = {"ew": stepper(bench, "ew"), "ew, compared on every step": stepper(bench, "ew", compare=True)}
        steps |= {method: stepper(bench, method) for method in METHODS}
        steps |= {
            f"{method}, sketch 8": stepper(bench, method, sketch=8) for method in ("gradnorm", "cagrad")
        }
        steps["K backwards (pcgrad)"] = k_backwards(bench)
        try:
            torchjd = torchjd_way(bench)
            torchjd()
            steps["TorchJD mtl_backward (pcgrad)"] = torchjd
        except (ImportError, RuntimeError, ValueError) as error:
            found[f"{title}: TorchJD"] = str(error).splitlines()[0]
        found[title] = timed(steps, device, asked.repeats)
    name = f"cut-{device.type}-{asked.size}{'-compiled' if asked.compile else ''}"
    flags = f"--device {asked.device} --size {asked.size}{' --compile' if asked.compile else ''}"
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "one thread"
    settings = {
        "device": gpu,
        "repeats": asked.repeats,
        "network": SIZES[asked.size],
        "precision": "bfloat16" if device.type == "cuda" else "float32",
    }
    print(write_result(name, f"python benchmarks/cut.py {flags}", {"settings": settings, "steps": found}))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
