"""Kills a training at random moments, resumes it, and compares it with one that never stopped.

python benchmarks/resume.py [KILLS]      # 20 by default; writes benchmarks/results/resume.json
"""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def command(config: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "medmtl", "train", str(config), "-o", str(output), "--resume", "auto"]


def digest(folder: Path) -> str:
    """Of the weights and of the loss of every step: the whole course, not only its end."""
    model, steps = folder / "model" / "model.safetensors", folder / "weights.csv"
    return hashlib.sha256(model.read_bytes() + steps.read_bytes()).hexdigest()


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        ingest(generate_cohort(root / "phantoms", cases=10, seed=0), root / "dataset")
        config = root / "config.yaml"
        config.write_text(yaml.safe_dump({**CONFIG, "dataset": str(root / "dataset")}))
        began = time.perf_counter()
        subprocess.run(command(config, root / "whole"), check=True, capture_output=True)
        alone = time.perf_counter() - began
        expected = digest(root / "whole")
        moments: list[str] = []
        runs = same = 0
        while len(moments) < wanted:
            output = root / f"run{runs}"
            while not (output / "model" / "model.yaml").is_file():
                process = subprocess.Popen(
                    command(config, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                try:
                    process.wait(draw.uniform(0.3, 1.0) * alone if len(moments) < wanted else None)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    steps = output / "weights.csv"
                    done = len(steps.read_text().splitlines()) - 1 if steps.is_file() else 0
                    moments.append(f"run {runs}, about step {max(done, 0)}")
                    print(len(moments), moments[-1], flush=True)
            runs += 1
            same += digest(output) == expected
            print(f"run {runs - 1}: {'the same' if digest(output) == expected else 'DIFFERENT'}", flush=True)
            shutil.rmtree(output)
    print(
        write_result(
            "resume",
            f"python benchmarks/resume.py {wanted}",
            {
                "kills": len(moments),
                "runs that were killed and went on": runs,
                "runs that ended bit for bit like the one that never stopped (weights and weights.csv)": same,
                "moments": moments,
                "steps of a run": 120,
            },
        )
    )


if __name__ == "__main__":
    main()
