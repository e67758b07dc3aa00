"""ACDC from the challenge's folder to a report: ingest -> train -> evaluate -> predict -> report.

    python pipelines/acdc.py ACDC/training -o STUDY --device cuda
    python pipelines/acdc.py ACDC/training -o STUDY training.epochs=2 training.steps_per_epoch=10

Every step is a public function of medmtl and every boundary a folder below STUDY. A folder that is already
there is not made again, and a training that was stopped goes on: run the same command once more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from medmtl import verbs
from medmtl.config import load_config
from medmtl.data.dataset import open_dataset
from medmtl.types import MedmtlError

CONFIG = Path(__file__).parent.parent / "configs" / "acdc.yaml"
SHOWN = ("dice", "hd95", "accuracy", "balanced_accuracy", "mae", "sd")  # the report has the rest


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="ACDC: ingest, train, evaluate, predict, report.")
    parser.add_argument("source", type=Path, help="folder with patient001, patient002, ...")
    parser.add_argument("overrides", nargs="*", help="key=value on top of the config")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the whole study")
    parser.add_argument("--config", type=Path, default=CONFIG, help="experiment (YAML)")
    parser.add_argument("--new", type=Path, help="NIfTI file or folder to predict; the test cases by default")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return parser.parse_intermixed_args()


def run(asked: argparse.Namespace) -> Path:
    study: Path = asked.output
    config = load_config(asked.config, asked.overrides)  # a typing error ends here, before anything is read

    if not (study / "dataset" / "dataset.yaml").is_file():
        made = verbs.ingest(asked.source, study / "dataset", format="acdc", seed=config.seed)
        print(f"ingest: {made.cases} cases, {len(made.refused)} refused, {len(made.findings)} findings")
    dataset = open_dataset(study / "dataset")

    if not (study / "run" / "model" / "model.yaml").is_file():
        trained = verbs.train(config, dataset, output=study / "run", resume=True, device=asked.device)
        print(f"train: validation score {trained.best_score:.3f}, best in epoch {trained.best_epoch}")
    model = verbs.load_model(study / "run")

    found = verbs.evaluate(model, dataset, output=study / "evaluation", split="test", device=asked.device)
    for task, metrics in found.metrics.items():
        for name, entry in metrics.items():
            if entry["value"] is not None and name.split(".")[0] in SHOWN and name.count(".") <= 1:
                print(f"evaluate: {task} {name} = {entry['value']:.3g} {entry['unit']} (n = {entry['n']})")

    source = asked.new or dataset.root
    split = "all" if asked.new else "test"
    predicted = verbs.predict(model, source, output=study / "predictions", split=split, device=asked.device)
    print(f"predict: {len(predicted.table)} cases; table: {predicted.folder / 'predictions.csv'}")

    verbs.build_report(study / "run")
    return verbs.build_report(study / "evaluation")


if __name__ == "__main__":
    try:
        print(f"report: {run(arguments()).resolve()}")
    except MedmtlError as error:
        sys.exit(f"error: {error}")
