"""Records what a training on ACDC reached, from its RUN and EVALUATION folders.

medmtl ingest ACDC/training -o DATASET
medmtl train configs/acdc.yaml dataset=DATASET -o RUN --device cuda
medmtl evaluate RUN DATASET -o EVALUATION
python benchmarks/acdc.py RUN EVALUATION ["a remark"]   # writes benchmarks/results/acdc*.{json,csv}
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from record import RESULTS, write_result

WANTED = {
    "mean Dice": "at least 0.90",
    "LV EF from masks, SD points": "at most 5",
    "minutes of training": "at most 20",
}


def number(metrics: dict[str, Any], task: str, name: str) -> dict[str, Any]:
    """A metric with its interval, rounded."""
    entry = metrics[task][name]
    return {
        key: round(entry[key], 4) if isinstance(entry[key], float) else entry[key]
        for key in ("value", "ci_low", "ci_high", "n", "unit")
    }


def main() -> None:
    run, evaluation, *remarks = sys.argv[1:]
    metrics = json.loads((Path(evaluation) / "metrics.json").read_text())
    environment = json.loads((Path(run) / "environment.json").read_text())
    with (Path(run) / "metrics.csv").open(newline="") as stream:
        epochs = list(csv.DictReader(stream))
    found = {
        "mean Dice": number(metrics, "anatomy", "dice"),
        **{
            f"Dice {s} {f}": number(metrics, "anatomy", f"dice.{s}.{f}")
            for s in ("LV", "MYO", "RV")
            for f in ("ED", "ES")
        },
        "LV EF from masks, SD points": number(metrics, "anatomy", "sd.LV_EF"),
        "LV EF from masks, bias points": number(metrics, "anatomy", "bias.LV_EF"),
        "LV EF from the head, SD points": number(metrics, "function", "sd.LV_EF"),
        "LV EDV from masks, SD mL": number(metrics, "anatomy", "sd.LV_EDV"),
        "disease, accuracy": number(metrics, "disease", "accuracy"),
    }
    measured = {
        "remarks": remarks,
        "trained on": environment,
        "minutes of training": round(float(epochs[-1]["seconds"]) / 60, 2),
        "steps": int(epochs[-1]["step"]),
        "config": yaml.safe_load((Path(run) / "config.yaml").read_text()),
        "wanted": WANTED,
        "found": found,
    }
    measured["config"]["dataset"] = "DATASET"
    print(write_result("acdc", "see the head of benchmarks/acdc.py", measured))
    shutil.copyfile(Path(evaluation) / "cases.csv", RESULTS / "acdc-cases.csv")
    shutil.copyfile(Path(run) / "metrics.csv", RESULTS / "acdc-epochs.csv")


if __name__ == "__main__":
    main()
