"""One training step, no engine: read it from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from medmtl.models import MultiTaskNetwork
from medmtl.tasks import Task, task_losses
from medmtl.types import Batch, StepOutput
from medmtl.weighting import Weighting


def train_step(
    model: MultiTaskNetwork,
    batch: Batch,
    tasks: Mapping[str, Task],
    weighting: Weighting,
    optimizer: torch.optim.Optimizer,
    *,
    autocast: torch.dtype | None = None,
    max_gradient_norm: float | None = None,
) -> StepOutput:
    """Update a model on one batch.

    Only the tasks that the batch has labels for run; the others' parameters keep ``grad = None``, so that no
    optimizer moves them. A batch without any label changes nothing.

    Args:
        model: in training mode.
        batch: on the model's device.
        tasks: by name.
        weighting: turns the losses into one total; its parameters, if any, are in ``optimizer``.
        optimizer: over model and weighting.
        autocast: dtype of mixed precision, or None for float32.
        max_gradient_norm: gradients of the model are scaled down to this norm.
    """
    present = [name for name, task in tasks.items() if task.label_count(batch) > 0]
    optimizer.zero_grad(set_to_none=True)
    if not present:
        return StepOutput(losses={}, counts=dict.fromkeys(tasks, 0), total=None)
    with torch.autocast(batch.image.device.type, dtype=autocast, enabled=autocast is not None):
        outputs = model(batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates, present)
    losses, counts = task_losses(tasks, outputs, batch)
    total = weighting(losses)
    total.backward()
    limit = float("inf") if max_gradient_norm is None else max_gradient_norm
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    return StepOutput({name: loss.detach() for name, loss in losses.items()}, counts, total.detach(), norm)
