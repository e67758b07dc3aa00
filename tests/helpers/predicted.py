"""A PREDICTIONS folder as `medmtl predict` leaves it, made of phantoms, without a network."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medmtl.data.phantom import PhantomCase, make_case
from medmtl.inference.preview import PREVIEW, Preview, make_preview, save_preview

LABELS = {"RV": 1, "MYO": 2, "LV": 3}
CLASSES = ["NOR", "DCM"]
SPACING_MM = (2.0, 2.0, 10.0)
AFFINE = np.diag([-2.0, -2.0, 10.0, 1.0])
OUTPUTS = {
    "anatomy": {"kind": "segmentation", "target": "anatomy", "file": "segmentation.nii.gz", "labels": LABELS},
    "disease": {"kind": "classification", "target": "disease", "classes": CLASSES},
    "function": {"kind": "regression", "targets": ["LV_EDV", "LV_EF"], "units": ["mL", "%"]},
}
FRAMES = 6


def phantom(number: int, frames: int = FRAMES) -> PhantomCase:
    return make_case(number, frames=max(frames, 2), shape=(56, 48, 6), spacing_mm=SPACING_MM)


def preview_of(case: PhantomCase, frames: int = FRAMES) -> Preview:
    image, anatomy = np.moveaxis(case.images["cine"][:frames], 0, -1), case.anatomy[:frames]
    times = [40.0 * frame for frame in range(frames)] if frames > 1 else None
    return make_preview(image, {"anatomy": anatomy}, AFFINE, 0.04, time_ms=times, frames=(0, frames // 2))


def write_predictions(root: Path, n_ok: int = 4, *, frames: int = FRAMES) -> Path:
    """``n_ok`` studies with results, the second one flagged; one refused, one failed."""
    rows: list[dict[str, Any]] = []
    for number in range(n_ok):
        case_id = f"1.2.826.{number}"
        case = phantom(number, frames)
        preview = preview_of(case, frames)
        volumes = preview.about["curves"]["anatomy"]["3"]
        edv, esv = max(volumes), min(volumes)
        row: dict[str, Any] = {
            "case_id": case_id,
            "study_uid": case_id,
            "status": "ok",
            "seconds": 1.5 + number,
        }
        row |= {"disease.class": CLASSES[number % 2], "disease.probability.NOR": 0.8 - 0.6 * (number % 2)}
        row |= {"disease.probability.DCM": 0.2 + 0.6 * (number % 2), "anatomy.LV_EDV [mL]": edv}
        row |= {
            "anatomy.LV_EF [%]": 100 * (edv - esv) / edv,
            "function.LV_EF [%]": 61.0,
            "function.LV_EDV [mL]": 150.0,
        }
        row |= {"quality.flags": "DISAGREEMENT; SEVERAL_COMPONENTS" if number == 1 else ""}
        rows.append(row)
        _write_study(root / case_id, case_id, preview, volumes, flagged=number == 1)
    refused = {"status": "refused", "code": "GAP", "message": "a slice is missing inside the stack"}
    rows.append({"case_id": "1.2.826.90", **refused})
    rows.append({"case_id": "1.2.826.91", "status": "failed", "code": "TIMEOUT", "message": "took longer"})
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (root / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    (root / "outputs.yaml").write_text(yaml.safe_dump({"tasks": OUTPUTS}, sort_keys=False))
    return root


def _write_study(
    folder: Path, case_id: str, preview: Preview, volumes: list[float], *, flagged: bool
) -> None:
    folder.mkdir(parents=True)
    save_preview(folder / PREVIEW, preview)
    flag = {
        "code": "DISAGREEMENT",
        "severity": "warning",
        "message": "LV_EF: 41 % from masks, 61 % from the head",
    }
    finding = {
        "code": "GANTRY_TILT",
        "severity": "warning",
        "message": "sheared by 3 degrees",
        "where": "Doe^Jane/IM1",
    }
    record = {
        "case_id": case_id,
        "frames": len(volumes),
        "frame_ed": int(np.argmax(volumes)),
        "frame_es": int(np.argmin(volumes)),
        "tasks": {},
        "findings": [finding] if flagged else [],
        "flags": [flag] if flagged else [],
        "notes": ["computed on the CPU <because> the GPU was too small"] if flagged else [],
        "left": ["3 series left: 2 LOCALIZER, 1 description"] if flagged else [],
    }
    (folder / "prediction.json").write_text(json.dumps(record))
