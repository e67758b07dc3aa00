"""A small study on disk, as medmtl's verbs leave it: dataset, training run, predictions and evaluation."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

LABELS = {"RV": 1, "MYO": 2, "LV": 3}
CLASSES = ["NOR", "MINF", "DCM", "HCM", "RV"]
SPACING = (1.4, 2.0, 8.0)
SHAPE = (72, 48, 7)
AFFINE = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
WORST, CINE, BLANK, REFUSED = "case_worst", "case01", "case02", "case<refused>"


@dataclass(frozen=True)
class Study:
    dataset: Path
    run: Path
    evaluation: Path

    @property
    def predictions(self) -> Path:
        return self.evaluation / "predictions"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


def make_study(root: Path, n_cases: int = 10) -> Study:
    """Cases get worse with their number; case01 is a cine of 8 frames, case02 has blank cells."""
    random = np.random.default_rng(5)
    study = Study(root / "phantom", root / "run", root / "evaluation")
    rows, predictions, scores = [], [], []
    for number in range(n_cases):
        case_id = WORST if number == n_cases - 1 else f"case{number:02d}"
        disease = CLASSES[number % len(CLASSES)]
        frames = 8 if case_id == CINE else 2
        truth = np.stack([heart(SHAPE, _radius(disease, f, frames)) for f in range(frames)], axis=-1)
        error = 0.35 + 0.35 * number + (4.0 if case_id == WORST else 0.0)
        predicted = np.stack(
            [heart(SHAPE, _radius(disease, f, frames) - error / 3, error / 2) for f in range(frames)], axis=-1
        )
        labelled = truth.copy()
        if frames > 2:
            labelled[..., [f for f in range(frames) if f not in (0, frames // 2)]] = 255
        folder = study.dataset / "volumes" / f"v{number}"
        save(folder / "image.nii.gz", picture(truth, random))
        save(folder / "anatomy.nii.gz", labelled)
        save(study.predictions / case_id / "segmentation.nii.gz", predicted)
        blank = case_id == BLANK
        rows.append(_dataset_row(case_id, f"volumes/v{number}", "" if blank else disease, frames))
        predictions.append(_prediction_row(case_id, disease, error, predicted, truth, random))
        scores.extend(_score_rows(case_id, predicted, truth, frames))
    message = "slice 4 of <study> is missing"
    predictions.append({"case_id": REFUSED, "status": "refused", "code": "GAP", "message": message})
    _write_dataset(study.dataset, rows)
    _write_predictions(study.predictions, predictions)
    _write_evaluation(study, scores, n_cases)
    write_run(study.run, random)
    return study


def heart(shape: tuple[int, int, int], radius: float, shift: float = 0.0) -> NDArray[np.uint8]:
    """Left ventricle, its wall and a right ventricle, narrowing toward the apex; end slices empty."""
    x, y = np.meshgrid(np.arange(shape[0]) * SPACING[0], np.arange(shape[1]) * SPACING[1], indexing="ij")
    centre_x, centre_y = 56.0 + shift, 48.0 - shift
    mask = np.zeros(shape, dtype=np.uint8)
    for z in range(1, shape[2] - 1):
        cavity = radius * (1.0 - 0.1 * z)
        distance = np.hypot(x - centre_x, y - centre_y)
        right = np.hypot((x - centre_x + 1.6 * cavity) / 1.1, y - centre_y + 4.0)
        mask[right < cavity * 1.1, z] = LABELS["RV"]
        mask[distance < cavity + 9.0, z] = LABELS["MYO"]
        mask[distance < cavity, z] = LABELS["LV"]
    return mask


def picture(mask: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.float32]:
    """Blood bright, muscle dark, noise on top."""
    grey = np.array([90.0, 210.0, 60.0, 230.0])[mask]
    return (grey + random.normal(0, 14, mask.shape)).astype(np.float32)


def save(path: Path, volume: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(
        nib.Nifti1Image(
            volume, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]) if affine is None else affine
        ),
        path,
    )


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_run(run: Path, random: np.random.Generator, steps: int = 500) -> None:
    """25 epochs of three tasks, and 500 steps in which `function` takes all the weight toward the end."""
    epochs = []
    for epoch in range(1, 26):
        fall = float(np.exp(-epoch / 8))
        row: dict[str, object] = {"epoch": epoch, "step": 20 * epoch, "seconds": 6.5 * epoch}
        row |= {"learning_rate": 3e-4 * (1 - epoch / 26) ** 0.9, "train.total": 0.5 + fall}
        row |= {"train.loss.anatomy": 0.15 + 0.9 * fall, "train.loss.disease": 0.4 + 1.2 * fall}
        row |= {"train.loss.function": 0.01 + 0.3 * fall}
        if epoch % 2 == 0:
            row |= {"val.anatomy.dice": 0.93 - 0.6 * fall, "val.anatomy.dice.LV": 0.95 - 0.6 * fall}
            row |= {"val.disease.accuracy": 0.9 - 0.7 * fall, "val.function.mae.LV_EF": 4.0 + 20 * fall}
            row |= {
                "val.function.mae.LV_EDV": 9.0 + 60 * fall,
                "val.score": 0.9 - 0.65 * fall + 0.004 * (epoch < 22),
            }
        epochs.append(row)
    write_csv(run / "metrics.csv", epochs)
    weights = []
    for step in range(steps):
        loss = {"anatomy": 0.9, "disease": 1.1, "function": 0.4 * np.exp(-step / 60) + 0.001}
        loss = {task: value * float(random.uniform(0.8, 1.2)) for task, value in loss.items()}
        raw = {task: 1 / value for task, value in loss.items()}
        line: dict[str, object] = {"step": step, "epoch": 1 + step // 20}
        for task in loss:
            absent = task == "disease" and step % 7 == 0
            line[f"{task}.loss"] = "" if absent else loss[task]
            line[f"{task}.raw"] = "" if absent else raw[task]
            line[f"{task}.weight"] = "" if absent else raw[task] / sum(raw.values()) * 3
            line[f"{task}.count"] = 0 if absent else 2
        weights.append(line)
    write_csv(run / "weights.csv", weights)
    (run / "environment.json").write_text(
        json.dumps({"medmtl": "0.1.0", "python": "3.11.9", "packages": {"torch": "2.13.0"}, "device": "cpu"})
    )


def _radius(disease: str, frame: int, frames: int) -> float:
    """Radius of the LV cavity in mm: large in DCM, small in HCM, smallest halfway through the cycle."""
    diastole = {"DCM": 27.0, "HCM": 17.0}.get(disease, 21.0)
    squeeze = {"DCM": 0.12, "MINF": 0.2}.get(disease, 0.38)
    return diastole * (1 - squeeze * (1 - np.cos(2 * np.pi * frame / frames)) / 2)


def _volumes(mask: NDArray[np.uint8]) -> dict[str, float]:
    ml = float(np.prod(SPACING)) / 1000
    ed, es = (float((mask[..., f] == LABELS["LV"]).sum()) * ml for f in (0, mask.shape[-1] // 2))
    return {"LV_EDV": ed, "LV_EF": 100 * (ed - es) / ed}


def _dataset_row(case_id: str, folder: str, disease: str, frames: int) -> dict[str, object]:
    return {
        "case_id": case_id,
        "patient": case_id,
        "split": "test",
        "image": f"{folder}/image.nii.gz",
        "frame_ed": 0,
        "frame_es": frames // 2,
        "anatomy": f"{folder}/anatomy.nii.gz",
        "disease": disease,
    }


def _prediction_row(
    case_id: str,
    disease: str,
    error: float,
    predicted: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    random: np.random.Generator,
) -> dict[str, object]:
    logits = random.normal(0, 1.2, len(CLASSES))
    logits[CLASSES.index(disease)] += 3.2 - error
    probability = np.exp(logits) / np.exp(logits).sum()
    row: dict[str, object] = {"case_id": case_id, "status": "ok", "seconds": 0.8}
    row["disease.class"] = CLASSES[int(probability.argmax())]
    row |= {f"disease.probability.{name}": float(p) for name, p in zip(CLASSES, probability, strict=True)}
    true, from_masks = _volumes(truth), _volumes(predicted)
    for name, unit, spread in (("LV_EDV", "mL", 9.0), ("LV_EF", "%", 5.0)):
        row[f"function.{name} [{unit}]"] = true[name] + float(random.normal(0, spread))
        row[f"anatomy.{name} [{unit}]"] = from_masks[name]
    if case_id == BLANK:
        row["function.LV_EF [%]"] = ""
    return row


def _score_rows(
    case_id: str, predicted: NDArray[np.uint8], truth: NDArray[np.uint8], frames: int
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [{"case_id": case_id, "frame": ""}]
    for frame, index in (("ED", 0), ("ES", frames // 2)):
        row: dict[str, object] = {"case_id": case_id, "frame": frame}
        for name, code in LABELS.items():
            a, b = predicted[..., index] == code, truth[..., index] == code
            row[f"anatomy.dice.{name}"] = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
            row[f"anatomy.hd95.{name}"] = 1.5 + 3 * (1 - float(row[f"anatomy.dice.{name}"]))
        rows.append(row)
    return rows


def _write_dataset(folder: Path, rows: list[dict[str, object]]) -> None:
    masked = {"mask": "anatomy", "structure": "LV"}
    description = {
        "medmtl_dataset": 1,
        "name": "phantom",
        "modality": "MR",
        "channels": ["cine"],
        "columns": {
            "anatomy": {"kind": "mask", "labels": LABELS},
            "disease": {"kind": "category", "classes": CLASSES},
            "LV_EDV": {
                "kind": "value",
                "unit": "mL",
                "derived": {"quantity": "volume", **masked, "frame": "ED"},
            },
            "LV_EF": {"kind": "value", "unit": "%", "derived": {"quantity": "ejection_fraction", **masked}},
        },
        "cycle": masked,
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump(description, sort_keys=False))
    write_csv(folder / "cases.csv", rows)


def _write_predictions(folder: Path, rows: list[dict[str, object]]) -> None:
    names = ("case_id", "study_uid", "series_uid", "status", "code", "message", "seconds")
    write_csv(folder / "predictions.csv", [dict.fromkeys(names, "") | row for row in rows])
    outputs = {
        "anatomy": {
            "kind": "segmentation",
            "target": "anatomy",
            "file": "segmentation.nii.gz",
            "labels": LABELS,
        },
        "disease": {"kind": "classification", "target": "disease", "classes": CLASSES},
        "function": {"kind": "regression", "targets": ["LV_EDV", "LV_EF"], "units": ["mL", "%"]},
    }
    (folder / "outputs.yaml").write_text(yaml.safe_dump({"tasks": outputs}, sort_keys=False))


def _write_evaluation(study: Study, scores: list[dict[str, object]], n: int) -> None:
    write_csv(study.evaluation / "cases.csv", scores)
    pointers = {
        "dataset": str(study.dataset),
        "predictions": "predictions",
        "split": "test",
        "run": str(study.run),
    }
    message = "slice 4 of <study> is missing"
    missing = [{"case_id": REFUSED, "task": "", "status": "refused", "code": "GAP", "message": message}]
    (study.evaluation / "evaluation.yaml").write_text(
        yaml.safe_dump({**pointers, "seed": 1, "missing": missing})
    )

    def metric(value: float | None, spread: float = 0.02, n: int = n, unit: str = "") -> dict[str, object]:
        ends = (None, None) if value is None else (value - spread, value + spread)
        return {"value": value, "ci_low": ends[0], "ci_high": ends[1], "n": n, "unit": unit}

    anatomy = {"dice": metric(0.902)}
    for name in LABELS:
        anatomy[f"dice.{name}"] = metric(0.91)
        anatomy |= {f"dice.{name}.{frame}": metric(0.9) for frame in ("ED", "ES")}
        anatomy[f"hd95.{name}"] = metric(3.2, 0.8, unit="mm")
    agreement = {
        f"{name}.{quantity}": metric(value, 1.1, count, unit)
        for quantity, unit, count in (("LV_EDV", "mL", n), ("LV_EF", "%", n - 1))
        for name, value in (("mae", 4.2), ("bias", -1.3), ("sd", 5.1), ("loa_low", -11.3), ("loa_high", 8.7))
    }
    correlation = {"r.LV_EDV": metric(0.97), "r.LV_EF": metric(0.91, n=n - 1)}
    metrics = {
        "anatomy": anatomy | agreement | correlation,
        "disease": {"accuracy": metric(0.78, 0.1, n - 1), "auc": metric(0.91, 0.05, n - 1)},
        "function": agreement | correlation | {"mae.LV_mass": metric(None, n=0, unit="g")},
    }
    (study.evaluation / "metrics.json").write_text(json.dumps(metrics))
