"""What lies outside of every patch is learned through the view of the whole, and through nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medmtl.config import job_of, parse_config
from medmtl.data import ingest, open_dataset
from medmtl.data.dataset import Dataset
from medmtl.data.load import prepare_cases
from medmtl.data.phantom import generate_ct, generate_petct
from medmtl.engine import train
from medmtl.inference.predictor import predict_prepared
from medmtl.metrics import macro_auc

SHAPE, PATCH = (48, 48, 24), [16, 16, 8]
STEPS = 150


def trained_auc(dataset: Dataset, column: str, view: str, output: Path) -> float:
    """AUROC on the test cases of one classification, trained alone."""
    config: dict[str, Any] = {
        "device": "cpu",
        "preparation": {"patch": PATCH, "spacing_mm": [None, None, None]},
        "backbone": {
            "type": "unet",
            "widths": [8, 16, 32],
            "residual": False,
            "kernels": [[3, 3, 3]] * 3,
            "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        },
        "tasks": {
            "class": {
                "type": "classification",
                "target": column,
                "view": view,
                "pooling": "mean",
                "label_smoothing": 0.0,
            }
        },
        "training": {
            "epochs": 1,
            "steps_per_epoch": STEPS,
            "batch_size": 8,
            "learning_rate": 5e-3,
            "warmup_steps": 10,
            "threads": 1,
            "ema": 0.9,
            "keep": "last",
            "augmentation": {
                "rotation_degrees": 0,
                "mirror": False,
                "zoom": 0,
                "shift_voxels": 0,
                "along_stack": "never",
            },
        },
    }
    model = train(job_of(parse_config(config), dataset, output)).model
    classes = dataset.columns[column].classes
    cases, _ = prepare_cases(dataset, dataset.select("test"), model.preparation, wanted=(column,))
    context = model.context(torch.device("cpu"))
    said = [predict_prepared(context, case, ["class"]).values["class"] for case in cases]
    probabilities = [[float(one[f"probability.{name}"]) for name in classes] for one in said]
    return float(macro_auc(probabilities, [classes[int(case.values[column])] for case in cases], classes))


@pytest.mark.parametrize(
    ("generate", "column"), [(generate_ct, "effusion"), (generate_petct, "bulk")], ids=["ct", "petct"]
)
def test_the_class_is_learned_from_the_whole_and_is_chance_from_the_patch(
    generate: Any, column: str, tmp_path: Path
) -> None:
    generate(tmp_path / "raw", cases=48, shape=SHAPE, splits={"train": 0.5, "test": 0.5})
    ingest(tmp_path / "raw", tmp_path / "dataset", format="phantom")
    dataset = open_dataset(tmp_path / "dataset")
    found = {view: trained_auc(dataset, column, view, tmp_path / view) for view in ("global", "local")}
    assert found["global"] > 0.95
    assert found["local"] < 0.75
