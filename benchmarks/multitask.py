"""Does learning more tasks harm segmentation, and does it help where few masks are drawn?

python benchmarks/multitask.py [--device cuda] [--parallel 8] [--seeds 5] [--steps N] [--arms N ...]
                               [--dataset DIR]

Trainings per seed, of as many steps on as many cases each: four tasks or segmentation alone, with all
masks or with those of 20 % of the training cases and all diagnoses. Segmentation alone with few masks learns
from the cases that have one, as it has nothing to learn from the others, and so meets each mask more often
than many tasks do; a fifth training shows cases with masks more often (``sampling: labels``). A sixth is of
four tasks, of which the two that draw maps have a light decoder each; in a seventh the anatomy comes first,
too: tissue's share is cut to three tenths, the others' to one. An eighth has equal weights. All are tested on
the same cases. Differences are paired by case and seed; their interval is a bootstrap over both. Without
``--dataset`` the cases are phantoms; a dataset of another origin (an ingested ACDC) needs the columns
``anatomy`` and ``disease``.
Writes benchmarks/results/multitask.json; some of the arms write multitask-arms-N-N.json, and -NAME is added
for a dataset.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from record import write_result

FEW = 0.2
"""Share of the training cases whose masks are kept in the arms with few of them."""
ARMS = (
    "four tasks",
    "segmentation alone",
    "few masks, all diagnoses",
    "few masks alone",
    "few masks, all diagnoses, sampling: labels",
    "four tasks, a decoder each",
    "four tasks, a decoder each, anatomy first",
    "four tasks, equal weights",
)
PAIRS = (
    (ARMS[0], ARMS[1]),
    (ARMS[2], ARMS[3]),
    (ARMS[4], ARMS[3]),
    (ARMS[5], ARMS[1]),
    (ARMS[6], ARMS[1]),
    (ARMS[7], ARMS[1]),
)
SEPARATE = ARMS[5:7]
FIRST = {"type": "balanced", "importance": {"tissue": 0.3, "disease": 0.1, "function": 0.1}}
SPLITS = {"train": 0.5, "val": 0.1, "test": 0.4}
TASKS: dict[str, dict[str, Any]] = {
    "anatomy": {"type": "segmentation", "target": "anatomy"},
    "tissue": {"type": "tissue", "target": "tissue", "inside": "anatomy.MYO"},
    "disease": {"type": "classification", "target": "disease"},
    "function": {"type": "regression", "targets": ["LV_EDV", "LV_EF", "MYO_mass"]},
}
MASKS = ("anatomy", "tissue", "t1")


def tasks_of(arm: str, columns: Any) -> dict[str, dict[str, Any]]:
    """Tasks of an arm, of those that the dataset has labels for; few masks come with the diagnosis alone."""
    named = {
        ARMS[0]: ("anatomy", "tissue", "disease", "function"),
        ARMS[1]: ("anatomy",),
        ARMS[2]: ("anatomy", "tissue", "disease"),
        ARMS[3]: ("anatomy",),
        ARMS[4]: ("anatomy", "tissue", "disease"),
        ARMS[5]: ("anatomy", "tissue", "disease", "function"),
        ARMS[6]: ("anatomy", "tissue", "disease", "function"),
        ARMS[7]: ("anatomy", "tissue", "disease", "function"),
    }[arm]
    has = {"anatomy": "anatomy", "tissue": "tissue", "disease": "disease", "function": "LV_EF"}
    return {name: TASKS[name] for name in named if has[name] in columns}


def dataset_of(arm: str, root: Path, seed: int) -> Any:
    """The dataset as an arm may see it: the same 20 % of the masks in both arms with few."""
    from medmtl.data import open_dataset

    dataset = open_dataset(root)
    if arm in (ARMS[0], ARMS[1], *ARMS[5:]):
        return dataset
    train = [case.case_id for case in dataset.select("train")]
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
    kept = {train[i] for i in rng.permutation(len(train))[: max(1, round(FEW * len(train)))].tolist()}

    def seen(case: Any) -> Any:
        if case.split != "train" or case.case_id in kept:
            return case
        files = {name: path for name, path in case.files.items() if name not in MASKS}
        return replace(case, files=files, split="" if arm == ARMS[3] else "train")

    return replace(dataset, cases=tuple(seen(case) for case in dataset.cases))


def config_of(asked: dict[str, Any], tasks: dict[str, Any], own_grid: bool) -> Any:
    from medmtl.config import parse_config

    wide = {"spacing_mm": [1.5, 1.5, None], "patch": [128, 128, 16]}
    small = {"spacing_mm": [2.5, 2.5, None], "patch": [64, 64, 10]}
    return parse_config(
        {
            "seed": asked["seed"],
            "device": asked["device"],
            "preparation": small if own_grid else wide,
            "backbone": {
                "type": "unet",
                "widths": [32, 64, 128, 256],
                "residual": True,
                "decoders": "separate" if asked["arm"] in SEPARATE else "shared",
            },
            "tasks": tasks,
            "weighting": {ARMS[6]: FIRST, ARMS[7]: {"type": "ew"}}.get(asked["arm"], {"type": "balanced"}),
            "training": {
                "epochs": 4,
                "steps_per_epoch": -(-asked["steps"] // 4),
                "batch_size": 4,
                "learning_rate": 3e-3,
                "warmup_steps": 20,
                "ema": 0.99,
                "keep": "last",
                "sampling": asked["sampling"],
                "threads": asked["threads"],
            },
        }
    )


def run_one(asked: dict[str, Any]) -> dict[str, Any]:
    """Train one arm with one seed, and score every test case."""
    import torch
    from scores import score_split

    from medmtl.config import job_of
    from medmtl.engine import train

    torch.set_num_threads(asked["threads"])
    dataset = dataset_of(asked["arm"], Path(asked["dataset"]), asked["seed"])
    tasks = tasks_of(asked["arm"], dataset.columns)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(asked, tasks, asked["phantom"])
        run = train(job_of(config, dataset, Path(folder) / "run"))
        seconds = time.perf_counter() - began
        rows = score_split(run.model, dataset, "test", asked["device"])
    right = [row["disease.class"] == row["disease.truth"] for row in rows.values() if "disease.class" in row]
    return {
        "arm": asked["arm"],
        "seed": asked["seed"],
        "tasks": list(tasks),
        "training cases": len(dataset.select("train")),
        "with masks": sum("anatomy" in case.files for case in dataset.select("train")),
        "seconds": round(seconds, 1),
        "dice": {name: row["anatomy.dice"] for name, row in rows.items() if "anatomy.dice" in row},
        "diagnoses right": round(sum(right) / len(right), 3) if right else None,
    }


def in_a_process(asked: dict[str, Any]) -> dict[str, Any]:
    """`run_one` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(asked["threads"])}
    if asked["gpu"] is not None:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")  # of these, where somebody chose
        environment["CUDA_VISIBLE_DEVICES"] = seen[asked["gpu"]] if seen[0] else str(asked["gpu"])
    done = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(asked)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{asked['arm']}, seed {asked['seed']}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    dice = np.nanmean(list(found["dice"].values()))
    print(f"seed {found['seed']}, {found['arm']}: Dice {dice:.3f}, {found['seconds']} s", flush=True)
    return found


