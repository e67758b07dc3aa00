"""Kills a training at random moments, resumes it, and compares it with one that never stopped.

python benchmarks/resume.py [KILLS]      # 20 by default, and a quarter from the disk and on two ranks each;
                                         # writes benchmarks/results/resume.json
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from record import write_result

from medmtl.data import ingest
from medmtl.data.phantom import generate_cohort

CONFIG = {
    "seed": 0,
    "device": "cpu",
    "preparation": {"spacing_mm": [4.0, 4.0, None], "patch": [32, 32, 8]},
    "backbone": {"type": "unet", "widths": [4, 8, 16], "residual": True},
    "tasks": {
        "anatomy": {"type": "segmentation", "target": "anatomy"},
        "disease": {"type": "classification", "target": "disease"},
        "function": {"type": "regression", "targets": ["LV_EF"]},
    },
    "weighting": {"type": "balanced"},
    "training": {"epochs": 30, "steps_per_epoch": 4, "batch_size": 2, "threads": 1, "patience": 25},
}


KINDS: dict[str, tuple[list[str], list[str]]] = {
    "cases in memory": ([], []),
    "cases on the disk": ([], ["training.store=disk"]),
    "two ranks": (["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"], []),
}
"""What is put before ``-m medmtl``, and overrides, by the kind of training."""


def command(kind: str, config: Path, output: Path) -> list[str]:
    launch, overrides = KINDS[kind]
    train = ["-m", "medmtl", "train", str(config), *overrides, "-o", str(output), "--resume", "auto"]
    return [sys.executable, *launch, *train]


def digest(folder: Path) -> str:
    """Of the weights and of the loss of every step: the whole course, not only its end."""
    model, steps = folder / "model" / "model.safetensors", folder / "weights.csv"
    return hashlib.sha256(model.read_bytes() + steps.read_bytes()).hexdigest()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in path.read_text().split()]
    return found


def kill(process: subprocess.Popen[bytes]) -> None:
    """All of its processes at once, as when a machine fails."""
    for pid in family(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def step_of(output: Path) -> int:
    steps = output / "weights.csv"
    return max(0, len(steps.read_text().splitlines()) - 1) if steps.is_file() else 0


def measure(kind: str, wanted: int, config: Path, folder: Path) -> dict[str, Any]:
    """Trainings that are killed at random moments, one after another, until so many kills have been made.

    After each start some steps are trained before it is killed again, but for every fourth time.
    """
    draw = random.Random(0)
    began = time.perf_counter()
    subprocess.run(command(kind, config, folder / "whole"), check=True, capture_output=True)
    alone = time.perf_counter() - began
    training = 0.5 * (time.time() - (folder / "whole" / "config.yaml").stat().st_mtime)
    expected = digest(folder / "whole")
    moments: list[str] = []
    runs = same = 0
    while len(moments) < wanted:
        output = folder / f"run{runs}"
        while not (output / "model" / "model.yaml").is_file():
            process = subprocess.Popen(
                command(kind, config, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            before, at_once = step_of(output), len(moments) % 4 == 3  # every fourth maybe while it starts
            if len(moments) < wanted and not at_once:
                while process.poll() is None and step_of(output) <= before:
                    time.sleep(0.02)
            try:
                process.wait(
                    draw.uniform(0, alone if at_once else training) if len(moments) < wanted else None
                )
            except subprocess.TimeoutExpired:
                kill(process)
                moments.append(f"run {runs}, about step {step_of(output)}")
                print(kind, len(moments), moments[-1], flush=True)
            else:
                if process.returncode:
                    raise SystemExit(f"{kind}, run {runs}: ended with {process.returncode}")
        runs += 1
        same += digest(output) == expected
        print(f"run {runs - 1}: {'the same' if digest(output) == expected else 'DIFFERENT'}", flush=True)
        shutil.rmtree(output)
    return {
        "kills": len(moments),
        "runs that were killed and went on": runs,
        "runs that ended bit for bit like the one that never stopped (weights and weights.csv)": same,
        "moments": moments,
    }


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    found: dict[str, Any] = {"steps of a run": 120, "weighting": "balanced", "device": "cpu"}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        ingest(generate_cohort(root / "phantoms", cases=10, seed=0), root / "dataset")
        config = root / "config.yaml"
        config.write_text(yaml.safe_dump({**CONFIG, "dataset": str(root / "dataset")}))
        for number, kind in enumerate(KINDS):
            folder = root / f"kind{number}"
            folder.mkdir()
            found[kind] = measure(kind, wanted if number == 0 else max(1, wanted // 4), config, folder)
            print(write_result("resume", f"python benchmarks/resume.py {wanted}", found))


if __name__ == "__main__":
    main()
