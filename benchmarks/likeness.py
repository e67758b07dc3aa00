"""Which planted shifts does the score "unlike the training data" tell from cases of the same kind?

python benchmarks/likeness.py [--dataset DIR] [--steps N] [--cases N] [--device cpu] [--model DIR]

Trains configs/phantom.yaml for a moment on cardiac phantoms, or takes a model, and scores the cases that were
not trained on, as they are and with something planted. Writes benchmarks/results/likeness.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from record import write_result
from scipy import ndimage

from medmtl.config import job_of, load_config
from medmtl.data import ingest, open_dataset
from medmtl.data.dataset import Dataset
from medmtl.data.load import prepare_case
from medmtl.data.phantom import generate_cohort
from medmtl.data.prepare import PreparedCase
from medmtl.engine import train
from medmtl.inference import Model, load_model
from medmtl.inference.measure.likeness import Likeness, pooled_features
from medmtl.metrics import one_vs_rest_auc

CONFIG = Path(__file__).parents[1] / "configs" / "phantom.yaml"
RNG = np.random.default_rng(0)
Plant = Callable[[np.ndarray], np.ndarray]


def blobs(image: np.ndarray) -> np.ndarray:
    smooth = [ndimage.gaussian_filter(RNG.normal(size=image.shape[2:]), (3, 3, 1)) for _ in image[0]]
    return np.broadcast_to(np.stack(smooth), image.shape)


def coronal(image: np.ndarray) -> np.ndarray:
    """Slices along y in place of slices along z, on as many voxels."""
    turned = np.moveaxis(image, 4, 3)
    sizes = [wanted / found for wanted, found in zip(image.shape[2:], turned.shape[2:], strict=True)]
    return ndimage.zoom(turned, (1, 1, *sizes), order=1)


def zoomed(image: np.ndarray) -> np.ndarray:
    x, y = image.shape[2:4]
    large = ndimage.zoom(image, (1, 1, 2, 2, 1), order=1)
    return large[:, :, x // 2 : x // 2 + x, y // 2 : y // 2 + y]


PLANTED: dict[str, Plant] = {
    "noise 0.25 SD": lambda image: image + RNG.normal(0, 0.25, image.shape),
    "noise 0.5 SD": lambda image: image + RNG.normal(0, 0.5, image.shape),
    "noise 1 SD": lambda image: image + RNG.normal(0, 1.0, image.shape),
    "blur 2 voxels": lambda image: ndimage.gaussian_filter(image, (0, 0, 2, 2, 0)),
    "gamma 0.4": lambda image: np.sign(image) * np.abs(image) ** 0.4,
    "inverted": lambda image: -image,
    "zoom 2": zoomed,
    "coronal": coronal,
    "upside down": lambda image: np.flip(image, 4),
    "blobs": blobs,
    "shift 20 voxels": lambda image: np.roll(image, 20, 2),
    "turned 90 degrees": lambda image: np.rot90(image, 1, (2, 3)),
    "mirrored": lambda image: np.flip(image, 2),
}


def standardized(image: np.ndarray) -> torch.Tensor:
    mean, sd = image.mean((0, 2, 3, 4), keepdims=True), image.std((0, 2, 3, 4), keepdims=True)
    return torch.from_numpy(((image - mean) / sd).astype(np.float32))


def scores(
    model: Model, likeness: Likeness, cases: list[PreparedCase], plant: Plant | None, device: str
) -> list[float]:
    context = model.context(torch.device(device))
    found = []
    for case in cases:
        frames = sorted({case.frame_ed or 0, case.frame_es or 0})
        image = case.image[frames]
        image = image if plant is None else standardized(plant(image.numpy()))
        some = replace(case, image=image)
        found.append(likeness.score(pooled_features(context, some, range(len(frames)))))
    return found


def unseen(model: Model, dataset: Dataset) -> list[PreparedCase]:
    return [
        prepare_case(case, model.columns, model.preparation, covariates=model.covariates, wanted=())
        for split in ("val", "test")
        for case in dataset.select(split)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--cases", type=int, default=80)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = asked.dataset or folder / "dataset"
        if asked.dataset is None:
            generate_cohort(folder / "phantoms", cases=asked.cases)
            ingest(folder / "phantoms", root)
        dataset = open_dataset(root)
        if asked.model is None:
            settings = ["training.epochs=3", f"training.steps_per_epoch={-(-asked.steps // 3)}"]
            job = job_of(load_config(CONFIG, settings), dataset, folder / "run", device=asked.device)
            model = train(job).model
        else:
            model = load_model(asked.model)
        likeness = model.quality.likeness
        assert likeness is not None, "there were too few training cases"
        cases = unseen(model, dataset)
        clean = scores(model, likeness, cases, None, asked.device)
        rows = []
        for kind, plant in PLANTED.items():
            shifted = scores(model, likeness, cases, plant, asked.device)
            both = np.array([*clean, *shifted])
            truth = np.repeat([0, 1], len(cases))
            auroc = one_vs_rest_auc(np.stack([-both, both], 1), truth, [0, 1])[1]
            flagged = float(np.mean(np.array(shifted) > 1))
            rows.append({"planted": kind, "auroc": round(auroc, 3), "flagged": round(flagged, 3)})
            print(rows[-1])
        result = {
            "training_cases": len(dataset.select("train")),
            "cases": len(cases),
            "steps": model.metadata.get("steps"),
            "flagged_without": round(float(np.mean(np.array(clean) > 1)), 3),
            "rows": rows,
        }
        print(result)
        write_result("likeness", "python " + " ".join(sys.argv), result)


if __name__ == "__main__":
    main()