def compared(runs: list[dict[str, Any]], arm: str, alone: str) -> dict[str, Any]:
    """Mean Dice of two arms and their paired difference, with a bootstrap over seeds and cases."""
    seeds = sorted({run["seed"] for run in runs})
    by = {(run["arm"], run["seed"]): run["dice"] for run in runs}
    cases = sorted(by[arm, seeds[0]])
    one, other = (np.array([[by[a, s][c] for c in cases] for s in seeds]) for a in (arm, alone))
    difference = one - other
    rng = np.random.default_rng(0)
    draws = [
        np.nanmean(
            difference[rng.integers(0, len(seeds), len(seeds))][:, rng.integers(0, len(cases), len(cases))]
        )
        for _ in range(10_000)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return {
        "arms": [arm, alone],
        "mean Dice": [round(float(np.nanmean(one)), 4), round(float(np.nanmean(other)), 4)],
        "by seed": [[round(float(v), 4) for v in np.nanmean(values, axis=1)] for values in (one, other)],
        "difference": round(float(np.nanmean(difference)), 4),
        "95 %": [round(float(low), 4), round(float(high), 4)],
        "not below": bool(high >= 0),
        "above": bool(low > 0),
        "test cases": len(cases),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--gpus", type=int, default=0, help="deal trainings to so many GPUs; 0: the first")
    parser.add_argument("--parallel", type=int, default=1, help="trainings at a time")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each training")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--arms", type=int, nargs="+", default=list(range(len(ARMS))), help="these alone, from 0"
    )
    parser.add_argument("--cases", type=int, default=100, help="phantoms")
    parser.add_argument("--frames", type=int, default=6, help="of each phantom")
    parser.add_argument("--dataset", type=Path, help="an ingested dataset instead of phantoms")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_one(json.loads(asked.one))))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = asked.dataset
        if root is None:
            from medmtl.data import ingest
            from medmtl.data.phantom import generate_cohort

            raw, root = Path(folder) / "raw", Path(folder) / "dataset"
            workers = os.cpu_count() or 1
            generate_cohort(raw, cases=asked.cases, frames=asked.frames, splits=SPLITS, workers=workers)
            ingest(raw, root, format="phantom")
        common = {
            "dataset": str(root), "device": asked.device, "steps": asked.steps, "threads": asked.threads,
            "phantom": asked.dataset is None,
        }  # fmt: skip
        sampling = dict.fromkeys(ARMS, "uniform") | {ARMS[4]: "labels"}
        jobs = [
            {**common, "arm": arm, "sampling": sampling[arm], "seed": seed}
            for seed in range(asked.seeds)
            for arm in (ARMS[number] for number in sorted(set(asked.arms)))
        ]
        for number, job in enumerate(jobs):
            job["gpu"] = number % asked.gpus if asked.gpus else None
        began = time.perf_counter()
        with ThreadPoolExecutor(asked.parallel) as pool:
            runs = list(pool.map(in_a_process, jobs))
    flags = [f"--device {asked.device} --parallel {asked.parallel} --seeds {asked.seeds}"]
    flags += [
        f"--steps {asked.steps} --arms {' '.join(map(str, asked.arms))}",
        "" if asked.dataset is None else f"--dataset {asked.dataset.name}",
    ]
    measured = {
        "settings": {
            "cases": "phantoms, 64 x 64 x 10" if asked.dataset is None else asked.dataset.name,
            "steps": asked.steps,
            "cases per step": 4,
            "share of masks kept": FEW,
            "minutes in all": round((time.perf_counter() - began) / 60, 1),
        },
        "comparisons": [
            compared(runs, *pair) for pair in PAIRS if {ARMS.index(a) for a in pair} <= set(asked.arms)
        ],
        "runs": [{key: value for key, value in run.items() if key != "dice"} for run in runs],
    }
    some = "" if len(asked.arms) == len(ARMS) else f"-arms-{'-'.join(map(str, asked.arms))}"
    name = "multitask" + some + ("" if asked.dataset is None else f"-{asked.dataset.name}")
    print(write_result(name, f"python benchmarks/multitask.py {' '.join(flags).strip()}", measured))
    print(json.dumps(measured["comparisons"], indent=2))


if __name__ == "__main__":
    main()
