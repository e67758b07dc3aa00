"""One GPU and two: the same losses, and how long a step takes. On a machine without GPUs: two CPU ranks.

python benchmarks/ranks.py [--ranks 2] [--steps 20] [--device auto] [--limit-s 170]

Writes results/ranks-DEVICE.json, and again after each part: what was found stays if a later part runs into
--limit-s, or somebody stops it. The comparison of losses comes first.

Every process is started as a user would, `python` for one rank and `torchrun` for several; the backend is
chosen by medmtl. Losses are those of all ranks together in float32 without TF32, on the same cases. Times are
of one batch in mixed precision, dealt to the ranks. At last `torchrun -m medmtl train` runs as it is.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from record import ROOT, write_result

SEED = 0
EXACT: dict[str, Any] = {"widths": [8, 16, 32], "batch": 4}
FAST: dict[str, dict[str, Any]] = {
    "cuda": {"widths": [64, 128, 256, 320], "shape": (128, 128, 32), "batch": 8, "repeats": 20},
    "cpu": {"widths": [8, 16, 32], "shape": (32, 32, 8), "batch": 4, "repeats": 5},
}


def config_of(dataset: str, device: str, steps: int) -> dict[str, Any]:
    return {
        "seed": SEED,
        "dataset": dataset,
        "device": device,
        "preparation": {"spacing_mm": [5.0, 5.0, None], "patch": [32, 32, 8]},
        "backbone": {"type": "unet", "widths": EXACT["widths"]},
        "tasks": {
            "anatomy": {"type": "segmentation", "target": "anatomy"},
            "disease": {"type": "classification", "target": "disease"},
            "function": {"type": "regression", "targets": ["LV_EDV", "LV_EF"]},
        },
        "training": {
            "epochs": 1, "steps_per_epoch": steps, "batch_size": EXACT["batch"], "precision": "float32",
            "learning_rate": 1e-3, "warmup_steps": 5, "threads": 1,
        },
    }  # fmt: skip


def work(asked: dict[str, Any]) -> None:
    """On each rank: some training steps, then the same step many times; rank 0 says how it was."""
    import torch
    import torch.distributed as dist

    from medmtl.engine.launch import device_of_rank, process_group
    from medmtl.engine.ranks import leads, world_size

    torch.set_num_threads(1)
    with process_group(asked["device"]):
        device = device_of_rank(asked["device"])
        found: dict[str, Any] = {
            "ranks": world_size(),
            "backend": dist.get_backend() if dist.is_initialized() else "none",
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        }
        for what, measure in (
            ("losses", lambda: exact_losses(asked, device)),
            ("ms per step", lambda: step_times(device)),
        ):
            began = time.perf_counter()
            found[what] = measure()
            found[f"seconds for {what}"] = round(time.perf_counter() - began, 1)
            if leads():
                Path(asked["answer"]).write_text(json.dumps(found))


def exact_losses(asked: dict[str, Any], device: Any) -> list[dict[str, float]]:
    """Losses of real steps on real samples, step by step."""
    import torch

    from medmtl.config import job_of, parse_config
    from medmtl.data import open_dataset
    from medmtl.data.batch import TrainingBatches, to_device
    from medmtl.engine import train_step
    from medmtl.engine.exchange import share_weights
    from medmtl.engine.ranks import rank, world_size
    from medmtl.engine.setup import set_up
    from medmtl.weighting import build_weighting

    config = parse_config(config_of(asked["dataset"], asked["device"], asked["steps"]))
    dataset = open_dataset(Path(asked["dataset"]))
    ready = set_up(job_of(config, dataset, Path(asked["answer"]).parent / "unused"), device)
    network, tasks = ready.model.network.train(), ready.model.tasks
    share_weights(network)
    weighting = build_weighting("balanced", tuple(tasks)).to(device)
    # Not AdamW: it makes whole steps of the rounding in gradients that are near 0.
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    batches = TrainingBatches(
        ready.train, ready.label_columns, ready.plan.preparation.patch, batch_size=EXACT["batch"], seed=SEED,
        part=(rank(), world_size()),
    )  # fmt: skip
    losses = []
    for step in range(asked["steps"]):
        output = train_step(network, to_device(batches.batch(step), device), tasks, weighting, optimizer)
        losses.append({name: float(loss) for name, loss in output.losses.items()})
    return losses


def step_times(device: Any) -> float:
    """Median milliseconds of a step on a batch that is dealt to the ranks."""
    import torch

    from medmtl.data.columns import Column
    from medmtl.engine import train_step
    from medmtl.engine.ranks import world_size
    from medmtl.tasks import build_network, build_task
    from medmtl.types import Batch
    from medmtl.weighting import build_weighting

    how = FAST[device.type]
    levels = len(how["widths"])
    backbone = {
        "type": "unet", "widths": how["widths"], "kernels": [[3, 3, 3]] * levels,
        "strides": [[1, 1, 1], *[[2, 2, 1]] * (levels - 1)],
    }  # fmt: skip
    columns = {
        "anatomy": Column("anatomy", "mask", labels={"RV": 1, "MYO": 2, "LV": 3}),
        "disease": Column("disease", "category", classes=("a", "b")),
    }
    sections = {
        "anatomy": {"type": "segmentation", "target": "anatomy"},
        "disease": {"type": "classification", "target": "disease"},
    }
    tasks = {name: build_task(name, section, columns) for name, section in sections.items()}
    network = build_network(backbone, tasks, in_channels=1, seed=SEED).to(device).train()
    n = how["batch"] // world_size()
    batch = Batch(
        image=torch.randn(n, 1, *how["shape"], device=device),
        case_of_frame=torch.arange(n, device=device),
        spacing_mm=torch.ones(n, 3, device=device),
        covariates=torch.empty(n, 0, device=device),
        targets={
            "anatomy": torch.randint(0, 4, (n, *how["shape"]), device=device),
            "disease": torch.arange(n, device=device) % 2,
        },
        counts={"anatomy": n, "disease": n},
    )
    weighting = build_weighting("balanced", tuple(tasks)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=device.type == "cuda")
    autocast = torch.bfloat16 if device.type == "cuda" else None
    taken = []
    for _ in range(how["repeats"] + 3):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        train_step(network, batch, tasks, weighting, optimizer, autocast=autocast)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(1e3 * (time.perf_counter() - began))
    return round(median(taken[3:]), 2)


def launch(ranks: int, arguments: list[str], limit_s: float) -> float | None:
    """Run Python with arguments on so many ranks; returns seconds, or None where they took too long."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *(several if ranks > 1 else []), *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            _, errors = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # torchrun ends its ranks then
            return None
    if process.returncode:
        raise RuntimeError(f"{ranks} ranks: {errors[-3000:]}")
    return time.perf_counter() - began


