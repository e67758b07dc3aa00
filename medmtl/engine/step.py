"""One training step, no engine: read it from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch

from medmtl.engine.cut import Cut, backward
from medmtl.engine.ranks import average, average_gradients, world_size
from medmtl.engine.samples import check_same_samples
from medmtl.models import MultiTaskNetwork
from medmtl.tasks import Task, task_losses
from medmtl.types import Batch, StepOutput
from medmtl.weighting import GradientWeighting, Weighting, share_losses


def train_step(
    model: MultiTaskNetwork,
    batch: Batch | Sequence[Batch],
    tasks: Mapping[str, Task],
    weighting: Weighting,
    optimizer: torch.optim.Optimizer,
    *,
    autocast: torch.dtype | None = None,
    max_gradient_norm: float | None = None,
    scaler: torch.amp.GradScaler | None = None,
    compare: bool = False,
) -> StepOutput:
    """Update a model on one batch.

    Only the tasks that the batch has labels for run; the others' parameters keep ``grad = None``, so that no
    optimizer moves them. A batch without any label changes nothing. Several ranks (`torch.distributed`) act
    as one on all their batches.

    Args:
        model: in training mode.
        batch: on the model's device. Of several, the gradients are averaged; each has weights of its own,
            which is not the same as one big batch.
        tasks: by name.
        weighting: turns the losses into one total; its parameters, if any, are in ``optimizer``.
        optimizer: over model and weighting.
        autocast: dtype of mixed precision, or None for float32.
        max_gradient_norm: gradients of the model are scaled down to this norm.
        scaler: for float16, whose small gradients vanish without one.
        compare: compare the tasks' gradients, whatever the weighting looks at.
    """
    batches = [batch] if isinstance(batch, Batch) else list(batch)
    optimizer.zero_grad(set_to_none=True)
    outputs = [
        add_gradients(model, one, tasks, weighting, autocast, scaler, compare, share=1 / len(batches))
        for one in batches
    ]
    output = together(outputs)
    if output.total is None:
        return output
    average([output.total])
    average_gradients(chain(model.parameters(), weighting.parameters()))
    if scaler is not None:
        scaler.unscale_(optimizer)
    model.backbone.pull_together()
    limit = float("inf") if max_gradient_norm is None else max_gradient_norm
    output.gradient_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    return output


def add_gradients(
    model: MultiTaskNetwork,
    batch: Batch,
    tasks: Mapping[str, Task],
    weighting: Weighting,
    autocast: torch.dtype | None,
    scaler: torch.amp.GradScaler | None,
    compare: bool,
    share: float,
) -> StepOutput:
    """Forward, losses, weights, backward: ``share`` of the gradient on one batch is added to every ``grad``.

    A weighting of losses, unless gradients are to be compared, takes one joint backward of the total. One of
    gradients takes every task's backward down to the cut (`medmtl.engine.cut`).
    """
    counts = {name: task.label_count(batch) for name, task in tasks.items()}
    here = [name for name, count in counts.items() if count > 0]
    if not here and world_size() == 1:
        return StepOutput(losses={}, counts=counts, total=None)
    if isinstance(weighting, GradientWeighting):
        cut: Cut | None = Cut(model, weighting.on, weighting.sketch)
    else:
        cut = Cut(model) if compare else None
    if cut is not None and cut.on == "features":
        check_same_samples(model, tasks, here, batch)
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates, here)
    with torch.autocast(batch.image.device.type, dtype=autocast, enabled=autocast is not None):
        opened = cut is not None and cut.opened
        outputs = model(*inputs, seeds=batch.seeds, cut=cut, opened=opened, overview=batch.overview)
    losses, _ = task_losses(tasks, outputs, batch)
    known = share_losses(losses, counts, tuple(tasks), device=batch.image.device)
    if not known.observed:
        return StepOutput(losses={}, counts=known.counts, total=None)
    output = StepOutput(known.observed, known.counts, total=None, may_overflow=scaler is not None)
    if cut is None:
        total = weighting(known.local, observed=known.observed)
        (total * share if scaler is None else scaler.scale(total * share)).backward()
    else:
        total, gradients = backward(cut, known.local, known.observed, weighting, scaler=scaler, share=share)
        output.compared = () if gradients is None else gradients.tasks
        output.task_norms = None if gradients is None else gradients.norms()
        output.task_cosines = None if gradients is None else gradients.cosines()
    output.total = total.detach()
    return output


def together(outputs: Sequence[StepOutput]) -> StepOutput:
    """What several micro-batches did: mean losses of those that had labels, sums of counts."""
    if len(outputs) == 1:
        return outputs[0]
    learned = [output for output in outputs if output.total is not None]
    names = dict.fromkeys(name for output in learned for name in output.losses)
    losses = {n: torch.stack([o.losses[n] for o in learned if n in o.losses]).mean() for n in names}
    counts = {name: sum(output.counts[name] for output in outputs) for name in outputs[0].counts}
    totals = [output.total for output in learned if output.total is not None]
    last = learned[-1] if learned else outputs[-1]
    return StepOutput(
        losses, counts, torch.stack(totals).mean() if totals else None, None,
        last.compared, last.task_norms, last.task_cosines, last.may_overflow,
    )  # fmt: skip
