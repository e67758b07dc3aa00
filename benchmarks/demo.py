"""Runs the demo as a user does; writes what it took and reached beside what it is meant to reach.

python benchmarks/demo.py [SEED ...]     # writes benchmarks/results/demo.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import write_result

WANTED = {
    "minutes": ("at most", 5.0),
    "mean Dice": ("at least", 0.85),
    "EF from masks, MAE points": ("at most", 5.0),
    "EF from the head, MAE points": ("at most", 7.0),
    "disease, balanced accuracy": ("at least", 0.7),
}


def run_demo(seed: int) -> dict[str, Any]:
    """One demo in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "demo"
        began = time.perf_counter()
        command = [sys.executable, "-m", "medmtl", "demo", "-o", str(output), "--seed", str(seed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        minutes = (time.perf_counter() - began) / 60
        metrics = json.loads((output / "evaluation" / "metrics.json").read_text())
        environment = json.loads((output / "run" / "environment.json").read_text())
    found = {
        "minutes": minutes,
        "mean Dice": metrics["anatomy"]["dice"]["value"],
        "EF from masks, MAE points": metrics["anatomy"]["mae.LV_EF"]["value"],
        "EF from the head, MAE points": metrics["function"]["mae.LV_EF"]["value"],
        "disease, balanced accuracy": metrics["disease"]["balanced_accuracy"]["value"],
        "scar Dice": metrics["tissue"]["dice.scar"]["value"],
    }
    rounded = {name: None if value is None else round(value, 3) for name, value in found.items()}
    return {"seed": seed, **rounded, "threads": environment["threads"]}


def main() -> None:
    seeds = [int(argument) for argument in sys.argv[1:]] or [0]
    runs = []
    for seed in seeds:
        runs.append(run_demo(seed))
        print(json.dumps(runs[-1]))
    wanted = {name: f"{how} {limit}" for name, (how, limit) in WANTED.items()}
    command = f"python benchmarks/demo.py {' '.join(map(str, seeds))}"
    print(write_result("demo", command, {"wanted": wanted, "runs": runs}))


if __name__ == "__main__":
    main()
