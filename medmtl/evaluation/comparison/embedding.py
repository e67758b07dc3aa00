"""What the shared encoder makes of every case: pooled bottleneck features, for a picture of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from medmtl.data import Case, Dataset
from medmtl.data.load import prepare_cases
from medmtl.data.prepare import PreparedCase
from medmtl.data.spatial import patch_grid, sample_image
from medmtl.files import write_text
from medmtl.inference import Model
from medmtl.inference.context import Context
from medmtl.inference.patch import IDENTITY

FEATURE = "feature."
"""Columns of the table that hold features begin so."""


@torch.inference_mode()
def embed(model: Model, dataset: Dataset, cases: Sequence[Case], device: torch.device) -> pd.DataFrame:
    """One row per case: its features, and what is known of it.

    The encoder's coarsest level, averaged over space, of the frames ED and ES side by side as the heads read
    them; where a case does not name these, the mean over frames stands in for both.

    Args:
        model: whose encoder.
        dataset: where the cases come from.
        cases: those wanted; one that cannot be read is left out.
        device: where to compute.

    Returns:
        ``case_id``, ``feature.0``, ``feature.1``, ..., then the category and value columns that the model's
        tasks learn from.
    """
    context = model.context(device)
    prepared, _ = prepare_cases(
        dataset, cases, model.preparation, covariates=model.covariates, wanted=tuple(model.columns)
    )
    known = [name for name in dataset.targets.columns if _learned(model, str(name))]
    rows = []
    for case in prepared:
        features = _pooled(context, case)
        row: dict[str, object] = {"case_id": case.case_id}
        row |= {f"{FEATURE}{i}": round(value, 6) for i, value in enumerate(features.tolist())}
        row |= {str(name): dataset.targets.at[case.case_id, name] for name in known}
        rows.append(row)
    return pd.DataFrame(rows)


def write_embedding(path: Path, table: pd.DataFrame) -> None:
    """Write the table as CSV."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _learned(model: Model, column: str) -> bool:
    return any(column in task.targets for task in model.tasks.values())


def _pooled(context: Context, case: PreparedCase) -> torch.Tensor:
    """``(2 C,)`` features at ED and ES, from a patch around the organ as training shows it."""
    x, y, z = (int(size) for size in case.image.shape[2:])
    grid = patch_grid(IDENTITY, case.centre, context.preparation.patch, (x, y, z), context.device)
    spacing = torch.tensor([case.spacing_mm], device=context.device)
    covariates = case.covariates[None].to(context.device)
    parts = []
    for frames in case.image.split(context.volumes_at_once):
        image = sample_image(frames.to(context.device), grid)
        same = torch.zeros(len(image), dtype=torch.int64, device=context.device)
        with context.autocast():
            pyramid = context.network.features(image, same, spacing, covariates).pyramid
        parts.append(pyramid[-1].float().mean((2, 3, 4)))
    pooled = torch.cat(parts).cpu()
    ed, es = (pooled.mean(0) if f is None else pooled[f] for f in (case.frame_ed, case.frame_es))
    return torch.cat([ed, es])
