"""Does the view of the whole volume learn what no patch shows? CT and PET/CT phantoms, with it and without.

python benchmarks/two_views.py [--device cuda] [--size small|full] [--study ct petct] [--steps N] [--cases N]
                               [--minutes M] [--workers N]

Each study has a mask to segment in patches and a class that depends on something outside of any patch. The
same network is trained twice from the same seed: with ``view: global`` and with ``view: local``. The classes
are balanced, so chance is an AUROC of 0.5. Writes benchmarks/results/two-views-SIZE.json, of one study alone
two-views-SIZE-STUDY.json, after every step of the way. With --minutes, a study takes so long at most: both
views get the same share of it, and a training that is not done by then is left out and says how far it came.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import write_result
from scores import auroc, score_split

from medmtl.config import job_of, parse_config
from medmtl.data import ingest, open_dataset
from medmtl.data.phantom import generate_ct, generate_petct
from medmtl.engine import train
from medmtl.metrics import wilson_interval

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "shape": (96, 96, 48), "patch": [32, 32, 16], "widths": [8, 16, 32], "cases": 160, "steps": 240,
        "batch": 4,
    },
    "full": {
        "shape": (512, 512, 200), "patch": [128, 128, 64], "widths": [16, 32, 64, 128, 128], "cases": 48,
        "steps": 600, "batch": 4,
    },
}  # fmt: skip
STUDIES: dict[str, dict[str, Any]] = {
    "ct": {"make": generate_ct, "mask": "organs", "class": "effusion"},
    "petct": {"make": generate_petct, "mask": "lesions", "class": "bulk"},
}
SPLITS = {"train": 0.65, "val": 0.05, "test": 0.3}


def config_of(study: dict[str, Any], size: dict[str, Any], view: str, steps: int, device: str) -> Any:
    levels = len(size["widths"])
    preparation: dict[str, Any] = {"spacing_mm": [None, None, None], "patch": size["patch"]}
    return parse_config(
        {
            "device": device,
            "preparation": preparation,
            "backbone": {
                "type": "unet", "widths": size["widths"], "residual": False,
                "kernels": [[3, 3, 3]] * levels, "strides": [[1, 1, 1], *[[2, 2, 2]] * (levels - 1)],
            },
            "tasks": {
                "mask": {"type": "segmentation", "target": study["mask"], "batch_dice": True},
                "class": {"type": "classification", "target": study["class"], "masks": [], "view": view,
                          "label_smoothing": 0.0, "pooling": "mean"},
            },
            "training": {
                "epochs": 4, "steps_per_epoch": -(-steps // 4), "batch_size": size["batch"],
                "learning_rate": 3e-3, "warmup_steps": 30, "keep": "last", "ema": 0.98,
                "augmentation": {
                    "rotation_degrees": 10, "mirror": False, "zoom": 0.1, "shift_voxels": 2, "noise": 0.05,
                },
            },
        }
    )  # fmt: skip


class OutOfTimeError(Exception):
    """A training was not done in time."""


def one_run(
    root: Path, study: dict[str, Any], config: Any, view: str, device: str, until: float
) -> dict[str, Any]:
    """Train and test; the seconds are of training alone. A quarter of the time is kept for the test."""
    dataset = open_dataset(root / "dataset")
    began = time.perf_counter()
    last_step = began + 0.75 * (until - began)
    at = "plan"

    def watch(what: str, done: int, total: int) -> None:
        nonlocal at
        at = f"{what} {done} of {total}"
        if time.perf_counter() > last_step:
            raise OutOfTimeError

    try:
        run = train(job_of(config, dataset, root / view), progress=watch)
    except OutOfTimeError:
        return {"out of time at": at, "seconds": round(time.perf_counter() - began, 1)}
    seconds = time.perf_counter() - began
    rows = score_split(run.model, dataset, "test", device, until)
    found = {"training seconds": round(seconds, 1), "test cases": len(rows)}
    return {**found, **scores_of(rows, run.model, study)} if rows else found


def scores_of(rows: dict[str, dict[str, Any]], model: Any, study: dict[str, Any]) -> dict[str, Any]:
    """How well the class and the mask were said of the test cases."""
    classes = model.columns[study["class"]].classes
    right = [row["class.class"] == row["class.truth"] for row in rows.values()]
    area = auroc(rows, "class", classes)
    interval = wilson_interval(sum(right), len(right))
    return {
        "AUROC": round(float(area), 3),
        "AUROC, 95 %": [round(area.ci.low, 3), round(area.ci.high, 3)],
        "accuracy": round(sum(right) / len(right), 3),
        "accuracy, 95 %": [round(interval.low, 3), round(interval.high, 3)],
        "mean Dice": round(float(np.nanmean([row["mask.dice"] for row in rows.values()])), 3),
        "overview": model.preparation.overview,
    }


def one_study(name: str, asked: argparse.Namespace, found: dict[str, Any], save: Callable[[], Path]) -> None:
    """Draw the cases, then train and test with either view; ``found`` is saved whenever it grew."""
    study, size = STUDIES[name], SIZES[asked.size]
    make: Callable[..., Path] = study["make"]
    began = time.perf_counter()
    end = began + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root / "raw", cases=asked.cases, shape=size["shape"], splits=SPLITS, workers=asked.workers)
        drawn = time.perf_counter()
        found["seconds to draw"] = round(drawn - began, 1)
        ingest(root / "raw", root / "dataset", format="phantom")
        found["seconds to ingest"] = round(time.perf_counter() - drawn, 1)
        print(name, json.dumps(found), flush=True)
        save()
        for left, view in ((2, "global"), (1, "local")):
            now = time.perf_counter()
            config = config_of(study, size, view, asked.steps, asked.device)
            found[view] = one_run(root, study, config, view, asked.device, now + (end - now) / left)
            print(name, view, json.dumps(found[view]), flush=True)
            save()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--study", nargs="+", default=list(STUDIES), choices=STUDIES)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--minutes", type=float, default=math.inf, help="of each study, at most")
    parser.add_argument("--workers", type=int, default=4)
    asked = parser.parse_args()
    size = SIZES[asked.size]
    asked.steps, asked.cases = asked.steps or size["steps"], asked.cases or size["cases"]
    found: dict[str, Any] = {name: {} for name in asked.study}
    device = torch.cuda.get_device_name() if asked.device.startswith("cuda") else "CPU"
    settings = {
        **{key: value for key, value in size.items() if key not in ("cases", "steps")},
        "cases": asked.cases, "steps": asked.steps, "splits": SPLITS, "device": device,
    }  # fmt: skip
    command = f"python benchmarks/two_views.py --size {asked.size} --device {asked.device}"
    command += f" --study {' '.join(asked.study)} --steps {asked.steps} --cases {asked.cases}"
    command += "" if math.isinf(asked.minutes) else f" --minutes {asked.minutes:g}"
    names = ["two-views", asked.size, *([] if set(asked.study) == set(STUDIES) else asked.study)]

    def save() -> Path:
        return write_result("-".join(names), command, {"settings": settings, "studies": found})

    for name in asked.study:
        one_study(name, asked, found[name], save)
    print(save())


if __name__ == "__main__":
    main()