def largest_difference(one: list[dict[str, float]], other: list[dict[str, float]]) -> list[float]:
    """Of every step, the largest relative difference of a task's loss."""
    return [
        max(abs(a[task] - b[task]) / max(abs(a[task]), 1e-6) for task in a)
        for a, b in zip(one, other, strict=True)
    ]


def compared(one: list[dict[str, float]], other: list[dict[str, float]], tolerance: float) -> dict[str, Any]:
    """How far the losses of one rank and of several lie apart."""
    apart = largest_difference(one, other)
    return {
        "first step": apart[0],
        "first ten steps, largest": max(apart[:10]),
        "all steps, largest": max(apart),
        "tolerance of the first ten": tolerance,
        "within": max(apart[:10]) <= tolerance,
    }


def measure(
    root: Path, asked: argparse.Namespace, measured: dict[str, Any], save: Callable[[], None]
) -> None:
    """Losses and times of one rank and of several, then a whole training; saved after each."""
    from medmtl.data import ingest
    from medmtl.data.phantom import generate_cohort

    splits = {"train": 0.8, "val": 0.2}
    generate_cohort(root / "raw", cases=10, frames=2, shape=(40, 40, 10), spacing_mm=(4.0, 4.0, 9.0),
                    splits=splits, workers=4)  # fmt: skip
    ingest(root / "raw", root / "dataset", format="phantom")
    found: list[dict[str, Any]] = []
    for ranks in (1, asked.ranks):
        answer = root / f"{ranks}.json"
        order = {
            "device": asked.device, "dataset": str(root / "dataset"), "steps": asked.steps,
            "answer": str(answer),
        }  # fmt: skip
        seconds = launch(ranks, [__file__, "--work", json.dumps(order)], asked.limit_s)
        run = json.loads(answer.read_text()) if answer.is_file() else {}
        found.append(run)
        measured["runs"][str(ranks)] = {
            **{key: value for key, value in run.items() if key != "losses"},
            "losses, last step": run.get("losses", [None])[-1],
            "seconds with start": "out of time" if seconds is None else round(seconds, 1),
        }
        save()
    one, several = found
    if "losses" in one and "losses" in several:
        measured["relative difference of losses"] = compared(
            one["losses"], several["losses"], asked.tolerance
        )
    if "ms per step" in one and "ms per step" in several:
        measured["times faster"] = round(one["ms per step"] / several["ms per step"], 2)
    save()
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump(config_of(str(root / "dataset"), asked.device, asked.steps)))
    trains = ["-m", "medmtl", "train", str(config), "-o", str(root / "run")]
    seconds = launch(asked.ranks, trains, asked.limit_s)
    if seconds is None:
        measured["torchrun -m medmtl train"] = "out of time"
    else:
        with (root / "run" / "weights.csv").open() as stream:
            steps = len(list(csv.DictReader(stream)))
        says = f"{asked.ranks} ranks" in (root / "run" / "log.txt").read_text()
        measured["torchrun -m medmtl train"] = {"steps": steps, "seconds": round(seconds, 1), "says": says}
    save()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of the first ten steps' losses")
    parser.add_argument("--limit-s", type=float, default=170.0, help="seconds of each of the three parts")
    asked = parser.parse_args()
    if asked.work:
        work(json.loads(asked.work))
        return
    measured: dict[str, Any] = {"settings": {"exact": EXACT}, "runs": {}}
    flags = f"--ranks {asked.ranks} --steps {asked.steps} --device {asked.device}"

    def save() -> None:
        devices = [run["device"] for run in measured["runs"].values() if "device" in run]
        kind = "cpu" if devices[:1] == ["CPU"] else "cuda"
        measured["settings"]["timed"] = FAST[kind]
        path = write_result(f"ranks-{kind}", f"python benchmarks/ranks.py {flags}", measured)
        print(path, json.dumps(measured), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), asked, measured, save)
    print(json.dumps(measured, indent=2))
    if not measured.get("relative difference of losses", {}).get("within", False):
        sys.exit(1)


if __name__ == "__main__":
    main()
