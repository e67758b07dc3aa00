"""Lets nnU-Net v2 plan and train on phantoms for a few steps: ``python nnunet_program.py FOLDER``.

``FOLDER/raw/Dataset001_Phantom`` is there. Written is ``FOLDER/<plans>.npz`` per encoder: a random image in
nnU-Net's order (z, y, x), the logits that its own predictor's network gives for it, and the results folder.
A process of its own, as nnU-Net reads its paths from the environment when it is imported.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

NAME = "Dataset001_Phantom"
PROCESSES = "nnUNet_n_proc_DA"
PLANS = {"ExperimentPlanner": "nnUNetPlans", "nnUNetPlannerResEncM": "nnUNetResEncUNetMPlans"}


def small_plans(base: Path, planner: str) -> dict[str, Any]:
    """nnU-Net's own plan for the phantoms, with few channels."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments, preprocess

    os.environ[PROCESSES] = "1"  # the planner takes no 0
    plan_experiments([1], planner)
    path = base / "preprocessed" / NAME / f"{PLANS[planner]}.json"
    plans: dict[str, Any] = json.loads(path.read_text())
    found = plans["configurations"]["3d_fullres"]
    found["batch_size"] = 2
    arguments = found["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [4 * (1 + stage) for stage in range(arguments["n_stages"])]
    path.write_text(json.dumps(plans))
    preprocess([1], PLANS[planner], ("3d_fullres",), (1,), show_progress_bar=False)
    return plans


def train(plans: dict[str, Any], dataset: dict[str, Any]) -> Path:
    """Three steps; the results folder."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    os.environ[PROCESSES] = "0"  # no further processes
    asked = {**plans, "continue_training": False}
    trainer = nnUNetTrainer(asked, "3d_fullres", "all", dataset, torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 3, 1
    trainer.run_training()
    return Path(trainer.output_folder_base)


def predict(folder: Path, shape: list[int], to: Path) -> None:
    """What the trained network says of a random image."""
    import numpy as np
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), ("all",), "checkpoint_final.pth")
    network = predictor.network
    network.load_state_dict(predictor.list_of_parameters[0])
    image = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network.eval()(image)
    np.savez(to, image=image.numpy(), logits=logits.numpy(), folder=np.array(str(folder)))


def main(base: Path) -> None:
    for part in ("raw", "preprocessed", "results"):
        (base / part).mkdir(exist_ok=True)
        os.environ[f"nnUNet_{part}"] = str(base / part)
    os.environ |= {"nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints

    dataset = json.loads((base / "raw" / NAME / "dataset.json").read_text())
    extract_fingerprints([1], num_processes=1, show_progress_bar=False)
    for planner, name in PLANS.items():
        plans = small_plans(base, planner)
        folder = train(plans, dataset)
        predict(folder, plans["configurations"]["3d_fullres"]["patch_size"], base / f"{name}.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
