"""What each task's loss is on cases that nobody learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from medmtl.data.augment import NONE
from medmtl.data.batch import choose_frames, collate, sample_case, to_device
from medmtl.data.dataset import Column
from medmtl.data.prepare import PreparedCase
from medmtl.inference.context import Context
from medmtl.tasks import task_losses


@torch.inference_mode()
def validation_losses(
    context: Context, cases: Sequence[PreparedCase], columns: Mapping[str, Column]
) -> dict[str, float]:
    """Mean loss of every task over the cases that are labelled for it, on the patches of training, unchanged.

    The network is in evaluation mode: no dropout, and of deep supervision the finest level alone, so a
    training loss may be larger where nothing is overfitted.

    Args:
        context: the network to judge, and its tasks.
        cases: prepared validation cases.
        columns: the label columns of the tasks.
    """
    found: dict[str, list[float]] = {}
    for case in cases:
        frames = choose_frames(case, 0, torch.Generator().manual_seed(0))
        patch, overview = context.preparation.patch, context.preparation.overview
        drawn = torch.Generator().manual_seed(0)
        sample = sample_case(case, patch, frames, NONE, drawn, overview=overview)
        batch = to_device(collate([sample], columns), context.device)
        names = [name for name, task in context.tasks.items() if task.label_count(batch) > 0]
        if not names:
            continue
        with context.autocast():
            outputs = context.network(
                batch.image,
                batch.case_of_frame,
                batch.spacing_mm,
                batch.covariates,
                names,
                overview=batch.overview,
            )
        tasks = {name: context.tasks[name] for name in names}
        for name, loss in task_losses(tasks, outputs, batch)[0].items():
            found.setdefault(name, []).append(float(loss))
    return {name: sum(losses) / len(losses) for name, losses in found.items()}
